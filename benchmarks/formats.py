"""Export of several formats at once against each of them alone: `python -m benchmarks.formats`.

The disk is that of benchmarks.export, in a partition. For every set of formats, the export of all of them and those of
each alone take turns in one run; quoted is the ratio of all to the slowest alone.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.export import DISK_BYTES, make_disk
from benchmarks.measure import LIMITS_HEAD, Candidate, busy, compare, limit_row, machine, median, table
from shared.build.export_formats import chosen_formats
from shared.disks.formats.export import export_formats
from shared.disks.formats.work import ExportOrigin

SETS = (
    ("gce", "raw", "qcow2", "vmdk", "vhd"),
    ("gce", "qcow2", "vmdk", "tar.zst", "oci"),
)
START = 1 << 20  # byte of the disk where its one partition begins
LIMIT = 1.3  # all of a set, times the slowest of it


def export(disk: Path, folder: Path, formats: Sequence[str]) -> None:
    """Export in this process."""
    targets = {known: folder / f"image{known.ending}" for known in chosen_formats(formats)}
    origin = ExportOrigin("image", "X86_64", 1_700_000_000.0)
    export_formats(disk, targets, folder, origin, level="fast", progress=lambda _done, _total: None)


def candidate(disk: Path, folder: Path, formats: Sequence[str]) -> Candidate:
    """Return the command that exports in some formats; the files of the export before are replaced."""
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "benchmarks.formats",
        "--disk",
        disk,
        "--into",
        folder,
        "--only",
        *formats,
    ]
    return Candidate(", ".join(formats), [command])


def main() -> None:
    """Measure all sets, or export once for a measurement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--disk", type=Path)
    parser.add_argument("--into", type=Path)
    parser.add_argument("--only", nargs="+")
    arguments = parser.parse_args()
    if arguments.only:
        export(arguments.disk, arguments.into, arguments.only)
        return
    print(f"{busy()}; {machine()}\n")
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        disk, folder = Path(name, "disk.raw"), Path(name, "out")
        folder.mkdir()
        with disk.open("wb") as file:
            file.truncate(DISK_BYTES)
        table_of_one = f"label: gpt\nstart={START // 512}, size={(DISK_BYTES - 2 * START) // 512}, type=linux\n"
        subprocess.run(["sfdisk", "--quiet", disk], input=table_of_one, text=True, check=True)
        make_disk(disk, START)
        for formats in SETS:
            alone = [candidate(disk, folder, [known]) for known in formats]
            samples = compare([candidate(disk, folder, formats), *alone], arguments.rounds)
            slowest = max(formats, key=lambda known: median(samples[known]).wall)
            print(table(samples, slowest))
            processors = sum(median(samples[known]).user + median(samples[known]).system for known in formats)
            print(LIMITS_HEAD)
            print(limit_row(samples, ", ".join(formats), slowest, LIMIT))
            print(f"\nthe CPU time of each alone, added up: {processors:.2f} s\n")


if __name__ == "__main__":
    main()
