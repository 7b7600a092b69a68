"""A shell where a step has failed, on real terminals: what is seen, retried and built anew; nothing is left."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.provisioner.elements.element_folders import element
from tests.shared.sandbox.ordinary_user import AS_ROOT, MODES
from tests.system.command import Goldsmith
from tests.system.terminal import Terminal

pytestmark = pytest.mark.slow

FAILED, BAD_INPUT = 1, 2
PROMPT = " # "
WITHIN = 15_000_000_000  # nanoseconds from a failure to its prompt
BROKEN = "echo colour $COLOUR; date +%s%N >/tmp/of-the-step; exit 3\n"
RESIZED = 'until [ "$(stty size)" = "33 111" ]; do sleep 0.1; done; echo resized to $(stty size)\n'
MENDED = "test -e /tmp/of-the-step && echo touched || echo untouched; cat /opt/made\n"


@pytest.fixture
def user(request: pytest.FixtureRequest) -> str:
    """root, or the ordinary user of the tests."""
    return str(getattr(request, "param", MODES[0]))


def broken(goldsmith: Goldsmith, **changes: object) -> Path:
    inputs = {"script": "breaks.sh", "env": {"COLOUR": "blue", "DB_PASSWORD": "hunter2"}}
    local = {"engine": "chroot", "network": False, "memory_mb": 512, **changes}
    steps = [{"name": "makes", "script": "echo made >/opt/made\n"}, {"name": "breaks", "script": BROKEN}]
    steps[1]["inputs"] = inputs  # type: ignore[assignment]
    return goldsmith.spec(steps, local=local)


def building(goldsmith: Goldsmith, *options: str) -> Terminal:
    return Terminal(goldsmith.line("build", broken(goldsmith), *options), goldsmith.environment)


def with_shell(goldsmith: Goldsmith, *options: str) -> Terminal:
    """A build whose step has failed, at the prompt of its shell."""
    terminal = building(goldsmith, "--on-failure", "shell", *options)
    terminal.until("abort: give up")
    terminal.until(PROMPT)
    return terminal


def outcomes(goldsmith: Goldsmith) -> list[tuple[str, str]]:
    return [(build["outcome"], build["reason"]) for build in goldsmith.builds()]


FAILURE = ("failed", "step 'breaks' failed: exit status 3")


@pytest.mark.parametrize("user", MODES, indirect=True)
def test_a_step_is_retried_where_it_failed_and_continue_builds_anew(sandboxes: Goldsmith) -> None:
    with with_shell(sandboxes) as terminal:
        terminal.type("pwd; ls; cat /opt/made; ls /tmp; tty; echo $COLOUR,$DB_PASSWORD,$GOLDSMITH_STEP; stty size\n")
        shown = terminal.until("24 80")
        for expected in ("/context", "breaks.sh", "made", "of-the-step", "/dev/pts/", "blue,,breaks"):
            assert expected in shown, shown
        terminal.resize(33, 111)
        terminal.type(RESIZED)
        terminal.until("resized to 33 111")
        terminal.type("retry\n")
        terminal.until("step 'breaks' failed: exit status 3")
        (sandboxes.folder / "spec-tiny" / "context" / "breaks.sh").write_text(MENDED)
        terminal.type("echo by hand >/opt/made; retry\n")
        shown = terminal.until("continue builds anew without that")
        assert "touched" in shown
        assert "by hand" in shown
        terminal.type("continue\n")
        assert terminal.finish() == 0
        shown = terminal.until("image local/tiny")
        assert "untouched" in shown
        assert "by hand" not in shown
    assert outcomes(sandboxes) == [("succeeded", ""), FAILURE]
    assert len(sandboxes.images()) == 1
    sandboxes.traces.assert_none()


def leave(terminal: Terminal) -> None:
    terminal.type("exit\n")


def give_up(terminal: Terminal) -> None:
    terminal.type("abort\n")


def press_twice(terminal: Terminal) -> None:
    """Press Ctrl-C twice, and nothing answers."""
    terminal.type("stty raw -echo; echo still; sleep 1000\n")
    terminal.until("still\n")
    terminal.type("\x03")
    time.sleep(3.0)
    terminal.type("\x03")


def close(terminal: Terminal) -> None:
    terminal.type("(setsid sleep 1000 &)\n")
    terminal.until(PROMPT)
    terminal.close()


def end(terminal: Terminal) -> None:
    terminal.process.send_signal(signal.SIGTERM)


@pytest.mark.parametrize(
    ("user", "act"),
    [(AS_ROOT, leave), (AS_ROOT, give_up), (AS_ROOT, press_twice), (AS_ROOT, end), *((user, close) for user in MODES)],
    indirect=["user"],
)
def test_however_a_shell_ends_the_build_has_failed_and_nothing_is_left(
    sandboxes: Goldsmith, act: Callable[[Terminal], None]
) -> None:
    with with_shell(sandboxes) as terminal:
        act(terminal)
        assert terminal.finish() == FAILED
    assert outcomes(sandboxes) == [FAILURE]
    assert sandboxes.images() == []
    sandboxes.traces.assert_none()


def test_the_shell_of_a_killed_build_ends_with_it_and_the_next_command_cleans_up(sandboxes: Goldsmith) -> None:
    with with_shell(sandboxes) as terminal:
        terminal.process.kill()
    sandboxes.traces.wait_for_no_process()
    assert sandboxes.run("sweep").status == 0
    assert outcomes(sandboxes) == [FAILURE]
    sandboxes.traces.assert_none()


def test_a_kept_build_is_entered_from_other_terminals_one_at_a_time(sandboxes: Goldsmith) -> None:
    with building(sandboxes, "--keep-on-failure", "2h") as terminal:
        terminal.until("look with: goldsmith builds enter ")
        build = terminal.until("\r\n").split()[0]
        line = sandboxes.line("builds", "enter", build[:12], "--with-secrets")
        with Terminal(line, sandboxes.environment) as first:
            first.until(PROMPT)
            first.type("touch /tmp/by-the-first; echo $DB_PASSWORD\n")
            first.until("hunter2")
            with Terminal(line, sandboxes.environment) as second:
                second.until("another terminal has its shell open")
            first.type("exit\n")
            assert first.finish() == 0
        assert "held until" in sandboxes.run("builds", "list").out
        with Terminal(line, sandboxes.environment) as third:
            third.until(PROMPT)
            third.type("ls /tmp\n")
            third.until("by-the-first")
            third.type("abort\n")
            assert third.finish() == 0
        assert terminal.finish() == FAILED
    assert outcomes(sandboxes) == [FAILURE]
    assert sandboxes.run("builds", "enter", build).status == BAD_INPUT
    sandboxes.traces.assert_none()


def test_a_kept_build_ends_when_its_time_is_over(sandboxes: Goldsmith) -> None:
    with building(sandboxes, "--keep-on-failure", "2s") as terminal:
        assert terminal.finish() == FAILED
    assert outcomes(sandboxes) == [FAILURE]
    sandboxes.traces.assert_none()


def test_the_prompt_is_there_soon_after_the_failure(sandboxes: Goldsmith) -> None:
    with with_shell(sandboxes) as terminal:
        shown = time.time_ns()
        terminal.type("echo from $(cat /tmp/of-the-step) on\n")
        terminal.until("\x1b[?2004l")
        failed = int(terminal.until(" on").split()[-2])
        assert shown - failed < WITHIN


@pytest.mark.vm
def test_a_vm_is_entered_by_its_virtio_port(goldsmith: Goldsmith) -> None:
    path = broken(goldsmith, engine="vm", memory_mb=768)
    with Terminal(goldsmith.line("build", path, "--on-failure", "shell"), goldsmith.environment) as terminal:
        terminal.until("abort: give up", 240.0)
        terminal.until(PROMPT)
        terminal.resize(33, 111)
        terminal.type(RESIZED)
        terminal.until("resized to 33 111")
        terminal.type("cat /opt/made /proc/1/comm\n")
        shown = terminal.until("systemd")
        assert "made" in shown
        (goldsmith.folder / "spec-tiny" / "context" / "breaks.sh").write_text(MENDED)
        terminal.type("retry\n")
        assert "touched" in terminal.until("continue builds anew without that")
        terminal.type("exit\n")
        assert terminal.finish() == FAILED
    assert outcomes(goldsmith) == [FAILURE]
    goldsmith.traces.assert_none()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--on-failure", "shell"], "--on-failure shell needs a terminal"),
        (["--on-failure", "shell", "--json"], "leave one of them out"),
        (["--on-failure", "mail"], "--on-failure mail: write shell"),
        (["--keep-on-failure", "long"], "--keep-on-failure: 'long' is not a duration"),
        (["--keep-on-failure", "8d"], "at most 7d"),
        (["--with-secrets"], "--with-secrets is for the shell"),
    ],
)
def test_bad_options_make_nothing(bare_goldsmith: Goldsmith, options: list[str], told: str) -> None:
    done = bare_goldsmith.run("build", broken(bare_goldsmith), *options)
    assert (done.status, done.out) == (BAD_INPUT, "")
    assert told in done.err
    assert list(bare_goldsmith.home.iterdir()) == []


def broken_elements(goldsmith: Goldsmith, phase: str, root: str) -> Path:
    """A spec whose step of elements fails in a phase, after a script of another one."""
    inputs = {"elements": ["app"], "env": {"MY_VAR": "blue", "DB_PASSWORD": "hunter2"}}
    local = {"engine": "chroot", "network": False, "memory_mb": 512}
    spec = goldsmith.spec([{"name": "app", "action": "elements", "inputs": inputs}], local=local)
    files = {
        "environment.d/10-app.bash-": "export MY_VAR=$MY_VAR-green\n",
        "pre-install.d/10-first": "#!/bin/sh\necho first >>/var/lib/ran\nmount -t tmpfs own /mnt\ntouch /tmp/first\n",
        f"{phase}/50-breaks": f'#!/bin/sh\necho tried >>"{root}/var/lib/ran"\nexit 3\n',
        f"{phase}/60-after": f'#!/bin/sh\necho after >>"{root}/var/lib/ran"\n',
        "cleanup.d/50-clean": '#!/bin/sh\necho cleaned >>"$TARGET_ROOT/var/lib/ran"\n',
    }
    element(spec.parent / "context" / "elements", "app", files)
    return spec


@pytest.mark.parametrize(
    ("user", "phase", "where", "root"),
    [
        (MODES[-1], "install.d", "in the image: /tmp/in_target.d/install.d/50-breaks (app)", ""),
        (AS_ROOT, "post-root.d", "on the build machine's side, in ", "$TARGET_ROOT"),
    ],
    indirect=["user"],
)
def test_a_shell_begins_at_the_script_of_an_element_and_retry_goes_on_from_it(
    sandboxes: Goldsmith, phase: str, where: str, root: str
) -> None:
    path = broken_elements(sandboxes, phase, root)
    script = path.parent / "context" / "elements" / "app" / phase / "50-breaks"
    with Terminal(sandboxes.line("build", path, "--on-failure", "shell"), sandboxes.environment) as terminal:
        shown = terminal.until("abort: give up")
        assert f"{phase}/50-breaks of element app: exit status 3" in shown
        assert where in shown
        assert "what scripts have mounted is not there any more: " in shown
        assert "left out as secrets: DB_PASSWORD" in shown
        terminal.until(PROMPT)
        terminal.type(
            f'echo $MY_VAR,$IMAGE_NAME,$DB_PASSWORD, $(cat "{root}/var/lib/ran"); tail -n 1 $GOLDSMITH_SCRIPT\n'
        )
        shown = terminal.until("exit 3")
        assert "blue-green,image,, first tried" in shown, shown
        terminal.type("retry\n")
        terminal.until("step 'app' failed: ")
        script.write_text(f'#!/bin/sh\necho mended >>"{root}/var/lib/ran"\n')
        terminal.type("retry\n")
        shown = terminal.until("continue builds anew without that")
        assert "10-first" not in shown
        terminal.type(f'echo ran $(cat "{root}/var/lib/ran")\n')
        assert "ran first tried tried mended after cleaned" in terminal.until("cleaned")
        terminal.type("retry\n")
        terminal.until("its scripts have all run")
        terminal.type("exit\n")
        assert terminal.finish() == FAILED
    sandboxes.traces.assert_none()
