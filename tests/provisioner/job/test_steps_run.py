"""Steps on a machine that does not go down: their environment, and the reports about them."""

from __future__ import annotations

import time
from dataclasses import replace
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
    assert found == {
        "A": "1",
        "LANG": "xx",
        "HOME": "/root",
        "LOGNAME": "root",
        "SHELL": "/bin/sh",
        "TERM": "linux",
        "USER": "root",
    }


def test_names_beyond_ascii_are_right_whatever_the_locale(tmp_path: Path) -> None:
    """In the locale of a service, Python 3.6 assumes that file names are ASCII."""
    step = script("größe", "größe/тест.sh", env={"WERT": "groß"})
    machine = Provisioning(tmp_path / "m", job(step), {"größe/тест.sh": 'echo "$WERT" >ok; cat ok'}, env={"LANG": "C"})
    ended = machine.run()
    assert (ended.status, "[step größe] groß\n" in ended.console) == (0, True), ended.console
    assert machine.read("var/lib/goldsmith/context/ok") == "groß\n"


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
        ("windows", "'windows': line 2 ends with CR and LF"),
        ("marked", "'marked': line 1 begins with the byte order mark of UTF-8"),
    ],
)
def test_a_script_that_cannot_be_run_fails_its_step(tmp_path: Path, path: str, why: str) -> None:
    files: dict[str, str | bytes] = {
        "folder/file": "",
        "odd": "#!/no/such/thing",
        "void": "#!\n",
        "windows": "true\ntrue\r\n",
        "marked": b"\xef\xbb\xbftrue",
    }
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
    repeated = replace(failure, kind=FAILED, sequence=end.sequence, time=end.time, message=end.message)
    assert end == repeated, "the last word may be heard first, or alone"
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
    machine = Provisioning(tmp_path / "m", job(script("slow", timeout=2.0)), {"slow": slow})
    began = time.monotonic()
    assert machine.run().status == 1
    assert time.monotonic() - began > 5.0  # TERM was not enough
    failure = machine.reports()[2]
    assert (failure.kind, failure.exit_status, failure.message) == (STEP_FAILED, 137, "not done within 2 s")
    assert failure.output == "waiting\n"
    assert not alive(int((machine.state / "context/pid").read_text()))


def test_a_step_out_of_time_leaves_no_process_that_ignores_the_end(tmp_path: Path) -> None:
    slow = "(trap '' TERM; echo $BASHPID >pid; exec sleep 1000) & wait"
    machine = Provisioning(tmp_path / "m", job(script("slow", timeout=2.0)), {"slow": slow})
    assert machine.run().status == 1
    assert machine.reports()[2].exit_status == 128 + 15
    assert not alive(int((machine.state / "context/pid").read_text()))


def test_a_step_out_of_time_may_clean_up(tmp_path: Path) -> None:
    slow = "trap 'echo cleaned; exit 3' TERM; sleep 1000 & wait"
    machine = Provisioning(tmp_path / "m", job(script("slow", timeout=2.0)), {"slow": slow})
    machine.run()
    assert (machine.reports()[2].exit_status, machine.reports()[2].output) == (3, "cleaned\n")


LEAVES = """
(trap '' TERM; while :; do sleep 0.1; done) & echo $! >stubborn
setsid --fork sh -c 'echo $$ >away; trap "echo saved >saved; exit" TERM; while :; do sleep 0.1; done' >/dev/null 2>&1
until [ -s away ]; do sleep 0.1; done
"""


@pytest.mark.parametrize(("end", "timeout"), [("exit 0", 60.0), ("exit 9", 60.0), ("sleep 600", 5.0)])
def test_what_a_step_leaves_running_is_ended_before_the_next(tmp_path: Path, end: str, timeout: float) -> None:
    """However the step ended, and wherever its processes went: the next step or try has the machine to itself."""
    gone = "gone() { ! grep -q '^State:.[RSD]' /proc/$1/status; }"  # one that is dead may wait for its parent
    alone = f"{gone}; gone $(cat stubborn) && gone $(cat away) && cat saved"
    files = {"leave": f"if [ -e away ]; then {alone}; exit; fi; {LEAVES}{end}", "next": alone}
    steps = (script("leave", timeout=timeout, retries=1), script("next"))
    machine = Provisioning(tmp_path / "m", job(*steps), files)
    ended = machine.run()
    assert ended.status == 0, ended.console
    assert "[step leave] ended what the step left running: " in ended.console
    assert "[step next] saved\n" in ended.console


def test_without_control_groups_what_is_left_running_is_not_waited_for(tmp_path: Path) -> None:
    files = {"serve": "(sleep 1; echo late; sleep 30) & echo $! >pid", "next": "cat pid; sleep 1.5; kill -0 $(cat pid)"}
    hidden = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o ro none /sys/fs/cgroup; exec "$@"', "sh"]
    machine = Provisioning(tmp_path / "m", job(script("serve"), script("next")), files, within=hidden)
    process = machine.start()
    try:
        assert process.wait(28) == 0  # the process that it left outlived the provisioner's first output after the step
    finally:
        process.kill()
        process.communicate()


def test_unknown_actions_cannot_come_this_far(tmp_path: Path) -> None:
    machine = Provisioning(tmp_path / "m", job(Step("odd", "format-disk", {})))
    ended = machine.run()
    assert ended.status == 1
    assert "job.steps[0].action: 'format-disk' is none of run-script" in ended.console
    assert not machine.port.read_text()


def test_steps_get_the_date_of_the_source(tmp_path: Path) -> None:
    files = {"look": 'echo "date: ${SOURCE_DATE_EPOCH-none}"'}
    for date, seen in ((None, "none"), (0, "0"), (1_700_000_000, "1700000000")):
        machine = Provisioning(tmp_path / seen, replace(job(script("look")), source_date=date), files)
        assert f"[step look] date: {seen}\n" in machine.run().console


def test_a_disk_that_is_kept_has_what_the_step_left_and_not_the_job_with_its_key(tmp_path: Path) -> None:
    machine = Provisioning(tmp_path / "m", job(script("bad"), kept=True), {"bad": "echo left >left; exit 3"})
    archive, other_name = machine.state / "files/job.tar", tmp_path / "link"
    archive.parent.mkdir(parents=True)
    archive.write_text(machine.job.key * 100)
    other_name.hardlink_to(archive)
    assert machine.run().status == 1
    assert machine.kinds() == [STARTED, STEP_STARTED, STEP_FAILED, FAILED]
    assert not archive.exists()
    assert set(other_name.read_bytes()) == {0}, "its blocks are overwritten"
    assert machine.read("var/lib/goldsmith/context/left") == "left\n"


def test_the_job_stays_for_the_next_boot_where_no_disk_is_kept(tmp_path: Path) -> None:
    machine = Provisioning(tmp_path / "m", job(script("bad")), {"bad": "exit 3"})
    archive = machine.state / "files/job.tar"
    archive.parent.mkdir(parents=True)
    archive.write_text("the job")
    assert machine.run().status == 1
    assert archive.read_text() == "the job"
