"""The console of a build's VMs: read on from where the last read ended, while they run and after they are gone."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from goldsmith.screen.console import LAST_TRIES, LONGEST_LINE, following
from shared.clock import SystemClock
from shared.errors import GoldsmithError, Permanent, Transient
from shared.host.build_folder import BuildFolder
from shared.images.catalogue import Catalogue
from shared.local.bucket import LocalBucket
from shared.local.compute import LocalCompute
from shared.local.console import LocalConsole
from shared.machines.machines import Machines
from tests.world.values import BUILD_ID

FIRST, SECOND = f"gs-{BUILD_ID}-a1-vm", f"gs-{BUILD_ID}-a2-vm"


class Consoles:
    """A build whose VMs' consoles are written by hand."""

    def __init__(self, home: Path, console: LocalConsole) -> None:
        self.folder = BuildFolder(home, BUILD_ID)
        self.console = console

    def write(self, machine: str, text: str) -> None:
        folder = self.folder.machine(machine)
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "console.log").open("ab") as file:
            file.write(text.encode())

    def store(self, machine: str) -> None:
        """The machine is gone, its console was stored: what clean-up does."""
        self.folder.logs.mkdir(parents=True, exist_ok=True)
        old = self.folder.machine(machine) / "console.log"
        (self.folder.logs / f"{machine}.log").write_bytes(old.read_bytes())
        old.unlink()
        old.parent.rmdir()


@pytest.fixture
def consoles(tmp_path: Path) -> Consoles:
    clock = SystemClock()
    machines = Machines(tmp_path, lambda message: None)
    machines.close()  # none is started
    compute = LocalCompute(tmp_path, Catalogue(tmp_path, clock), machines, clock)
    return Consoles(tmp_path, LocalConsole(BuildFolder(tmp_path, BUILD_ID), compute, LocalBucket(tmp_path)))


def test_there_need_be_no_console(consoles: Consoles) -> None:
    assert consoles.console.read() == b""
    consoles.folder.machine(FIRST).mkdir(parents=True)
    assert consoles.console.read() == b""


def test_each_byte_is_given_once(consoles: Consoles) -> None:
    consoles.write(FIRST, "one ")
    assert consoles.console.read() == b"one "
    assert consoles.console.read() == b""
    consoles.write(FIRST, "two")
    assert consoles.console.read() == b"two"


def test_machine_that_goes_loses_nothing_and_repeats_nothing(consoles: Consoles) -> None:
    consoles.write(FIRST, "seen ")
    assert consoles.console.read() == b"seen "
    consoles.write(FIRST, "unseen ")
    consoles.store(FIRST)
    consoles.write(SECOND, "next")
    assert consoles.console.read() == b"unseen next"
    consoles.store(SECOND)
    assert consoles.console.read() == b""


def test_finished_build_is_read_whole(consoles: Consoles) -> None:
    for machine in (SECOND, FIRST):
        consoles.write(machine, machine[-4])
        consoles.store(machine)
    assert consoles.console.read() == b"12"


def test_following_shows_the_steps_lines_alone_and_the_rest_at_the_end(consoles: Consoles) -> None:
    shown: list[str] = []
    consoles.write(FIRST, "Linux version 6.1\r\n[    1.0] goldsmith: [step greet] hel")
    with following(consoles.console, shown.extend):
        consoles.write(FIRST, "lo\r\nnoise\n[step greet] \xff\n")
    assert shown == ["[step greet] hello", "[step greet] \xff"]


def test_following_ends_when_its_block_fails(consoles: Consoles) -> None:
    shown: list[str] = []
    consoles.write(FIRST, "[step x] last words\nno end")
    with pytest.raises(KeyError), following(consoles.console, shown.extend):
        raise KeyError
    assert shown == ["[step x] last words"]


def test_line_without_end_is_cut(consoles: Consoles) -> None:
    shown: list[str] = []
    consoles.write(FIRST, "x" * (3 * LONGEST_LINE))
    with following(consoles.console, shown.extend):
        pass
    consoles.write(FIRST, "[step x] y\n")
    with following(consoles.console, shown.extend):
        pass
    assert shown == ["[step x] y"]


class Faulty:
    """A console whose first reads meet with faults."""

    poll = 0.01

    def __init__(self, *faults: GoldsmithError) -> None:
        self.faults = list(faults)

    def read(self) -> bytes:
        if self.faults:
            raise self.faults.pop(0)
        return b"[step x] y\n"


@pytest.mark.parametrize("number", [1, LAST_TRIES - 1])
def test_a_fault_that_passes_costs_no_line(number: int) -> None:
    shown: list[str] = []
    with following(Faulty(*[Transient("503")] * number), shown.extend):
        pass
    assert "[step x] y" in shown


@pytest.mark.parametrize("fault", [Permanent("403: serial ports are closed"), Transient("503")])
def test_a_fault_that_stays_is_told(fault: GoldsmithError, capsys: pytest.CaptureFixture[str]) -> None:
    shown: list[str] = []
    with following(Faulty(*[fault] * 1000), shown.extend):
        pass
    assert shown == []
    assert "output cannot be shown: " + str(fault) in capsys.readouterr().err


class Stuck:
    """A console that does not answer before the test ends, as a network that is gone."""

    poll = 0.01

    def __init__(self) -> None:
        self.asked, self.answers = threading.Event(), threading.Event()

    def read(self) -> bytes:
        self.asked.set()
        self.answers.wait(60)
        return b"[step x] late\n"


def test_a_block_that_fails_does_not_wait_for_a_console_that_does_not_answer() -> None:
    shown: list[str] = []
    console = Stuck()

    def interrupted() -> None:
        with following(console, shown.extend):
            console.asked.wait(60)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    console.answers.set()
    for thread in [each for each in threading.enumerate() if each.name == "console"]:
        thread.join(60)
    assert shown == []
