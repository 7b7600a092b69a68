"""Whatever a step writes, memory and disk stay bounded, the console shows lines, and the end is kept."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.protocol import OUTPUT_LIMIT, STEP_FAILED
from provisioner.system.output import CONSOLE_LIMIT, CONSOLE_PATIENCE, LINE_LIMIT, LOG_LIMIT, StepConsole, StepOutput
from tests.provisioner.provisioning import Provisioning, job, script


def shown(tmp_path: Path, *pieces: bytes, name: str = "s") -> tuple[bytes, bytes, bytes]:
    """Return what the console and the log hold of some output, and its tail."""
    console, log = tmp_path / "console", tmp_path / "log"
    console.write_bytes(b"")
    log.unlink(missing_ok=True)
    opened = StepConsole(str(console))
    output = StepOutput(name, str(log), opened)
    for piece in pieces:
        output.feed(piece)
    output.close()
    os.close(opened._handle)  # which lives as long as a provisioner, and here for one of hundreds of examples
    return console.read_bytes(), log.read_bytes(), output.tail


def test_lines_are_shown_with_their_steps_name(tmp_path: Path) -> None:
    console, log, tail = shown(tmp_path, b"one\ntw", b"o\n\nthree")
    assert console == b"[step s] one\n[step s] two\n[step s] \n[step s] three\n"
    assert log == tail == b"one\ntwo\n\nthree"


def test_a_name_cannot_break_a_line(tmp_path: Path) -> None:
    console, _, _ = shown(tmp_path, b"x\n", name="a\nb")
    assert console == b"[step a b] x\n"


def test_garbage_does_not_reach_the_console(tmp_path: Path) -> None:
    console, log, _ = shown(tmp_path, b"\x1b[2J\x00\xff\tgr\xc3\xbc\xc3\x9fe\x7f\n")
    assert console == b"[step s] ?[2J?\xff\tgr\xc3\xbc\xc3\x9fe?\n"
    assert log == b"\x1b[2J\x00\xff\tgr\xc3\xbc\xc3\x9fe\x7f\n"


def test_progress_bars_show_their_last_state(tmp_path: Path) -> None:
    console, _, _ = shown(tmp_path, b"10%\r50%\r100%\r\nplain\r\n")
    assert console == b"[step s] 100%\n[step s] plain\n"


def test_what_a_carriage_return_would_hide_is_shown(tmp_path: Path) -> None:
    """As useradd in a script with CR and LF: only a quotation mark of its message would be visible."""
    console, _, _ = shown(tmp_path, b"useradd: invalid user name 'app\r': use --badname\n")
    assert console == b"[step s] useradd: invalid user name 'app\\r': use --badname\n"


def test_a_long_line_comes_in_pieces(tmp_path: Path) -> None:
    console, _, _ = shown(tmp_path, *[b"x" * 1000] * 10)
    lines = console.split(b"\n")
    assert max(map(len, lines)) == len(b"[step s] ") + LINE_LIMIT
    assert console.count(b"x") == 10_000


def test_the_console_gets_its_share_and_the_log_the_newest(tmp_path: Path) -> None:
    piece = b"0123456789abcde\n" * 4096
    console, log, tail = shown(tmp_path, *[piece] * (LOG_LIMIT // len(piece) + 5), b"the end\n")
    assert CONSOLE_LIMIT < len(console) < CONSOLE_LIMIT * 1.1
    assert console.endswith(b"too much for the console: the rest is in the step's log\n")
    assert log.endswith(b"the end\n")
    assert len(log) < LOG_LIMIT
    assert (tmp_path / "log.old").stat().st_size <= LOG_LIMIT
    assert len(tail) == OUTPUT_LIMIT
    assert tail.endswith(b"the end\n")


@given(st.lists(st.binary(max_size=200), max_size=20))
def test_pieces_do_not_matter(tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes]) -> None:
    folder = tmp_path_factory.mktemp("pieces")
    assert shown(folder, *pieces) == shown(folder, b"".join(pieces))


def test_a_full_disk_costs_the_log_only(tmp_path: Path) -> None:
    console = tmp_path / "console"
    console.write_bytes(b"")
    output = StepOutput("s", "/dev/full", StepConsole(str(console)))
    output.feed(b"one\n")
    output.feed(b"two\n")
    output.close()
    assert b"goldsmith: /dev/full: No space left on device" in console.read_bytes()
    assert console.read_bytes().endswith(b"[step s] one\n[step s] two\n")


def test_gigabytes_take_constant_memory(tmp_path: Path) -> None:
    loud = "head -c 300M /dev/zero; grep VmHWM /proc/$PPID/status >peak"
    machine = Provisioning(tmp_path / "m", job(script("loud")), {"loud": loud})
    assert machine.run().status == 0
    peak = (machine.state / "context/peak").read_text().split()
    assert int(peak[1]) < 40_000  # KiB
    assert sum(path.stat().st_size for path in (machine.state / "logs").iterdir()) <= 2 * LOG_LIMIT


def test_a_console_that_takes_nothing_is_given_up(tmp_path: Path) -> None:
    readable, writable = os.pipe()
    os.write(writable, bytes(fcntl.fcntl(writable, fcntl.F_GETPIPE_SZ)))
    console = StepConsole(f"/proc/self/fd/{writable}")
    began = time.monotonic()
    for _ in range(3):
        console.say("hello")
    os.close(readable)
    os.close(writable)
    assert time.monotonic() - began < CONSOLE_PATIENCE * 3  # once for all three


def test_binary_output_of_a_failed_step_can_be_told(tmp_path: Path) -> None:
    machine = Provisioning(tmp_path / "m", job(script("odd")), {"odd": "head -c 100000 /dev/urandom; exit 1"})
    assert machine.run().status == 1
    [failure] = [report for report in machine.reports() if report.kind == STEP_FAILED]
    assert failure.output
