"""The look into a finished disk of 3 GB against reading it once: `python -m benchmarks.hygiene`.

The disk holds this machine's own programs, libraries and documents, once where packages put them, and once where only
a build can have: then every file is looked into, which is the worst that can be. It is in memory when the first
candidate starts.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks.image_diff import make_tree, pack
from benchmarks.measure import Candidate, compare, machine, median, table
from shared.local.finished_disk import look_into

READ, PACKAGES, BUILD = "cat disk.raw", "look, files of packages", "look, files of the build"
LIMITS = {PACKAGES: 1.0, BUILD: 10.0}  # seconds of CPU
MEMORY = 100_000_000  # bytes
LOOK = "--look"


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


def report(rounds: int) -> None:
    """Measure all, and print the table and what it is held to."""
    with tempfile.TemporaryDirectory() as folder:
        samples = compare(candidates(Path(folder)), rounds)
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
        print(len(look_into(arguments.look, since=0)))


if __name__ == "__main__":
    main()
