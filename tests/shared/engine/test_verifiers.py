"""Several VMs verify one image: each for itself, and all of them, or the image is not published."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from goldsmith.screen.words import event_line
from provisioner.protocol import COMPLETED, FAILED, HEARTBEAT, STEP_FAILED, VERIFY
from shared.build.build import Build, Outcome, State
from shared.build.events import MachineStopped, Reported
from shared.build.plan import Plan, VerifyMachinePlan
from shared.build.resources import boot_disk_name, machine_name
from shared.engine.history import each_event
from shared.engine.lifecycle import advance, decide
from shared.engine.messages import SignedReport
from shared.engine.result import result
from shared.engine.verifiers import failed_view
from shared.errors import WrongSignature
from shared.ports import MachineRequest, Message
from shared.runtime.keeper import failed_step, held_machine
from tests.world import values
from tests.world.fakes import FakeDisk, FakeMachine
from tests.world.world import Guest, World, signed

IMAGE = "hello-20261120"
SAME, OTHER = (f"ssh_host_rsa_key {'a' * 64}",), (f"ssh_host_rsa_key {'b' * 64}",)


@dataclass
class Watched(Guest):
    """Notes the VMs that run."""

    phase: str = VERIFY
    requests: dict[str, MachineRequest] = field(default_factory=dict)

    def run(self, machine: FakeMachine, disk: FakeDisk, publish: Callable[[Message], None]) -> bool:
        self.requests.setdefault(machine.request.name, machine.request)
        return super().run(machine, disk, publish)


def several(project: str = "my-project", **small: object) -> Plan:
    plan = values.plan(verify_steps=values.plan().steps)
    machines = (VerifyMachinePlan("small", **small), VerifyMachinePlan("large", "n4-standard-4"))  # type: ignore[arg-type]
    return replace(plan, machine=replace(plan.machine, project=project), verify_machines=machines)


def run(guest: Watched, plan: Plan | None = None) -> tuple[World, Build]:
    world = World(guest)
    return world, world.run(plan or several())


def test_each_has_its_own_vm_key_and_table_and_all_have_to_pass() -> None:
    guest = Watched()
    world, build = run(guest)
    assert build.outcome is Outcome.SUCCEEDED, build.reason
    small, large = (guest.requests[machine_name(build.id, 1, VERIFY, number)] for number in (1, 2))
    assert (small.name, large.name) == (f"gs-{build.id}-a1-verify1", f"gs-{build.id}-a1-verify2")
    assert small.boot_disk != large.boot_disk
    assert (small.job.machine, large.job.machine) == ("small", "large")
    assert small.job.key != large.job.key
    assert (small.plan.machine_type, small.plan.disk_type) == ("n1-standard-1", "pd-standard")
    assert (large.plan.machine_type, large.plan.disk_type) == ("n4-standard-4", "hyperdisk-balanced")
    assert {each.name: [step.status for step in each.steps] for each in build.verifiers} == {
        "small": ["done"],
        "large": ["done"],
    }
    assert build.verify_steps == ()
    assert [step.name for step in build.all_steps] == ["greet", "small: greet", "large: greet"]
    told = json.loads(result(build, (), "logs"))["steps"]
    assert [(step["name"], step.get("machine")) for step in told] == [
        ("greet", None),
        ("greet", "small"),
        ("greet", "large"),
    ]
    assert event_line(build, values.machine_started(phase=VERIFY, machine="small")) == "VM small of attempt 1 started"
    failed = values.reported(kind=STEP_FAILED, phase=VERIFY, step=0, machine="large", exit_status=3, seconds=0.5)
    assert event_line(build, failed) == "large: step greet failed in 0.5 s, exit status 3, trying again"
    stops = {event.machine for event in each_event(world.store, build.id) if isinstance(event, MachineStopped)}
    assert stops == {"small", "large"}
    assert (world.left()["machines"], world.left()["disks"]) == ([], [])


def test_one_machine_runs_one_after_another() -> None:
    _world, build = verifying("local")
    assert [each.zone != "" for each in build.verifiers] == [True, False]
    guest = Watched()
    _world, build = run(guest, several("local"))
    assert build.outcome is Outcome.SUCCEEDED
    assert len([name for name in guest.requests if "verify" in name]) == 2


def test_a_single_machine_has_the_names_that_it_always_had() -> None:
    guest = Watched()
    _world, build = run(guest, replace(several(), verify_machines=()))
    assert list(guest.requests) == [f"gs-{build.id}-a1-vm", f"gs-{build.id}-a1-verify"]
    assert boot_disk_name(build.id, 1, VERIFY) == f"gs-{build.id}-a1-verifyboot"
    assert build.verifiers == ()


def test_one_that_fails_ends_all_and_all_logs_are_kept() -> None:
    world, build = run(Watched(fails_at=0, machine="large"))
    assert (build.outcome, build.image is not None) == (Outcome.FAILED, True)
    assert build.reason.startswith("verify machine 'large': step ")
    assert world.compute.all_images == {}
    assert (world.left()["machines"], world.left()["disks"]) == ([], [])
    logs = {uri.rpartition("/")[2] for uri in world.bucket.objects if uri.startswith("logs/")}
    assert {f"gs-{build.id}-a1-verify{number}.log" for number in (1, 2)} <= logs


@pytest.mark.parametrize(("silent", "words"), [(True, "no sign of life from the VM"), (False, "has not stopped")])
def test_one_that_hangs_keeps_the_image_from_being_published(silent: bool, words: str) -> None:
    plan = replace(several(), attempts=1)
    _world, build = run(Watched(silent=silent, stays_on=not silent, machine="small"), plan)
    assert build.outcome is Outcome.FAILED
    assert build.reason.startswith("verify machine 'small': "), build.reason
    assert words in build.reason


def test_one_has_a_deadline_of_its_own() -> None:
    plan = replace(several(timeout=90.0), silence=1000.0)
    _world, build = run(Watched(silent=True, machine="small"), plan)
    assert build.outcome is Outcome.TIMED_OUT
    assert build.reason.startswith("verify machine 'small': not done "), build.reason
    assert build.updated < build.created + 1000


def test_one_that_was_preempted_runs_again_and_the_one_that_has_passed_does_not() -> None:
    guest = Watched(ends_at=0, machine="small")
    _world, build = run(guest)
    assert (build.outcome, build.attempt) == (Outcome.SUCCEEDED, 2)
    assert f"gs-{build.id}-a2-verify1" in guest.requests
    guest = Watched(ends_at=0, machine="large")
    _world, build = run(guest, several("local"))
    assert (build.outcome, build.attempt) == (Outcome.SUCCEEDED, 2)
    verified = [name for name in guest.requests if "verify" in name]
    assert verified == [f"gs-{build.id}-a{attempt}-verify{number}" for attempt, number in ((1, 1), (1, 2), (2, 2))]


def verifying(project: str = "my-project") -> tuple[World, Build]:
    """The VMs that may be there are, and have said nothing."""
    world = World(Watched(silent=True))
    world.engine.request(values.requested(plan=several(project)))
    world.settle()
    build = world.build()
    assert build.state is State.VERIFYING
    return world, build


def report(machine: str, kind: str = COMPLETED, sequence: int = 1) -> Reported:
    return values.reported(kind=kind, phase=VERIFY, sequence=sequence, machine=machine, time=values.NOON + 60)


def test_one_cannot_speak_for_another() -> None:
    world, build = verifying()
    assert all(each.zone for each in build.verifiers), "they are there side by side"
    job = world.compute.machines[machine_name(build.id, 1, VERIFY, 1)].request.job
    said = replace(report("large").report, build_id=build.id)
    message, _line = signed(said, job)
    with pytest.raises(WrongSignature):
        world.engine.take(SignedReport(said, message.data, message.attributes["signature"]), world.keys)
    honest = replace(said, machine="small")
    message, _line = signed(honest, job)
    assert world.engine.take(SignedReport(honest, message.data, message.attributes["signature"]), world.keys) == ""
    assert [each.claimed for each in world.build().verifiers] == [True, False]


@pytest.mark.parametrize("machine", ["", "huge"])
def test_a_word_of_no_machine_that_there_is_changes_nothing(machine: str) -> None:
    _world, build = verifying()
    assert decide(build, report(machine)).ignored
    assert decide(replace(build, state=State.CLEANING, outcome=Outcome.FAILED), report(machine)).ignored


def test_what_is_said_of_one_that_has_passed_changes_nothing() -> None:
    _world, build = verifying()
    build = replace(
        build, verifiers=(replace(build.verifiers[0], claimed=True, passed=True, zone="here"), build.verifiers[1])
    )
    lost = values.machine_stopped(phase=VERIFY, how="lost", claim=None, machine="small")
    assert decide(build, lost).ignored
    assert decide(build, replace(lost, how="powered-off", claim=COMPLETED)).ignored
    failed = values.order_failed(order="verify_image", attempt=1, machine="small")
    assert decide(build, failed).ignored
    assert decide(build, replace(failed, machine="large")).build.outcome is Outcome.FAILED


def test_a_heartbeat_is_a_sign_of_life_of_that_one_alone() -> None:
    world, _build = verifying()
    world.clock.time += 200
    world.engine.receive(report("small", HEARTBEAT, sequence=0))
    first, second = world.build().verifiers
    assert (first.last_seen, second.last_seen < first.last_seen) == (world.clock.time, True)
    world.clock.time += 10
    assert "so soon" in world.engine.receive(report("small", HEARTBEAT, sequence=0))


def test_the_one_whose_step_has_failed_is_the_one_to_look_at() -> None:
    """Its disk is kept, and its shell is the one that is opened."""
    _world, build = verifying()
    assert build.plan is not None
    build = replace(build, plan=replace(build.plan, keep_disk=600.0))
    failed: dict[str, Any] = {"step": 0, "tries": 1, "exit_status": 3, "final": True}
    facts: dict[str, Any] = {"phase": VERIFY, "machine": "large", **failed}
    build, _orders = advance(build, values.reported(kind=STEP_FAILED, sequence=1, **facts))
    assert failed_view(build)[0] == "large"
    assert held_machine(build) == machine_name(build.id, 1, VERIFY, 2)
    assert failed_step(build) == "greet"
    build, _orders = advance(build, values.reported(kind=FAILED, sequence=2, **facts))
    kept = [(entry.kind, entry.name) for entry in build.ledger if entry.keep]
    assert kept == [("disk", boot_disk_name(build.id, 1, VERIFY, 2))]


@pytest.mark.parametrize("project", ["my-project", "local"])
def test_two_with_one_host_key_fail(project: str) -> None:
    _world, build = run(Watched(identities={"small": SAME, "large": SAME}), several(project))
    assert build.outcome is Outcome.FAILED
    assert "identity: it has the same ssh_host_rsa_key as verify machine '" in build.reason
    _world, build = run(Watched(identities={"small": SAME, "large": OTHER}), several(project))
    assert build.outcome is Outcome.SUCCEEDED


def test_one_with_the_host_key_of_the_build_vm_fails_also_where_it_is_the_only_one() -> None:
    plan = replace(several(), verify_machines=())
    _world, build = run(Watched(identities={"build": SAME, VERIFY: SAME}), plan)
    assert build.outcome is Outcome.FAILED
    assert build.reason.startswith(
        "identity: it has the same ssh_host_rsa_key as the build VM, so every machine of this image may have it"
    )
    _world, build = run(Watched(identities={"build": SAME, VERIFY: OTHER}), plan)
    assert build.outcome is Outcome.SUCCEEDED
