"""Looking at the VM itself: what it wrote on its report port, whether it runs, how it ended."""

from __future__ import annotations

from dataclasses import replace

import pytest

from provisioner.protocol import COMPLETED, FAILED, HEARTBEAT, INVENTORY, STARTED, STEP_STARTED, Report
from shared.build.build import Outcome, State
from shared.build.events import MachineStopped, Stop
from shared.engine.messages import read_event_message, read_report_message
from shared.engine.step_table import most_reports
from shared.errors import Permanent
from shared.topology import EVENTS_TOPIC, REPORTS_TOPIC
from shared.upkeep.watch import QUIET, keep_console, watch
from tests.world import values
from tests.world.fakes import FakeMachine
from tests.world.world import Guest, World, signed

EMERGENCY = (
    b"[    0.000000] Linux version 6.1.0\r\n"
    b"[\x1b[0;1;31m TIME \x1b[0m] Timed out waiting for device /dev/disk/by-uuid/0f5a.\r\n"
    b"[\x1b[0;1;38;5;185mDEPEND\x1b[0m] Dependency failed for /data.\r\n"
    b'You are in emergency mode. After logging in, type "journalctl -xb" to view\r\n'
)
VM = f"gs-{values.BUILD_ID}-a1-vm"


def working(guest: Guest | None = None, silence: float = 300.0) -> World:
    """A build that is provisioning; its VM runs, and its guest has said nothing yet."""
    world = World(guest)
    machine = replace(values.plan().machine, zones=("a", "b"))
    world.engine.request(values.requested(plan=values.plan(machine=machine, silence=silence, timeout=1e6)))
    world.handle()
    world.handle()
    assert (world.build().state, world.build().zone, world.bus.waiting) == (State.PROVISIONING, "b", [])
    return world


def machine(world: World) -> FakeMachine:
    return world.compute.machines[VM]


def write(world: World, report: Report, *, attempt: int = 1) -> None:
    """Let the guest write a report on its report port, signed with an attempt's key."""
    job = replace(machine(world).request.job, key=world.keys.of_machine(values.BUILD_ID, attempt, "build"))
    machine(world).serial[3] += signed(report, job)[1]


def stops(world: World) -> list[MachineStopped]:
    found = [read_event_message(m) for m in world.bus.waiting if m.topic == EVENTS_TOPIC]
    return [event for event in found if isinstance(event, MachineStopped)]


def heard(world: World) -> list[str]:
    found = [read_report_message(m) for m in world.bus.waiting if m.topic == REPORTS_TOPIC]
    return [event.report.kind for event in found]


