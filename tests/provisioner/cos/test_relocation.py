"""Partitions move with all of their contents, whenever the power goes."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from provisioner.cos.disk_layout import DiskLayoutError, Placement, Targets, wanted_layout
from provisioner.cos.relocation import RelocationJournal, relocate, relocate_open
from provisioner.protocol import DiskLayout
from provisioner.system.disk_file import DiskFile
from provisioner.system.partition_table import read_open_table, read_table
from tests.provisioner.cos.disk import OEM, ROOT_A, STATE, CosDisk, make_cos_disk, tool
from tests.provisioner.power_cut import MemoryDisk, Power, PowerCut

pytestmark = pytest.mark.slow

MIB = 1 << 20
GIB = 1 << 30
KEPT = (2, 4, 5, 6, 7, 9, 10, 11, 12)


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> CosDisk:
    """Make a disk of 10 GB as the real one, to be copied and not to be changed."""
    return make_cos_disk(tmp_path_factory.mktemp("disk") / "disk.raw")


def targets_of(disk: CosDisk, layout: DiskLayout) -> Targets:
    table = read_table(str(disk.path))
    return wanted_layout(table, layout, table.disk_sectors)


@pytest.mark.parametrize(
    ("layout", "grown"),
    [
        (DiskLayout(oem_size=500 * MIB), GIB),
        (DiskLayout(reclaim=True), 0),
        (DiskLayout(reclaim=True, oem_size=32 * MIB), 0),
        (DiskLayout(reclaim=True, oem_size=2046 * MIB), 0),
        (DiskLayout(oem_size=1023 * MIB), GIB),
        (DiskLayout(reclaim=True, oem_size=2 * 2 * GIB - MIB), 3 * GIB),
    ],
    ids=["oem", "reclaim", "seal", "all of the reclaimed", "exactly large enough", "exactly, reclaimed and sealed"],
)
def test_not_a_file_changes(disk: CosDisk, tmp_path: Path, layout: DiskLayout, grown: int) -> None:
    """Relocate: data moves along, PARTUUIDs stay; not a file of STATE or OEM changes, nor anything else on the disk."""
    moved = disk.copy(tmp_path / "disk", grown)
    before = disk.table()
    relocate(str(moved.path), targets_of(moved, layout), str(tmp_path / "journal"), lambda _: None)
    after = moved.table()
    assert {number: (place.type, place.uuid, place.name, place.attributes) for number, place in after.items()} == {
        number: (place.type, place.uuid, place.name, place.attributes) for number, place in before.items()
    }
    for number in (STATE, OEM):
        size = before[number].size
        assert moved.fingerprint(after[number].start, size) == disk.fingerprint(before[number].start, size)
        assert moved.files(number) == disk.files(number)
    assert {number: after[number] for number in KEPT} == {number: before[number] for number in KEPT}
    for number in (0, *KEPT):
        start, size = (before[number].start, before[number].size) if number else (0, 1)
        if number or not grown:  # the first sector holds the disk's size
            assert moved.fingerprint(start, size) == disk.fingerprint(start, size)
    assert after[ROOT_A].size == (8 if layout.reclaim else before[ROOT_A].size)
    assert len(moved.files(STATE)) == 129
    assert moved.path.stat().st_blocks * 512 < 80 * MIB  # holes stay holes


def test_again_changes_nothing(disk: CosDisk, tmp_path: Path) -> None:
    """Resumable: called again, with the journal or without it, also for what is to be done then."""
    moved, journal = disk.copy(tmp_path / "disk", GIB), tmp_path / "journal"
    targets = targets_of(moved, DiskLayout(oem_size=500 * MIB))
    said: list[str] = []
    relocate(str(moved.path), targets, str(journal), said.append)
    assert said[0].startswith("moving STATE (partition 1): 0 of 59")
    whole = moved.fingerprint(0, 11 * GIB // 512)
    said.clear()
    relocate(str(moved.path), targets, str(journal), said.append)
    relocate(str(moved.path), Targets(()), str(journal), said.append)
    journal.unlink()
    relocate(str(moved.path), targets, str(journal), said.append)
    journal.unlink()
    relocate(str(moved.path), targets_of(moved, DiskLayout(oem_size=500 * MIB)), str(journal), said.append)
    assert said == []
    assert not journal.exists()
    assert moved.fingerprint(0, 11 * GIB // 512) == whole


def test_other_disks_and_other_journals_are_refused(disk: CosDisk, tmp_path: Path) -> None:
    moved, journal = disk.copy(tmp_path / "disk", GIB), tmp_path / "journal"
    targets = targets_of(moved, DiskLayout(oem_size=500 * MIB))
    stranger = Targets((targets.placements[0]._replace(start=8), *targets.placements[1:]))
    with pytest.raises(DiskLayoutError, match="at neither their old nor their new places"):
        relocate(str(moved.path), stranger, str(journal), lambda _: None)
    with DiskFile(str(journal), writable=True) as file:
        RelocationJournal(file).begin(stranger.placements)
    with pytest.raises(DiskLayoutError, match="journal is about another layout of the disk"):
        relocate(str(moved.path), targets, str(journal), lambda _: None)
    with pytest.raises(FileNotFoundError):
        relocate(str(moved.path), targets, str(tmp_path / "no" / "journal"), lambda _: None)
    assert read_table(str(moved.path)).partitions == read_table(str(disk.path)).partitions


KILLED = """
import sys
from provisioner.cos.disk_layout import Placement, Targets
from provisioner.cos.relocation import relocate
relocate(sys.argv[1], eval(sys.argv[2]), sys.argv[3], lambda text: print(text, flush=True))
"""


def test_killed_at_any_line_it_goes_on(tmp_path: Path) -> None:
    """Resumable: the process that moves partitions is killed again and again, and ends with the same disk."""
    disk = make_cos_disk(tmp_path / "source", size=256 * MIB, root_sectors=32768)
    with disk.path.open("r+b") as file:
        file.seek(disk.table()[STATE].start * 512)
        file.write(random.Random(3).randbytes(69 * MIB))
    targets = targets_of(disk.copy(tmp_path / "wanted", 24 * MIB), DiskLayout(oem_size=24 * MIB))
    relocate(str(tmp_path / "wanted"), targets, str(tmp_path / "journal of it"), lambda _: None)
    for attempt in range(10):  # on a busy machine it may be done before it is killed
        cut = disk.copy(tmp_path / f"cut-{attempt}", 24 * MIB)
        ends = []
        for lines in (1, 2, 1, 3, 2, 1, 1, 1000):
            journal = tmp_path / f"journal-{attempt}"
            command = [sys.executable, "-c", KILLED, str(cut.path), repr(targets), str(journal)]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
                assert process.stdout
                said = [line for _, line in zip(range(lines), process.stdout, strict=False)]
                if len(said) == lines:
                    process.kill()
            ends.append(process.returncode)
        assert ends[-1] == 0
        tool("cmp", tmp_path / "wanted", cut.path)
        if ends.count(-signal.SIGKILL) >= 3:
            return
    pytest.fail("it was done each time before it could be killed three times")


# A disk of 640 sectors and its partitions: sfdisk makes it, and tests change it in memory.
TINY = """label: gpt
first-lba: 64
1: start=320, size=200, name=STATE
3: start=100, size=160, name=ROOT-A
8: start=64, size=24, name=OEM
"""
LAYS = slice(64 * 512, 600 * 512)  # in it, all data lie
MOVES = {
    "up": (Placement(1, "STATE", 320, 200, 360, 200), Placement(8, "OEM", 64, 24, 320, 40)),
    "up, far": (Placement(1, "STATE", 320, 200, 800, 200), Placement(8, "OEM", 64, 24, 320, 480)),
    "down": (Placement(3, "ROOT-A", 100, 160, 100, 8), Placement(1, "STATE", 320, 200, 304, 200)),
    "both": (
        *(Placement(3, "ROOT-A", 100, 160, 100, 8), Placement(1, "STATE", 320, 200, 272, 200)),
        Placement(8, "OEM", 64, 24, 112, 160),
    ),
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("tiny") / "disk.raw"
    path.write_bytes(bytes(640 * 512))
    tool("sfdisk", "-q", "--no-reread", "--no-tell-kernel", path, stdin=TINY)
    data = bytearray(path.read_bytes())
    for start, size in ((320, 200), (64, 24)):  # a third is zeros
        for sector in range(start, start + size):
            data[sector * 512 : sector * 512 + 512] = bytes(512) if sector % 3 == 0 else random.randbytes(512)
    return bytes(data)


class Machine:
    """A disk, and another one with the journal, on one power supply."""

    def __init__(self, disk: bytes, placements: tuple[Placement, ...], folder: Path) -> None:
        self.disk, self.file = disk, bytes(8192)
        self._placements = placements
        self._journal = str(folder / "journal")

    def relocate(self, power: Power) -> bool:
        """Relocate; return whether it was completed before the power went."""
        disk, file = MemoryDisk("disk", self.disk, power), MemoryDisk(self._journal, self.file, power)
        try:
            relocate_open(disk, self._placements, file, lambda _: None)
            done = True
        except PowerCut:
            disk.lose()
            file.lose()
            done = False
        self.disk, self.file = bytes(disk.durable), bytes(file.durable)
        return done


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("grown", [0, 512])
def test_power_cut_at_any_write_loses_nothing(tiny: bytes, tmp_path: Path, move: str, grown: int) -> None:
    """Resumable over reboots at any point: at every write and every sync the power goes, once, then again and again."""
    data = tiny + bytes(grown * 512)
    placements = [place for place in MOVES[move] if grown or place.new_start + place.new_size < 606]
    power = Power()
    untouched = Machine(data, tuple(placements), tmp_path)
    assert untouched.relocate(power)
    for place in placements:
        if place.number != ROOT_A:
            moved = untouched.disk[place.new_start * 512 :][: place.size * 512]
            assert moved == data[place.start * 512 :][: place.size * 512]
    for cut in range(power.operations):
        chance = random.Random(cut)
        machine = Machine(data, tuple(placements), tmp_path)
        assert not machine.relocate(Power(cut, seed=cut))
        if machine.disk[LAYS] != data[LAYS]:  # else firmware would write the backup where it was, into what has moved
            assert read_open_table(MemoryDisk("disk", machine.disk, Power())).backup == len(data) // 512 - 1
        while not machine.relocate(Power(chance.randrange(5, 40), seed=chance.randrange(1 << 30))):
            pass
        assert machine.disk == untouched.disk
