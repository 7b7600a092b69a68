"""Export of a sparse disk against tar with gzip, pigz and igzip: `python -m benchmarks.export`.

The disk is made of this machine's own programs, libraries and documents, packed by mke2fs: the same every time on one
machine. All peers take turns in one run; compare no times across runs.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from benchmarks.measure import Candidate, Sample, compare, machine, median, ratio, run, table
from shared.archives.gzip_stream import Level, ahead, deflate, threads
from shared.disks.archive import publish_archive, write_archive
from shared.disks.archive_reader import verify_archive
from shared.disks.extents import data_extents

DISK_BYTES = 10 << 30
CHUNK = 512 << 10
# What the disk holds: MB of the first files of each folder. Debian's images have about this mixture.
CONTENTS = {"/usr/bin": 150, "/usr/lib/x86_64-linux-gnu": 250, "/usr/lib/python3": 40, "/usr/share": 170}
LARGEST = 20_000_000  # a larger file would be most of its folder's share
LEVELS: tuple[Level, Level] = ("fast", "best")

FAST, BEST = "goldsmith, fast", "goldsmith, best"
GZIP, PIGZ = "tar -S, gzip -6", "tar -S, pigz -6"
PEERS = {
    GZIP: ["gzip", "-6"],
    PIGZ: ["pigz", "-6"],
    "tar -S, pigz -1": ["pigz", "-1"],
    "tar -S, igzip -1": ["igzip", "-1"],
}


def proved(name: str) -> str:
    """Name the candidate that also reads the archive back and publishes it."""
    return f"{name}, proved and published"


def alone(name: str) -> str:
    """Name the candidate that only compresses."""
    return f"{name}: its compression alone"


def make_disk(disk: Path, start: int = 0) -> None:
    """Make the sparse disk with its file system, which begins at a byte that leaves room for a partition table."""
    with tempfile.TemporaryDirectory(dir=disk.parent) as name:
        tree = Path(name)
        for top, megabytes in CONTENTS.items():
            _fill(tree, Path(top), megabytes * 1_000_000)
        with disk.open("ab") as file:
            file.truncate(DISK_BYTES)
        options = "nodiscard,lazy_itable_init=1,lazy_journal_init=1,assume_storage_prezeroed=1"
        identity = "00000000-0000-4000-8000-000000000001"
        subprocess.run(
            [
                "mke2fs",
                "-qF",
                "-t",
                "ext4",
                "-b4096",
                "-U",
                identity,
                "-E",
                f"{options},hash_seed={identity},offset={start}",
                "-d",
                tree,
                disk,
                str((DISK_BYTES - 2 * start) // 4096),
            ],
            check=True,
            env={**os.environ, "E2FSPROGS_FAKE_TIME": "1700000000"},
        )


def _fill(tree: Path, top: Path, room: int) -> None:
    for folder, below, names in os.walk(top):
        below.sort()
        for name in sorted(names):
            source = Path(folder, name)
            size = source.lstat().st_size
            if source.is_symlink() or not source.is_file() or size > min(room, LARGEST):
                continue
            target = tree / source.relative_to("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(source, target)
            except OSError:  # another file system, or not ours to link
                shutil.copyfile(source, target)
            room -= size


def compress_alone(disk: Path, target: Path, level: Level) -> None:
    """Do what any exporter with this library and these threads must do: read, compress, write; and nothing else."""
    reader = os.open(disk, os.O_RDONLY)
    runs = data_extents(reader, disk.stat().st_size)
    pieces = [
        (start, min(CHUNK, offset + length - start))
        for offset, length in runs
        for start in range(offset, offset + length, CHUNK)
    ]

    def compress(offset: int, length: int) -> bytes:
        return deflate(os.pread(reader, length, offset), level)

    calls = (partial(compress, *piece) for piece in pieces)
    with target.open("wb") as out, closing(ahead(calls, threads(), 2 * threads())) as results:
        for deflated in results:
            out.write(deflated)
    os.close(reader)


def export(what: str, level: Level, disk: Path, target: Path) -> None:
    """Run one of our candidates in this process."""
    if what == "alone":
        compress_alone(disk, target, level)
        return
    staged = target.with_suffix(".part")
    archive = write_archive(disk, staged, level=level)
    if what == "proved":
        verify_archive(staged, archive)
        publish_archive(staged, target)
    else:
        staged.replace(target)


def candidates(disk: Path, target: Path) -> list[Candidate]:
    """List ours and the peers, each of which writes `target`."""

    def remove() -> None:
        target.unlink(missing_ok=True)

    def size() -> dict[str, float]:
        return {"MB": target.stat().st_size / 1e6}

    ours = [
        Candidate(
            called,
            [[sys.executable, "-m", "benchmarks.export", "--once", what, level, str(disk), str(target)]],
            prepare=remove,
            inspect=size,
        )
        for level, name in zip(LEVELS, (FAST, BEST), strict=True)
        for what, called in (("write", name), ("proved", proved(name)), ("alone", alone(name)))
    ]
    tar = ["tar", "-C", str(disk.parent), "-S", "-cf", "-", disk.name]
    peers = [
        Candidate(name, [tar, packer], output=target, prepare=remove, inspect=size) for name, packer in PEERS.items()
    ]
    return [*ours, *peers]


def report(folder: Path, rounds: int) -> None:
    """Measure all, and print the table and what it is held to."""
    disk = folder / "disk.raw"
    make_disk(disk)
    data = disk.stat().st_blocks * 512
    everyone = candidates(disk, folder / "out.tar.gz")
    os.sync()  # else the first to come would compete with the disk's own way to the platters
    run(everyone[0])  # and would be the one to read it into memory
    samples = compare(everyone, rounds, warm_up=False)
    print(f"{DISK_BYTES / 1e9:.1f} GB disk with {data / 1e6:.0f} MB of data; {rounds} rounds; {machine()}\n")
    print(table(samples, FAST))
    print("\n| required | measured |\n| --- | --- |")
    for required, measured in findings(samples):
        print(f"| {required} | {measured} |")


def findings(samples: Mapping[str, Sequence[Sample]]) -> list[tuple[str, str]]:
    """Print the limit of the export, and the result."""
    middle = {name: median(of_one) for name, of_one in samples.items()}

    def larger(name: str) -> str:
        return f"{(middle[name].figures['MB'] / middle[GZIP].figures['MB'] - 1) * 100:.1f} % larger"

    def faster(peer: str, ours: str) -> str:
        return f"{ratio(samples, peer, ours):.1f} times as fast"

    def beside_alone(name: str) -> str:
        cpu, cpu_alone = (middle[who].user + middle[who].system for who in (name, alone(name)))
        return f"{ratio(samples, name, alone(name)):.2f} times the time, {cpu / cpu_alone:.2f} times the CPU time"

    return [
        (f"fast: at least 10 times as fast as {GZIP}", faster(GZIP, FAST)),
        ("the same, proved and published", faster(GZIP, proved(FAST))),
        (f"fast: at least 4 times as fast as {PIGZ}", faster(PIGZ, FAST)),
        ("the same, proved and published", faster(PIGZ, proved(FAST))),
        (f"best: faster than {PIGZ}", faster(PIGZ, BEST)),
        ("fast: at most 15 % larger than gzip -6", larger(FAST)),
        ("best: at most 3 % larger than gzip -6", larger(BEST)),
        ("fast: at most 1.3 times its compression alone", beside_alone(FAST)),
        ("best: at most 1.3 times its compression alone", beside_alone(BEST)),
        ("peak memory below 150 MB", f"{max(middle[proved(name)].peak for name in (FAST, BEST)) / 1e6:.0f} MB"),
    ]


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.export", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--folder", type=Path, help="where the disk and the archives go (2 GB); default: a temporary one"
    )
    parser.add_argument(
        "--once", nargs=4, metavar=("WHAT", "LEVEL", "DISK", "TARGET"), help="run one candidate of ours"
    )
    arguments = parser.parse_args()
    if arguments.once:
        what, level, disk, target = arguments.once
        export(what, level, Path(disk), Path(target))
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        report(Path(name), arguments.rounds)


if __name__ == "__main__":
    main()