class TestStopped:
    @pytest.mark.parametrize("how", ["powered-off", "panicked", "lost", "preempted"])
    def test_how_it_stopped_is_told_with_the_fact(self, how: Stop) -> None:
        world = working()
        machine(world).stop(how)
        assert watch(world.build(), world.backend)
        [fact] = stops(world)
        assert (fact.how, fact.claim, fact.attempt, fact.phase) == (how, None, 1, "build")

    def test_the_start_script_s_last_plain_words_are_told(self) -> None:
        world = working()
        machine(world).serial[3] += b"\r\nnoise\ngoldsmith: first\r\ngoldsmith: this image has no python3\r\n"
        machine(world).stop("powered-off")
        assert watch(world.build(), world.backend)
        [fact] = stops(world)
        assert (fact.claim, fact.detail) == (None, "this image has no python3")

    def test_they_are_told_before_the_vm_stops_and_they_cannot_be_read(self) -> None:
        world = working()
        machine(world).serial[3] += b"\ngoldsmith: this image has no python3\n"
        assert not watch(world.build(), world.backend)
        world.clock.time += QUIET
        assert watch(world.build(), world.backend)
        assert [(fact.how, fact.detail) for fact in stops(world)] == [("powered-off", "this image has no python3")]

    def test_hazard_11_unsigned_plain_words_do_not_end_a_vm_that_has_reported(self) -> None:
        world = working()
        write(world, values.report())
        machine(world).serial[3] += b"\ngoldsmith: this image has no python3\n"
        world.clock.time += QUIET
        assert watch(world.build(), world.backend)
        assert (heard(world), stops(world)) == ([STARTED], [])

    def test_a_silent_vm_whose_console_shows_an_emergency_has_given_up(self) -> None:
        world = working()
        write(world, values.report())
        machine(world).serial[1] += EMERGENCY
        assert not watch(world.build(), world.backend)
        world.clock.time += QUIET
        assert watch(world.build(), world.backend)
        assert stops(world) == []  # first what it has said
        world.handle()
        world.clock.time += QUIET
        assert watch(world.build(), world.backend)
        [fact] = stops(world)
        reason = "Timed out waiting for device /dev/disk/by-uuid/0f5a; Dependency failed for /data"
        assert (fact.how, fact.claim, fact.detail) == ("gave-up", None, reason)
        world.handle()
        assert world.build().outcome is Outcome.FAILED
        assert world.build().reason == f"the build VM did not come up and is in emergency mode: {reason}"

    def test_one_that_is_heard_has_not_given_up_whatever_its_console_shows(self) -> None:
        world = working()
        write(world, values.report())
        machine(world).serial[1] += EMERGENCY
        world.clock.time += QUIET
        watch(world.build(), world.backend)
        world.handle()
        world.clock.time += QUIET
        write(world, values.report(kind=HEARTBEAT, sequence=0, time=values.report().time + QUIET))
        assert not watch(world.build(), world.backend)

    def test_hazard_4_one_that_is_gone_is_lost(self) -> None:
        world = working()
        del world.compute.machines[VM]
        assert watch(world.build(), world.backend)
        assert [fact.how for fact in stops(world)] == ["lost"]

    @pytest.mark.parametrize("word", [COMPLETED, FAILED])
    def test_hazard_3_its_last_word_is_published_and_claimed(self, word: str) -> None:
        world = working()
        write(world, values.report())
        write(world, values.report(kind=word, sequence=2))
        machine(world).stop()
        assert watch(world.build(), world.backend)
        assert heard(world) == [STARTED, word]
        assert [fact.claim for fact in stops(world)] == [word]

    def test_hazard_3_the_stop_cannot_overtake_the_word(self) -> None:
        """Whatever arrives first, the build goes on: the claim holds the stop back."""
        for first in (0, 1):
            world = working()
            write(world, values.report(kind=COMPLETED))
            machine(world).stop("preempted")
            watch(world.build(), world.backend)
            for message in [world.bus.waiting[first], world.bus.waiting[1 - first]]:
                world.deliver(message)
            assert (world.build().state, world.build().attempt) == (State.EXPORTING, 1)

    def test_hazard_3_one_whose_words_are_gone_may_have_said_them_on_the_bus(self) -> None:
        """Compute Engine promises serial output of running machines alone."""
        world = working()
        machine(world).stop()
        machine(world).serial.clear()
        assert not watch(world.build(), world.backend)
        assert world.bus.waiting == []
        world.clock.time += QUIET
        assert watch(world.build(), world.backend)
        assert [(fact.how, fact.claim) for fact in stops(world)] == [("powered-off", None)]

    def test_hazard_4_a_preemption_needs_no_words(self) -> None:
        world = working()
        machine(world).stop("preempted")
        machine(world).serial.clear()
        assert watch(world.build(), world.backend)
        assert [fact.how for fact in stops(world)] == ["preempted"]

    def test_one_that_stops_twice_is_one_fact(self) -> None:
        world = working()
        machine(world).stop()
        watch(world.build(), world.backend)
        world.clock.time += 60
        watch(world.build(), world.backend)
        assert len({fact.event_id for fact in stops(world)}) == 1


class TestForged:
    @pytest.mark.parametrize(
        ("report", "attempt"),
        [
            (values.report(kind=COMPLETED), 2),
            (values.report(kind=COMPLETED, attempt=2), 2),
            (values.report(kind=COMPLETED, build_id="other-0123456789ab"), 1),
            (values.report(kind=COMPLETED, phase="verify"), 1),
        ],
        ids=["bad signature", "other attempt", "other build", "other phase"],
    )
    def test_hazard_11_a_line_that_is_not_of_this_vm_is_no_claim(self, report: Report, attempt: int) -> None:
        world = working()
        write(world, report, attempt=attempt)
        machine(world).serial[3] += b"goldsmith-report: completed 00\nBuildSucceeded\n"
        machine(world).stop()
        watch(world.build(), world.backend)
        assert heard(world) == []
        assert [fact.claim for fact in stops(world)] == [None]

    def test_hazard_11_words_on_the_console_are_no_claim(self) -> None:
        world = working()
        write(world, values.report(kind=COMPLETED))
        machine(world).serial[1], machine(world).serial[3] = machine(world).serial[3], b""
        machine(world).stop()
        watch(world.build(), world.backend)
        assert [fact.claim for fact in stops(world)] == [None]


