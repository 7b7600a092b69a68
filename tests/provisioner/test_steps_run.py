"""Steps on a machine where nothing goes down: what they get, and what is told of them."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from provisioner.protocol import (
    COMPLETED,
    FAILED,
    OUTPUT_LIMIT,
    STARTED,
    STEP_FAILED,
    STEP_FINISHED,
    STEP_STARTED,
    Step,
)
from tests.provisioner.provisioning import Provisioning, alive, environment, job, script


def test_a_job_is_done_and_told(tmp_path: Path) -> None:
    files = {"one": "echo first >>$OUT", "two": "echo second >>$OUT; printf 'no newline'"}
    env = {"OUT": str(tmp_path / "out")}
    machine = Provisioning(tmp_path / "m", job(script("one", env=env), script("two", env=env)), files)
    ended = machine.run()
    assert ended.status == 0, ended.console
    assert (tmp_path / "out").read_text() == "first\nsecond\n"
    assert "[step two] no newline\n" in ended.console
    started, began, finished, *_, completed = machine.reports()
    assert machine.kinds() == [STARTED, *[STEP_STARTED, STEP_FINISHED] * 2, COMPLETED]
    assert [report.sequence for report in machine.reports()] == [1, 2, 3, 4, 5, 6]
    assert (started.resumed_at, started.step, completed.step) == (None, None, None)
    assert (began.step, began.tries, finished.step, finished.tries, finished.exit_status) == (0, 1, 0, 1, 0)
    assert finished.seconds is not None
    assert 0 <= finished.seconds < 20
    assert abs(finished.time - time.time()) < 60


def test_no_steps_is_a_job_too(tmp_path: Path) -> None:
    machine = Provisioning(tmp_path / "m", job())
    assert machine.run().status == 0
    assert machine.kinds() == [STARTED, COMPLETED]


def test_a_script_gets_the_context_and_a_small_environment(tmp_path: Path) -> None:
    files = {"sub/look": 'env >env; cat data; read -r line || echo "no input"', "data": "the data\n"}
    machine = Provisioning(tmp_path / "m", job(script("look", "sub/look", env={"A": "1", "LANG": "xx"})), files)
    ended = machine.run()
    assert "[step look] the data\n[step look] no input\n" in ended.console
    found = environment((machine.state / "context/env").read_text())
    for shells_own in ("_", "SHLVL", "PWD", "OLDPWD"):
        found.pop(shells_own, None)
    assert found.pop("PATH") == "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    assert found == {"A": "1", "LANG": "xx", "HOME": "/root", "LOGNAME": "root", "SHELL": "/bin/sh", "USER": "root"}


def test_an_interpreter_can_be_named_and_wins_over_the_first_line(tmp_path: Path) -> None:
    """run-script -script, -env: `/bin/bash SCRIPT`, cwd = context, the environment plus -env."""
    files = {
        "sub/look.sh": "#!/usr/bin/env python3\necho $0 ${BASH_VERSION:+bash} $PWD $RELEASE $(cat data)",
        "data": "x",
    }
    inputs = {"script": "sub/look.sh", "env": {"RELEASE": "1"}, "interpreter": "/bin/bash"}
    machine = Provisioning(tmp_path / "m", job(Step("look", "run-script", inputs)), files)
    ended = machine.run()
    context = machine.state / "context"
    assert f"[step look] {context}/sub/look.sh bash {context} 1 x\n" in ended.console


def test_an_interpreter_that_is_not_there_is_told(tmp_path: Path) -> None:
    inputs = {"script": "look", "interpreter": "/bin/no-such-shell"}
    machine = Provisioning(tmp_path / "m", job(Step("look", "run-script", inputs)), {"look": ""})
    assert machine.run().status == 1
    assert "/bin/no-such-shell cannot be started: No such file or directory" in machine.reports()[-1].message


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("echo $BASH_VERSION", "."),
        ("#!/bin/sh -e\necho $0 $-", "e"),
        ("#! /usr/bin/env python3\nimport sys; print(sys.version)", "."),
        ("#!/bin/sh\r\necho $0", "greet"),
    ],
)
def test_a_scripts_first_line_names_its_interpreter(tmp_path: Path, text: str, told: str) -> None:
    machine = Provisioning(tmp_path / "m", job(script("greet")), {"greet": text})
    ended = machine.run()
    assert ended.status == 0, ended.console
    assert told in ended.console.split("[step greet] ")[1].split("\n")[0]


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("absent", "'absent' is not in the context"),
        ("../job.json", "'../job.json' leads out of the context"),
        ("/bin/true", "'/bin/true' leads out of the context"),
        ("folder", "'folder' is not a file"),
        ("odd", "names '/no/such/thing', which this image does not have"),
        ("void", "names 'nothing', which this image does not have"),
    ],
)
def test_a_script_that_cannot_be_run_fails_its_step(tmp_path: Path, path: str, why: str) -> None:
    files = {"folder/file": "", "odd": "#!/no/such/thing", "void": "#!\n"}
    machine = Provisioning(tmp_path / "m", job(script("greet", path)), files)
    assert machine.run().status == 1
    *_, failure, end = machine.reports()
    assert why in failure.message
    assert (failure.kind, failure.final, failure.exit_status, end.kind) == (STEP_FAILED, True, None, FAILED)


def test_a_failed_step_ends_the_job_and_shows_its_last_output(tmp_path: Path) -> None:
    lines = "for i in $(seq 2000); do echo line $i; done; echo fatal >&2; exit 7"
    machine = Provisioning(tmp_path / "m", job(script("bad"), script("never")), {"bad": lines, "never": "touch x"})
    ended = machine.run()
    assert ended.status == 1
    *_, failure, end = machine.reports()
    assert machine.kinds() == [STARTED, STEP_STARTED, STEP_FAILED, FAILED]
    assert (failure.step, failure.exit_status, failure.final, failure.message) == (0, 7, True, "exit status 7")
    assert failure.output.endswith("line 2000\nfatal\n")
    assert len(failure.output) == OUTPUT_LIMIT
    assert (end.step, end.message) == (0, "step 'bad' failed: exit status 7")
    assert "line 1\n" in (machine.state / "logs/000.log").read_text()


def test_a_signal_is_told_as_shells_do(tmp_path: Path) -> None:
    machine = Provisioning(tmp_path / "m", job(script("bad")), {"bad": "kill -9 $$"})
    machine.run()
    assert machine.reports()[2].exit_status == 128 + 9


def test_a_broken_pipe_is_not_ignored(tmp_path: Path) -> None:
    machine = Provisioning(tmp_path / "m", job(script("pipe")), {"pipe": "kill -PIPE $$"})  # Python itself ignores it
    machine.run()
    assert machine.reports()[2].exit_status == 128 + 13


def test_retries_are_counted_and_told(tmp_path: Path) -> None:
    flaky = "echo x >>tries; [ $(wc -l <tries) -eq 2 ]"
    machine = Provisioning(tmp_path / "m", job(script("flaky", retries=3)), {"flaky": flaky})
    began = time.monotonic()
    assert machine.run().status == 0
    assert time.monotonic() - began >= 1.0
    assert machine.kinds() == [STARTED, STEP_STARTED, STEP_FAILED, STEP_STARTED, STEP_FINISHED, COMPLETED]
    assert [(report.tries, report.final) for report in machine.reports()[2:5]] == [(1, False), (2, False), (2, False)]


def test_a_step_out_of_time_is_ended_with_all_it_started(tmp_path: Path) -> None:
    slow = "trap '' TERM; sleep 1000 & echo $! >pid; echo waiting; wait; sleep 1000"
    machine = Provisioning(tmp_path / "m", job(script("slow", timeout=0.4)), {"slow": slow})
    began = time.monotonic()
    assert machine.run().status == 1
    assert 3.0 < time.monotonic() - began < 15.0  # TERM was not enough
    failure = machine.reports()[2]
    assert (failure.kind, failure.exit_status, failure.message) == (STEP_FAILED, 137, "not done within 0.4 s")
    assert failure.output == "waiting\n"
    assert not alive(int((machine.state / "context/pid").read_text()))


def test_a_step_out_of_time_leaves_nobody_who_ignores_the_end(tmp_path: Path) -> None:
    slow = "(trap '' TERM; echo $BASHPID >pid; exec sleep 1000) & wait"
    machine = Provisioning(tmp_path / "m", job(script("slow", timeout=0.4)), {"slow": slow})
    assert machine.run().status == 1
    assert machine.reports()[2].exit_status == 128 + 15
    assert not alive(int((machine.state / "context/pid").read_text()))


def test_a_step_out_of_time_may_clean_up(tmp_path: Path) -> None:
    slow = "trap 'echo cleaned; exit 3' TERM; sleep 1000 & wait"
    machine = Provisioning(tmp_path / "m", job(script("slow", timeout=0.4)), {"slow": slow})
    machine.run(seconds=10)
    assert (machine.reports()[2].exit_status, machine.reports()[2].output) == (3, "cleaned\n")


def test_what_a_step_leaves_running_is_not_waited_for(tmp_path: Path) -> None:
    files = {"serve": "(sleep 1; echo late; sleep 30) & echo $! >pid", "next": "cat pid; sleep 1.5; kill -0 $(cat pid)"}
    machine = Provisioning(tmp_path / "m", job(script("serve"), script("next")), files)
    process = machine.start()
    try:
        assert process.wait(15) == 0  # and what it left outlived its first words after the step
    finally:
        process.kill()
        process.communicate()


def test_unknown_actions_cannot_come_this_far(tmp_path: Path) -> None:
    machine = Provisioning(tmp_path / "m", job(Step("odd", "format-disk", {})))
    ended = machine.run()
    assert ended.status == 1
    assert "job.steps[0].action: 'format-disk' is none of run-script" in ended.console
    assert not machine.port.read_text()
