"""Relocation and sealing of a 2 GB OEM against sfdisk --move-data and veritysetup: `python -m benchmarks.disk_layout`.

A disk as Container-Optimized OS's, of 13 GB, whose STATE (6 GB) moves up by 2 GB and whose OEM takes its place; once
with STATE full of data, once with a quarter of it. OEM's 2 GB are hashed in a file of their own, since veritysetup
has no option for the offset of the data in a disk. Each time ends when all data are on the disk: ours
and veritysetup see to that, sfdisk is followed by sync. All take turns in one run; compare no times across runs.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.measure import Candidate, Sample, compare, machine, table
from provisioner.cos.disk_layout import Placement, Targets, wanted_layout
from provisioner.cos.relocation import relocate
from provisioner.cos.verity import BLOCK, seal, tree_blocks
from provisioner.protocol import DiskLayout
from provisioner.system.partition_table import SECTOR, read_table

GB, MB = 1 << 30, 1 << 20
DISK = 13 * GB  # 10 and what is needed for twice the file system, less what is reclaimed
BLOCKS = 2 * GB // BLOCK  # of OEM's file system
LAYOUT = DiskLayout(reclaim=True, oem_size=4 * GB - MB, oem_blocks=BLOCKS)
SALT = bytes(range(32))
ROOT_A, STATE = 4509696, 8704000  # sectors at which they begin
STATE_SECTORS = 12267480
PARTITIONS = f"""\
label: gpt
first-lba: 64
8: start=86016, size=32768, name=OEM
3: start={ROOT_A}, size=4194304, name=ROOT-A
1: start={STATE}, size={STATE_SECTORS}, name=STATE
"""
MOVE_DATA = """\
set -eu
move() { echo "$2" | sfdisk -q --no-reread --no-tell-kernel $3 -N "$1" "$disk"; }
disk=$1
move 3 ,8 ''
move 1 "$2" --move-data=/dev/null
move 8 "$3" --move-data=/dev/null
move 8 ",$4" ''
sync "$disk"
"""
OURS, THEIRS = "goldsmith: relocation", "sfdisk --move-data"
SEAL, VERITYSETUP = "goldsmith: sealing", "veritysetup format"
SHARES = {"STATE full": 1.0, "STATE a quarter full": 0.25}


def make_disk(path: Path, share: float) -> str:
    """Make a disk of which `share` of STATE's MiB hold data, evenly; give what is to be moved."""
    path.touch()
    os.truncate(path, DISK)
    command = ["sfdisk", "-q", "--no-reread", "--no-tell-kernel", str(path)]
    subprocess.run(command, input=PARTITIONS, text=True, check=True)
    source = random.Random(1)
    with path.open("r+b") as file:
        for offset in data_of(share):
            file.seek(offset)
            file.write(source.randbytes(MB))
    found = read_table(str(path))
    return json.dumps(wanted_layout(found, LAYOUT, found.disk_sectors).placements)


def read_targets(text: str) -> Targets:
    """Read what make_disk() gave."""
    return Targets(tuple(Placement(*values) for values in json.loads(text)))


def data_of(share: float) -> Iterator[int]:
    """Return the offsets of the MiB that hold data."""
    yield from range(86016 * SECTOR, 86016 * SECTOR + 16 * MB, MB)
    begin, count = STATE * SECTOR, STATE_SECTORS * SECTOR // MB
    yield from (begin + index * MB for index in range(count) if int(index * share) != int((index + 1) * share))


def moving(name: str, source: Path, targets: str) -> list[Candidate]:
    """List ours and the peer, each of which gets a fresh copy of the disk."""
    disk = source.with_suffix(".moved")

    def renew() -> None:
        disk.with_suffix(".journal").unlink(missing_ok=True)
        disk.unlink(missing_ok=True)
        subprocess.run(["cp", "--sparse=always", source, disk], check=True)
        os.sync()

    state, oem = (place for place in read_targets(targets).placements if place.number != 3)
    places = [str(number) for number in (state.new_start, oem.new_start, oem.new_size)]
    ours: list[str | Path] = [sys.executable, "-m", "benchmarks.disk_layout", "--once", disk, targets]
    return [
        Candidate(f"{OURS}, {name}", [ours], prepare=renew),
        Candidate(f"{THEIRS}, {name}", [["sh", "-c", MOVE_DATA, "sh", disk, *places]], prepare=renew),
    ]


def sealing(oem: Path) -> list[Candidate]:
    """List ours and the peer, which both write the same tree behind the same data."""
    with oem.open("wb") as file:
        for _ in range(BLOCKS * BLOCK // MB):
            file.write(random.randbytes(MB))
        file.write(bytes(tree_blocks(BLOCKS) * BLOCK))
    options = [
        *("--data-block-size=4096", "--hash-block-size=4096", f"--data-blocks={BLOCKS}", "--no-superblock"),
        *(f"--hash-offset={BLOCKS * BLOCK}", "--format=0", f"--salt={SALT.hex()}"),
    ]
    return [
        Candidate(SEAL, [[sys.executable, "-m", "benchmarks.disk_layout", "--once", oem, ""]], prepare=os.sync),
        Candidate(VERITYSETUP, [["veritysetup", "format", oem, oem, *options]], prepare=os.sync),
    ]


def report(folder: Path, rounds: int) -> None:
    """Measure all, and print the table and what it is held to."""
    everyone = sealing(folder / "oem")
    for name, share in SHARES.items():
        disk = folder / f"{name}.disk"
        everyone += moving(name, disk, make_disk(disk, share))
    samples = compare(everyone, rounds, warm_up=False)
    print(f"{DISK >> 30} GB disk, {rounds} rounds; {machine()}\n")
    print(table(samples, VERITYSETUP))
    print("\n| required | measured |\n| --- | --- |")
    for required, measured in findings(samples):
        print(f"| {required} | {measured} |")


def findings(samples: Mapping[str, Sequence[Sample]]) -> list[tuple[str, str]]:
    """Print the limits of relocation and sealing, and the results: medians of the rounds' own ratios."""
    found = []
    for name in SHARES:
        ratios = [
            (moved.wall + sealed.wall) / (peer_moved.wall + peer_sealed.wall)
            for moved, sealed, peer_moved, peer_sealed in zip(
                *(samples[who] for who in (f"{OURS}, {name}", SEAL, f"{THEIRS}, {name}", VERITYSETUP)), strict=True
            )
        ]
        limit = f"{name}: at most 1.2 times sfdisk and veritysetup together"
        found.append((limit, f"{statistics.median(ratios):.2f} times"))
    return found


def once(path: str, targets: str) -> None:
    """Relocate, or, where nothing is to be moved, seal."""
    if targets:
        relocate(path, read_targets(targets), f"{path.removesuffix('.moved')}.journal", print)
    else:
        print(seal(path, 0, BLOCKS, SALT).root_hash)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.disk_layout", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the disks go (20 GB); default: a temporary one")
    parser.add_argument("--once", nargs=2, metavar=("PATH", "TARGETS"), help="relocate or seal once")
    arguments = parser.parse_args()
    if arguments.once:
        once(*arguments.once)
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        report(Path(name), arguments.rounds)


if __name__ == "__main__":
    main()
