"""The boot disk of a step that failed: kept alone, told with how to boot it, and deleted whatever dies meanwhile."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from typing import Any

import pytest

from shared.build.build import Build, Outcome, State
from shared.build.plan import Plan
from shared.build.resources import EXPIRY_MARGIN, boot_commands
from shared.upkeep.sweep import sweep_project
from tests.world import values
from tests.world.given_orders import BOOT
from tests.world.memory_store import MemoryStore
from tests.world.world import Guest, World

RESULT = "results/hello.json"
KEEP = 7200.0
LONG = 172_800.0


def keeping_plan(**machine: Any) -> Plan:
    plan = replace(values.plan(), keep_disk=KEEP, verify_steps=values.plan().steps)
    return replace(plan, machine=replace(plan.machine, project="my-project", zones=("full", "here"), **machine))


def failed(world: World, plan: Plan | None = None) -> Build:
    """Build until the build is held."""
    world.engine.request(values.requested(plan=plan or keeping_plan(), result=RESULT))
    world.settle()
    build = world.build()
    assert (build.state, build.outcome) == (State.HELD, Outcome.FAILED)
    return build


def told(world: World) -> Any:
    return json.loads(world.bucket.objects[RESULT])


@pytest.fixture
def world() -> World:
    """A world whose first step fails."""
    return World(Guest(fails_at=0))


def test_the_disk_outlives_its_vm_until_its_time_is_over(world: World) -> None:
    build = failed(world)
    assert (world.left()["machines"], world.left()["disks"]) == ([], [BOOT])
    assert [message.attributes["outcome"] for message in world.announced] == ["failed"]
    began = build.disk_until - KEEP
    while (build := world.build()).state is State.HELD:
        assert world.clock.time <= began + KEEP
        assert world.left()["disks"] == [BOOT]
        world.tick()
        world.settle()
    assert (build.state, build.ledger, len(world.announced)) == (State.FINISHED, (), 1)
    assert began + KEEP <= world.clock.time < began + KEEP + 60
    assert world.left()["disks"] == []


def test_the_result_tells_of_it_as_long_as_it_is_there(world: World) -> None:
    build = failed(world)
    zone = build.zone
    kept = {"project": "my-project", "zone": zone, "name": BOOT, "until": build.disk_until}
    assert told(world)["kept_disk"] == {**kept, "boot": list(boot_commands(build))}
    assert told(world)["left"] == []
    world.cancel()
    world.settle()
    assert world.build().state is State.FINISHED
    assert told(world)["kept_disk"] is None
    assert (world.build().outcome, world.left()["disks"]) == (Outcome.FAILED, [])


def test_of_a_failed_verification_the_disk_of_the_new_image_is_kept() -> None:
    world = World(Guest(fails_at=0, phase="verify"))
    failed(world)
    assert world.left() | {"objects": []} == {
        "machines": [],
        "disks": [f"gs-{values.BUILD_ID}-a1-verifyboot"],
        "images": [],
        "objects": [],
    }
    world.finish()
    assert world.left()["disks"] == []


@pytest.mark.parametrize("phase", ["build", "verify"])
def test_whenever_the_process_dies_the_disk_goes_in_the_end(phase: str) -> None:
    calls = 1
    call = 0
    while call < calls:
        world = World(Guest(fails_at=0, phase=phase))
        build = world.run(keeping_plan(), burn_at=call)
        calls = calls if calls > 1 else world.calls
        assert (build.state, build.outcome, build.ledger) == (State.FINISHED, Outcome.FAILED, ())
        assert (world.left()["machines"], world.left()["disks"], world.left()["images"]) == ([], [], [])
        assert len({message.data for message in world.announced}) == 1
        call += 13


@pytest.mark.parametrize("damaged", [True, False])
def test_a_sweep_that_cannot_read_the_build_waits_for_its_time(world: World, damaged: bool) -> None:
    """As functions of the release before cannot, after a rollback, nor those of another deployment."""
    build = failed(world, replace(keeping_plan(), keep_disk=LONG))
    if damaged:
        world.store.damage(build.id, "{")
    else:
        world.backend = replace(world.backend, store=MemoryStore())
    world.clock.time = build.disk_until - 1
    assert sweep_project("my-project", world.backend) == []
    world.clock.time = build.deadline + LONG + EXPIRY_MARGIN
    assert [resource.name for resource in sweep_project("my-project", world.backend)] == [BOOT]


def test_the_commands_boot_the_disk_without_an_account_and_leave_it(world: World) -> None:
    build = failed(world)
    create, ssh, delete = map(shlex.split, boot_commands(build))
    vm = f"look-{build.id}"
    assert create[:5] == ["gcloud", "compute", "instances", "create", vm]
    assert f"--disk=name={BOOT},boot=yes,auto-delete=no" in create
    assert {"--project=my-project", f"--zone={build.zone}", "--no-service-account", "--no-address"} <= set(create)
    assert (ssh[:4], "--tunnel-through-iap" in ssh) == (["gcloud", "compute", "ssh", vm], True)
    assert delete == [
        *("gcloud", "compute", "instances", "delete", vm),
        *("--project=my-project", f"--zone={build.zone}"),
    ]
    assert "--maintenance-policy" not in boot_commands(build)[0]
    other = boot_commands(replace(build, plan=keeping_plan(external_ip=True, machine_type="n2-x")))
    assert "--machine-type=n2-x" in shlex.split(other[0])
    assert "--no-address" not in other[0]
    assert "--tunnel-through-iap" not in other[1]


@pytest.mark.parametrize(
    ("machine", "options"),
    [
        ({"network": "n", "subnet": "b"}, {"--network=n", "--subnet=b"}),
        (
            {"network": "global/networks/n", "subnet": "regions/r/subnetworks/b"},
            {"--network=projects/my-project/global/networks/n", "--subnet=projects/my-project/regions/r/subnetworks/b"},
        ),
        ({"subnet": "projects/host/regions/r/subnetworks/b"}, {"--subnet=projects/host/regions/r/subnetworks/b"}),
        ({"gpu_type": "t4"}, {"--accelerator=type=t4,count=1", "--maintenance-policy=TERMINATE"}),
        ({"machine_type": "g2-standard-4"}, {"--maintenance-policy=TERMINATE"}),
        ({"secure_boot": True}, {"--shielded-secure-boot", "--shielded-vtpm", "--shielded-integrity-monitoring"}),
    ],
)
def test_the_commands_make_a_vm_that_compute_engine_takes(
    world: World, machine: dict[str, Any], options: set[str]
) -> None:
    build = replace(failed(world), plan=keeping_plan(**machine))
    assert options <= set(shlex.split(boot_commands(build)[0]))


def test_without_a_kept_disk_there_are_no_commands() -> None:
    assert boot_commands(values.build()) == ()