class TestRunning:
    def test_one_that_has_just_spoken_is_left_alone(self) -> None:
        world = working()
        write(world, values.report())
        world.clock.time += QUIET - 1
        assert not watch(world.build(), world.backend)
        assert world.bus.waiting == []

    def test_hazard_3_of_a_quiet_one_only_what_was_not_heard_is_published(self) -> None:
        world = working()
        for report in (values.report(), values.report(kind=HEARTBEAT, sequence=0)):
            write(world, report)
        world.engine.receive(values.reported())
        write(world, values.report(kind=STEP_STARTED, sequence=2, step=0))
        world.clock.time += QUIET
        assert watch(world.build(), world.backend)
        assert heard(world) == [STEP_STARTED]
        world.settle()
        world.clock.time += QUIET
        assert not watch(world.build(), world.backend)

    def test_hazard_11_of_a_flood_only_what_is_recorded_is_published_and_the_vm_is_silent_in_the_end(self) -> None:
        world = working()
        most = most_reports(values.plan(), "build")
        for number in range(1, most + 101):
            write(world, values.report(kind=STEP_STARTED, sequence=number, step=0))
        for listing in (most + 101, most + 102):
            write(world, values.report(kind=INVENTORY, sequence=listing))
        world.engine.receive(values.reported(kind=STEP_STARTED, sequence=1, step=0))
        world.clock.time += QUIET
        assert watch(world.build(), world.backend)
        assert len(heard(world)) == most - 1
        world.booted.add(VM)
        world.settle()
        assert (world.build().reports, world.bus.waiting) == (most, [])
        for _minute in range(3):
            world.clock.time += QUIET
            assert not watch(world.build(), world.backend)
            assert heard(world) == []
            world.engine.tick(values.BUILD_ID)
        assert (world.build().state, world.build().attempt) == (State.PREPARING, 2)

    @pytest.mark.parametrize("word", [COMPLETED, FAILED])
    def test_hazard_11_the_last_word_after_a_flood_is_published_once(self, word: str) -> None:
        world = working()
        most = most_reports(values.plan(), "build")
        for number in range(1, most + 101):
            write(world, values.report(kind=STEP_STARTED, sequence=number, step=0))
        for number in range(most + 101, most + 111):
            write(world, values.report(kind=word, sequence=number))
        world.clock.time += QUIET
        assert watch(world.build(), world.backend)
        assert heard(world) == [STEP_STARTED] * most + [word]

    def test_hazard_3_after_an_outage_of_ours_a_vm_is_not_called_silent_that_was_not(self) -> None:
        world = working()
        write(world, values.report(kind=COMPLETED))
        world.clock.time += 1000
        world.engine.tick(values.BUILD_ID, heard=watch(world.build(), world.backend))
        assert world.build().outcome is None
        world.booted.add(VM)
        machine(world).stop()
        world.settle()
        assert world.build().outcome is Outcome.SUCCEEDED

    def test_one_that_reaches_only_its_report_port_is_no_silent_one(self) -> None:
        world = working()
        world.engine.receive(values.reported())
        told, seconds = world.clock.time, values.plan().silence + QUIET
        write(world, values.report(kind=HEARTBEAT, sequence=0, time=values.report().time + seconds - 10))
        world.clock.time += seconds
        world.engine.tick(values.BUILD_ID, heard=watch(world.build(), world.backend))
        assert (world.build().outcome, world.build().last_seen) == (None, told + seconds - 10)

    @pytest.mark.parametrize("silence", [30.0, 75.0, 90.0, 119.0, 300.0, 86_400.0])
    def test_its_report_port_is_read_before_the_silence_ends_whatever_its_value(self, silence: float) -> None:
        world = working(silence=silence)
        write(world, values.report())
        world.clock.time += silence / 2 - 1
        world.engine.tick(values.BUILD_ID, heard=watch(world.build(), world.backend))
        assert (heard(world) == []) is (silence / 2 - 1 < QUIET)
        world.clock.time += 1
        world.engine.tick(values.BUILD_ID, heard=watch(world.build(), world.backend))
        assert STARTED in heard(world)
        world.booted.add(VM)  # what it says is said here
        world.settle()
        for number in range(1, 40):  # as one whose network is off writes them, looked at once a minute
            world.clock.time += 20
            beat = values.report(kind=HEARTBEAT, sequence=0, time=values.report().time + number * 20)
            write(world, beat)
            if number % 3 == 0:
                world.engine.tick(values.BUILD_ID, heard=watch(world.build(), world.backend))
        assert (world.build().outcome, world.build().attempt) == (None, 1)

    def test_hazard_11_a_heartbeat_from_the_future_is_one_of_now(self) -> None:
        world = working()
        world.engine.receive(values.reported())
        write(world, values.report(kind=HEARTBEAT, sequence=0, time=values.report().time + 1e9))
        world.clock.time += QUIET
        watch(world.build(), world.backend)
        assert world.build().last_seen == world.clock.time

    def test_hazard_4_the_last_heartbeat_of_a_hung_one_ages(self) -> None:
        world = working()
        world.engine.receive(values.reported())
        write(world, values.report(kind=HEARTBEAT, sequence=0, time=values.report().time + 20))
        for _minute in range(7):
            world.clock.time += QUIET
            world.engine.tick(values.BUILD_ID, heard=watch(world.build(), world.backend))
        assert (world.build().state, world.build().attempt) == (State.PREPARING, 2)

    def test_hazard_4_a_hung_one_is_silent_in_the_end(self) -> None:
        world = World(Guest(silent=True))
        build = world.run(values.plan())
        assert (build.outcome, build.attempt) == (Outcome.FAILED, 3)
        assert build.reason == "no sign of life from the VM for 300 s, in the last of 3 attempts"
        assert world.left()["machines"] == world.left()["disks"] == []

    @pytest.mark.parametrize("status", ["starting", "running", "stopping"])
    def test_one_that_is_not_stopped_is_not(self, status: str) -> None:
        world = working()
        machine(world).status = status  # type: ignore[assignment]  # one of ports.Status
        assert not watch(world.build(), world.backend)


