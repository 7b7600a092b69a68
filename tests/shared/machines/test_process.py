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

from shared.errors import EnvironmentFault
from shared.machines.monitor import Monitor
from shared.machines.process import SERIAL_LIMIT, TRUNCATED, MachineEnd, MachineProcess, Running, SerialPort
from shared.machines.qemu import MachineSpec

PANIC = "[    3.141592] Kernel panic - not syncing: VFS: Unable to mount root fs"


class Follower:
    """Programs in QEMU's place, one after the other, whose standard output is the machine's console."""

    def __init__(self, folder: Path, *codes: str) -> None:
        self.console = folder / "console.log"
        self.outcomes: list[MachineEnd] = []
        self.codes = list(codes)
        with ExitStack() as stack:
            self.file = stack.enter_context(self.console.open("ab", buffering=0))
            self.stderr = stack.enter_context(tempfile.TemporaryFile())
            self.resources = stack
            first = self.start()
            self.resources = stack.pop_all()
        spec = MachineSpec("m", folder, folder / "disk", {})
        self.machine = MachineProcess(
            spec,
            first.process,
            first.ports,
            self.stderr,
            lambda _spec, _machine, outcome: self.outcomes.append(outcome),
            self.resources,
            first.monitor,
            self.start,
        )
        self.machine.watch()

    def start(self) -> Running:
        if not self.codes:
            raise EnvironmentFault("no such program")
        ours, theirs = socket.socketpair()
        events, qmp = socket.socketpair()
        command = [sys.executable, "-u", "-c", self.codes.pop(0), str(qmp.fileno())]
        with theirs, qmp:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=theirs.fileno(), stderr=self.stderr, pass_fds=[qmp.fileno()]
            )
        for end in (ours, events):
            self.resources.enter_context(end)
        return Running(process, [SerialPort(ours, self.file, watched=True)], Monitor("m", events))

    def outcome(self) -> MachineEnd:
        assert self.machine.wait(240)
        assert len(self.outcomes) == 1
        return self.outcomes[0]


def test_console_is_copied_to_the_last_byte(tmp_path: Path) -> None:
    follower = Follower(tmp_path, "import sys; sys.stdout.write('x' * 3_000_000 + 'end')")
    assert follower.outcome() == MachineEnd("powered-off")
    assert follower.console.read_text() == "x" * 3_000_000 + "end"


def test_console_is_bounded_and_the_machine_goes_on(tmp_path: Path) -> None:
    code = f"import os\nfor _ in range({SERIAL_LIMIT} // 65536 + 10): os.write(1, b'y' * 65536)\nos.write(1, b'last')"
    follower = Follower(tmp_path, code)
    assert follower.outcome() == MachineEnd("powered-off")
    assert follower.console.stat().st_size == SERIAL_LIMIT + len(TRUNCATED)
    with follower.console.open("rb") as file:
        file.seek(-len(TRUNCATED), os.SEEK_END)
        assert file.read() == TRUNCATED


def test_console_is_bounded_over_restarts(tmp_path: Path) -> None:
    with (tmp_path / "console.log").open("wb") as file:
        file.truncate(SERIAL_LIMIT - 100)  # of the machine before
    followers = []
    for _ in range(3):
        followers.append(Follower(tmp_path, "print('z' * 100_000)"))
        assert followers[-1].outcome() == MachineEnd("powered-off")
    assert followers[-1].console.stat().st_size == SERIAL_LIMIT + len(TRUNCATED)


RESET = """
import os, sys
os.write(int(sys.argv[1]), b'{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-reset"}}\\r\\n')
"""


def test_a_guest_that_wants_a_restart_gets_a_new_process(tmp_path: Path) -> None:
    """A direct boot's QEMU would start the old kernel once more."""
    follower = Follower(tmp_path, "print('one')" + RESET, "print('two')" + RESET, "print('three')")
    assert follower.outcome() == MachineEnd("powered-off")
    assert follower.console.read_text() == "one\ntwo\nthree\n"


def test_a_restart_that_fails_is_the_end(tmp_path: Path) -> None:
    follower = Follower(tmp_path, "print('one')" + RESET)
    assert follower.outcome() == MachineEnd("lost", "it could not be started again: no such program")


def test_a_machine_that_was_ended_is_not_started_again(tmp_path: Path) -> None:
    follower = Follower(tmp_path, RESET + "import time\nprint('ready')\ntime.sleep(600)", "print('never')")
    while follower.console.read_text() != "ready\n":  # -u writes a line in two parts
        follower.machine.wait(0.01)
    follower.machine.kill("enough")
    assert follower.outcome() == MachineEnd("lost", "enough")
    assert follower.console.read_text() == "ready\n"


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
    assert follower.outcome() == MachineEnd("panicked", "kernel panic: VFS: Unable to mount root fs")


def test_panic_in_pieces_is_noticed(tmp_path: Path) -> None:
    output = "boot" * 3000 + f"\n{PANIC}\n"
    code = f"import time, sys\nfor c in {output!r}:\n sys.stdout.write(c)\ntime.sleep(600)"
    follower = Follower(tmp_path, code)
    assert follower.outcome().how == "panicked"


@pytest.mark.parametrize("output", [f"[step] {PANIC}\n", f"said: {PANIC[15:]}\n", "Kernel panic\n", PANIC[:40]])
def test_words_about_a_panic_are_none(tmp_path: Path, output: str) -> None:
    assert Follower(tmp_path, f"import sys; sys.stdout.write({output!r})").outcome() == MachineEnd("powered-off")


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
    assert Follower(tmp_path, code).outcome() == MachineEnd("lost", detail)


def test_kill_waits_until_all_is_closed(tmp_path: Path) -> None:
    follower = Follower(tmp_path, "import time; time.sleep(600)")
    follower.machine.kill("it is not wanted")
    assert follower.outcomes == [MachineEnd("lost", "it is not wanted")]
    assert follower.machine.ports[0].file.closed
    assert follower.machine.ports[0].connection.fileno() == -1
    follower.machine.kill("again")
    assert len(follower.outcomes) == 1


def test_full_disk_loses_output_and_not_the_machine(tmp_path: Path) -> None:
    (tmp_path / "console.log").symlink_to("/dev/full")
    follower = Follower(tmp_path, "print('x' * 1_000_000)")
    assert follower.outcome() == MachineEnd("powered-off")
