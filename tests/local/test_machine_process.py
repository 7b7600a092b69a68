"""Following a machine: its ports are copied, bounded; a kernel panic is told from a step that prints one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest

from shared.local.machine_process import SERIAL_LIMIT, TRUNCATED, MachineProcess, Outcome, SerialPort
from shared.local.qemu_command import MachineSpec

PANIC = "[    3.141592] Kernel panic - not syncing: VFS: Unable to mount root fs"


class Follower:
    """A program in QEMU's place, whose standard output is the machine's console."""

    def __init__(self, folder: Path, code: str) -> None:
        self.console = folder / "console.log"
        self.outcomes: list[Outcome] = []
        with ExitStack() as stack:
            ours, theirs = (stack.enter_context(end) for end in socket.socketpair())
            port = SerialPort(ours, stack.enter_context(self.console.open("ab", buffering=0)), watched=True)
            stderr = stack.enter_context(tempfile.TemporaryFile())
            command: list[str] = [sys.executable, "-u", "-c", code]
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=theirs.fileno(), stderr=stderr)
            theirs.close()
            spec = MachineSpec("m", folder, folder / "disk", {})
            self.machine = MachineProcess(
                spec,
                process,
                [port],
                stderr,
                lambda _spec, _machine, outcome: self.outcomes.append(outcome),
                stack.pop_all(),
            )
        self.machine.watch()

    def outcome(self) -> Outcome:
        assert self.machine.wait(60)
        assert len(self.outcomes) == 1
        return self.outcomes[0]


def test_console_is_copied_to_the_last_byte(tmp_path: Path) -> None:
    follower = Follower(tmp_path, "import sys; sys.stdout.write('x' * 3_000_000 + 'end')")
    assert follower.outcome() == Outcome("powered-off")
    assert follower.console.read_text() == "x" * 3_000_000 + "end"


def test_console_is_bounded_and_the_machine_goes_on(tmp_path: Path) -> None:
    code = f"import os\nfor _ in range({SERIAL_LIMIT} // 65536 + 10): os.write(1, b'y' * 65536)\nos.write(1, b'last')"
    follower = Follower(tmp_path, code)
    assert follower.outcome() == Outcome("powered-off")
    assert follower.console.stat().st_size == SERIAL_LIMIT + len(TRUNCATED)
    with follower.console.open("rb") as file:
        file.seek(-len(TRUNCATED), os.SEEK_END)
        assert file.read() == TRUNCATED


@pytest.mark.parametrize(
    "output",
    [
        f"Linux\n{PANIC}\n",
        f"Linux\r\n{PANIC}\r\n",
        f"{PANIC}\n",
        "Kernel panic - not syncing: VFS: Unable to mount root fs\n",  # printk.time=0
    ],
)
def test_panic_ends_the_machine(tmp_path: Path, output: str) -> None:
    follower = Follower(tmp_path, f"import time, sys; sys.stdout.write({output!r}); time.sleep(600)")
    assert follower.outcome() == Outcome("panicked", "kernel panic: VFS: Unable to mount root fs")


def test_panic_in_pieces_is_noticed(tmp_path: Path) -> None:
    output = "boot" * 3000 + f"\n{PANIC}\n"
    code = f"import time, sys\nfor c in {output!r}:\n sys.stdout.write(c)\ntime.sleep(600)"
    follower = Follower(tmp_path, code)
    assert follower.outcome().how == "panicked"


@pytest.mark.parametrize("output", [f"[step] {PANIC}\n", f"said: {PANIC[15:]}\n", "Kernel panic\n", PANIC[:40]])
def test_words_about_a_panic_are_none(tmp_path: Path, output: str) -> None:
    assert Follower(tmp_path, f"import sys; sys.stdout.write({output!r})").outcome() == Outcome("powered-off")


@pytest.mark.parametrize(
    ("code", "detail"),
    [
        ("import sys; sys.exit('no such device')", "QEMU ended with status 1: no such device"),
        ("import os; os.kill(os.getpid(), 9)", "QEMU was killed by signal 9"),
        (
            "import sys; sys.stderr.write('qemu: terminating on signal 15 from pid 1 (init)')",
            "QEMU ended with status 0: qemu: terminating on signal 15 from pid 1 (init)",
        ),
    ],
)
def test_any_other_end_is_explained(tmp_path: Path, code: str, detail: str) -> None:
    assert Follower(tmp_path, code).outcome() == Outcome("lost", detail)


def test_kill_waits_until_all_is_closed(tmp_path: Path) -> None:
    follower = Follower(tmp_path, "import time; time.sleep(600)")
    follower.machine.kill("nobody wants it")
    assert follower.outcomes == [Outcome("lost", "nobody wants it")]
    assert follower.machine.ports[0].file.closed
    assert follower.machine.ports[0].connection.fileno() == -1
    follower.machine.kill("again")
    assert len(follower.outcomes) == 1


def test_full_disk_loses_output_and_not_the_machine(tmp_path: Path) -> None:
    (tmp_path / "console.log").symlink_to("/dev/full")
    follower = Follower(tmp_path, "print('x' * 1_000_000)")
    assert follower.outcome() == Outcome("powered-off")
