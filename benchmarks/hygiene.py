"""What the hygiene check finds, and how long it looks: `python -m benchmarks.hygiene`.

Recall and precision are those of the corpus in tests/provisioner/hygiene/corpus.py. Time is that of the look into a
finished disk of 3 GB against reading it once.

The disk holds this machine's own programs, libraries and documents, once where packages put them, and once where only
a build can have: then every file is looked into, which is the worst that can be. It is in memory when the first
candidate starts.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.image_diff import make_tree, pack
from benchmarks.measure import Candidate, compare, machine, median, table
from provisioner.hygiene.hygiene import check
from shared.disks.disk import Disk
from shared.images.hygiene import look_into
from tests.provisioner.hygiene.corpus import harmless, leftovers
from tests.provisioner.hygiene.memory_files import MemoryFile

READ, PACKAGES, BUILD = "cat disk.raw", "look, files of packages", "look, files of the build"
LIMITS = {PACKAGES: 1.0, BUILD: 10.0}  # seconds of CPU
MEMORY = 100_000_000  # bytes
LOOK = "--look"
SEEDS = 20


def candidates(folder: Path) -> list[Candidate]:
    """Make the two disks below a folder."""
    packages, build = folder / "packages.raw", folder / "build.raw"
    tree = folder / "tree"
    make_tree(tree)
    pack(tree, packages)
    (tree / "opt").mkdir()
    (tree / "usr").rename(tree / "opt/app")
    pack(tree, build)
    look = [sys.executable, "-m", "benchmarks.hygiene", LOOK]
    return [
        Candidate(READ, [["cat", packages]]),
        Candidate(PACKAGES, [[*look, packages]]),
        Candidate(BUILD, [[*look, build]]),
    ]


def quality(seeds: int) -> str:
    """Return a table of recall and precision, over secrets drawn anew for each seed."""
    bad, good = leftovers(), harmless()
    planted, files = seeds * len(bad), seeds * len(good)
    found, alarms, seconds = 0, 0, 0.0
    for seed in range(seeds):
        bad, good = leftovers(seed), harmless(seed)
        began = time.process_time()
        found += sum(len(check([MemoryFile(path, data)], "debian")) for path, data in bad.items())
        alarms += sum(len(check([MemoryFile(path, data)], "debian")) for path, data in good.items())
        seconds += time.process_time() - began
    rows = [
        f"| leftovers found | {found} of {planted} ({len(bad)} files, {seeds} times): recall {found / planted:.3f} |",
        f"| harmless files found | {alarms} of {files} ({len(good)} files, {seeds} times) |",
        f"| precision | {found / (found + alarms):.3f} |",
        f"| CPU time of a file | {seconds / (planted + files) * 1e6:.0f} µs |",
    ]
    return "\n".join(["| corpus | measured |", "| --- | --- |", *rows])


def report(rounds: int) -> None:
    """Measure all, and print the table and what it is held to."""
    with tempfile.TemporaryDirectory() as folder:
        samples = compare(candidates(Path(folder)), rounds)
    print(f"{quality(SEEDS)}\n")
    print(f"{rounds} rounds; {machine()}\n")
    print(table(samples, READ))
    print("\n| required | measured |\n| --- | --- |")
    for name, limit in LIMITS.items():
        middle = median(samples[name])
        print(f"| {name}: CPU time under {limit:g} s | {middle.user + middle.system:.2f} s |")
    print(f"| memory under {MEMORY / 1e6:g} MB | {max(median(samples[name]).peak for name in LIMITS) / 1e6:.0f} MB |")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.hygiene", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(LOOK, type=Path, metavar="DISK", help="only look into a disk, all of which is of the build")
    arguments = parser.parse_args()
    if arguments.look is None:
        report(arguments.rounds)
    else:
        print(len(look_into(Disk(arguments.look), None)))


if __name__ == "__main__":
    main()
