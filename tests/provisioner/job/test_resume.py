"""Steps on a machine that goes down: each is done once, and no number stands for two different reports."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from provisioner.job.runner import MOST_INTERRUPTIONS
from provisioner.protocol import (
    COMPLETED,
    FAILED,
    REBOOTING,
    STARTED,
    STEP_FAILED,
    STEP_FINISHED,
    STEP_STARTED,
    Step,
    decode_report,
)
from provisioner.reporting.state import LOST_SEQUENCE
from tests.provisioner.provisioning import Provisioning, check_numbers, job, kill, script, wait_for
from tests.provisioner.pubsub_server import pubsub

FIVE = tuple(f"s{number}" for number in range(5))
KILL_AFTER = tuple(0.04 + 0.035 * moment for moment in range(12))  # seconds: from before the first step to the end


@pytest.mark.parametrize("action", ["script", "reboot"])
def test_a_step_that_asks_for_a_reboot_is_finished(tmp_path: Path, action: str) -> None:
    """Exit status 194 is 3010 modulo 256: reboot, then go on with the next step."""
    middle = script("again") if action == "script" else Step("again", "reboot", {})
    files = {"one": "echo one >>log", "again": "echo again >>log; exit 194", "two": "echo two >>log"}
    machine = Provisioning(tmp_path / "m", job(script("one"), middle, script("two")), files)
    assert machine.run().status == 194
    assert machine.kinds()[-4:] == [STEP_FINISHED, STEP_STARTED, STEP_FINISHED, REBOOTING]
    assert (machine.reports()[-2].exit_status, machine.reports()[-1].step) == (194, 1)
    assert machine.run().status == 0
    reports = check_numbers(machine.report_data())
    assert [report.kind for report in reports[6:]] == [STARTED, STEP_STARTED, STEP_FINISHED, COMPLETED]
    assert (reports[6].resumed_at, reports[6].message) == (2, "")
    log = (machine.state / "context/log").read_text()
    assert log == "one\ntwo\n" if action == "reboot" else "one\nagain\ntwo\n"


def test_a_reboot_may_be_the_last_step(tmp_path: Path) -> None:
    machine = Provisioning(tmp_path / "m", job(Step("end", "reboot", {})))
    assert [machine.run().status, machine.run().status] == [194, 0]
    assert machine.reports()[-2].resumed_at == 1
    assert machine.kinds()[-2:] == [STARTED, COMPLETED]


@pytest.mark.parametrize("seconds", KILL_AFTER)
def test_power_may_be_cut_at_any_moment(tmp_path: Path, seconds: float) -> None:
    files = {name: f"echo {name} >>log; sleep 0.02" for name in FIVE}
    with pubsub() as bus:
        machine = Provisioning(tmp_path / "m", job(*map(script, FIVE), publish_url=bus.url), files)
        first = machine.start()
        time.sleep(seconds)  # the test is about this moment
        kill(first)
        ended = machine.run()
        assert ended.status == 0, ended.console
        data = [*machine.report_data(), *bus.data()]
    reports = check_numbers(data)
    assert reports[-1].kind == COMPLETED
    finished = [report.step for report in reports if report.kind == STEP_FINISHED]
    assert finished == [0, 1, 2, 3, 4]
    done = (machine.state / "context/log").read_text().split()
    assert list(dict.fromkeys(done)) == list(FIVE)
    assert len(done) <= len(FIVE) + 1  # only the one that was cut off may have been done again


def interrupt(machine: Provisioning) -> None:
    """Cut the power once the step `slow` has begun."""
    (machine.state / "context/began").unlink(missing_ok=True)
    process = machine.start()
    wait_for((machine.state / "context/began").exists)
    kill(process)


SLOW = {"slow": "touch began; [ -e go ] || sleep 1000 & echo $! >>sleepers; wait", "after": "true"}


def test_an_interrupted_step_is_told_and_run_again(tmp_path: Path) -> None:
    machine = Provisioning(tmp_path / "m", job(script("slow"), script("after")), SLOW)
    interrupt(machine)
    (machine.state / "context/go").touch()
    assert machine.run().status == 0
    reports = check_numbers(machine.report_data())
    kinds = [STARTED, STEP_STARTED, STARTED, STEP_STARTED, STEP_FINISHED, STEP_STARTED, STEP_FINISHED, COMPLETED]
    assert [report.kind for report in reports] == kinds
    assert (reports[2].resumed_at, reports[2].message) == (0, "step 'slow' was interrupted")
    assert (reports[1].tries, reports[3].tries) == (1, 2)


def test_an_interrupted_step_that_is_not_idempotent_fails_the_job(tmp_path: Path) -> None:
    machine = Provisioning(tmp_path / "m", job(script("slow", idempotent=False), script("after")), SLOW)
    interrupt(machine)
    assert machine.run().status == 1
    assert [report.kind for report in check_numbers(machine.report_data())][2:] == [STARTED, FAILED]
    assert "'slow' was interrupted and is not idempotent" in machine.reports()[-1].message
    assert machine.run().status == 1  # the decision stands
    assert machine.kinds()[-1] == FAILED
    assert len(check_numbers(machine.report_data())) == 4


def test_a_step_that_brings_the_machine_down_does_so_a_few_times_only(tmp_path: Path) -> None:
    machine = Provisioning(tmp_path / "m", job(script("slow")), SLOW)
    for _ in range(MOST_INTERRUPTIONS + 1):
        interrupt(machine)
    assert machine.run().status == 1
    assert "went down 4 times during step 'slow'" in machine.reports()[-1].message
    check_numbers(machine.report_data())


def test_failures_are_counted_over_reboots(tmp_path: Path) -> None:
    files = {"bad": "echo x >>tries; exit 3"}
    machine = Provisioning(tmp_path / "m", job(script("bad", retries=1)), files)
    process = machine.start()
    wait_for(lambda: STEP_FAILED in machine.kinds())  # the pause before the second try
    kill(process)
    assert machine.run().status == 1
    assert (machine.state / "context/tries").read_text() == "x\nx\n"
    reports = check_numbers(machine.report_data())
    assert [report.final for report in reports if report.kind == STEP_FAILED] == [False, True]


def test_the_next_attempt_goes_on_where_the_last_was_cut_off(tmp_path: Path) -> None:
    machine = Provisioning(tmp_path / "m", job(script("one"), script("slow")), {"one": "echo one >>log", **SLOW})
    interrupt(machine)
    machine.port.write_text("")
    (machine.state / "context/go").touch()
    machine.write_cidata(replace(machine.job, attempt=2, key="77" * 32))
    assert machine.run().status == 0
    reports = check_numbers(machine.report_data())
    assert {report.attempt for report in reports} == {2}
    assert [report.kind for report in reports] == [STARTED, STEP_STARTED, STEP_FINISHED, COMPLETED]
    assert (reports[0].resumed_at, reports[1].step) == (1, 1)
    assert (machine.state / "context/log").read_text() == "one\n"


def test_a_failed_attempt_does_not_decide_about_the_next(tmp_path: Path) -> None:
    machine = Provisioning(tmp_path / "m", job(script("bad")), {"bad": "[ -e good ]"})
    assert machine.run().status == 1
    (machine.state / "context/good").touch()
    machine.port.write_text("")
    machine.write_cidata(replace(machine.job, attempt=2))
    assert machine.run().status == 0
    assert len(check_numbers(machine.report_data())) == 4


def test_an_earlier_attempt_is_refused(tmp_path: Path) -> None:
    machine = Provisioning(tmp_path / "m", job(script("ok"), attempt=2), {"ok": "true"})
    machine.run()
    machine.write_cidata(replace(machine.job, attempt=1))
    assert machine.run().status == 1
    assert "of attempt 2, job.json of the earlier attempt 1" in machine.reports()[-1].message


@pytest.mark.parametrize("other", [{"build_id": "other-0123456789ab"}, {"phase": "verify"}])
def test_another_builds_state_is_no_concern(tmp_path: Path, other: dict[str, str]) -> None:
    machine = Provisioning(tmp_path / "m", job(script("ok")), {"ok": "echo x >>done"})
    machine.run()
    machine.port.write_text("")
    machine.write_cidata(replace(machine.job, **other))  # type: ignore[arg-type]  # both are text
    assert machine.run().status == 0
    assert machine.reports()[0].resumed_at is None
    assert (machine.state / "context/done").read_text() == "x\n"  # in a context of its own


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"[]", b"\xff\xfe", b'{"version": 2}', "next", "unsent", "attempt", "ended", "steps"]
)
def test_a_damaged_state_fails_the_job_and_reuses_no_number(tmp_path: Path, damage: bytes | str) -> None:
    machine = Provisioning(tmp_path / "m", job(script("ok")), {"ok": "echo x >>done"})
    machine.run()
    state = machine.state / "state.json"
    document = json.loads(state.read_bytes())
    if isinstance(damage, str):
        wrong = {"next": "0", "unsent": [1], "attempt": True, "ended": "maybe", "steps": 9}[damage]
        document["next" if damage == "steps" else damage] = wrong
        damage = json.dumps(document).encode()
    state.write_bytes(damage)
    assert machine.run().status == 1
    assert "how far the job had come is lost" in machine.reports()[-1].message
    assert [report.sequence for report in machine.reports()] == [1, 2, 3, 4, LOST_SEQUENCE + 1]
    assert machine.run().status == 1
    assert len(set(machine.report_data())) == 5


def test_reports_that_were_not_delivered_are_sent_again(tmp_path: Path) -> None:
    with pubsub(statuses=[503] * 99) as bus:
        steps = (script("slow"), script("after"))
        machine = Provisioning(tmp_path / "m", job(*steps, publish_url=bus.url), SLOW)
        interrupt(machine)
        (machine.state / "context/go").touch()
        bus.statuses.clear()
        assert machine.run().status == 0
        kinds = [decode_report(data).kind for data in bus.data()]
        check_numbers(bus.data())
    assert kinds[:3] == [STARTED, STEP_STARTED, STARTED]


def test_a_disk_that_takes_no_state_fails_the_job_aloud(tmp_path: Path) -> None:
    machine = Provisioning(
        tmp_path / "m", job(script("ok"), script("never")), {"ok": "rm -r $S; touch $S", "never": ""}
    )
    machine.write_cidata(replace(machine.job, steps=(script("ok", env={"S": str(machine.state)}), script("never"))))
    ended = machine.run()
    assert ended.status == 1
    assert machine.kinds()[-1] == FAILED
    assert "the provisioner cannot go on: " in machine.reports()[-1].message
    assert "never" not in ended.console