class TestNotWatched:
    @pytest.mark.parametrize("state", [s for s in State if s not in (State.PROVISIONING, State.VERIFYING)])
    def test_states_without_a_vm_at_work(self, state: State) -> None:
        world = working()
        machine(world).stop()
        assert not watch(replace(world.build(), state=state), world.backend)
        assert world.bus.waiting == []

    def test_hazard_4_a_vm_that_is_not_made_yet_is_not_lost(self) -> None:
        world = working()
        for state in (State.PROVISIONING, State.VERIFYING):
            assert not watch(replace(world.build(), state=state, attempt=2, zone=""), world.backend)
        assert world.bus.waiting == []

    def test_hazard_4_a_vm_whose_zone_is_unknown_is_found(self) -> None:
        world = working()
        machine(world).stop("preempted")
        assert watch(replace(world.build(), zone=""), world.backend)
        assert [fact.how for fact in stops(world)] == ["preempted"]


class TestConsole:
    """Each minute, in the cloud: a VM that vanishes leaves what it had said until then."""

    def log(self, world: World) -> bytes | None:
        return world.bucket.objects.get(f"logs/{values.BUILD_ID}/{VM}.log")

    def test_of_a_vm_that_runs_it_is_stored(self) -> None:
        world = working()
        machine(world).serial[1] = b"one"
        keep_console(world.build(), world.backend)
        assert self.log(world) == b"one"

    def test_of_a_vm_that_has_stopped_it_is_left_to_who_deletes_it(self) -> None:
        world = working()
        machine(world).stop()
        keep_console(world.build(), world.backend)
        assert self.log(world) is None

    def test_a_fault_is_no_reason_to_stop(self) -> None:
        world = working()
        world.compute.faults["serial_output"] = Permanent("forbidden")
        keep_console(world.build(), world.backend)
        assert self.log(world) is None
