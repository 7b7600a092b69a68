"""Bootstrap against plain mmdebstrap and mke2fs -d of the same packages: `python -m benchmarks.bootstrap`.

The peers put their tree in memory too, where there is room for it, and leave out recommended packages, so that all
install the same list. All take turns in one run; compare no times across runs.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import LIMITS_HEAD, Candidate, busy, compare, limit_row, machine, met, table
from shared.clock import SystemClock
from shared.images.bootstrap.bootstrap import bootstrap_image
from shared.images.bootstrap.root_tree import BASE_PACKAGES
from shared.images.catalogue import Catalogue

FIRST, AGAIN, PLAIN = "goldsmith, first time", "goldsmith, again", "mmdebstrap, mke2fs -d"
MOST, MOST_AGAIN = 1.3, 3.0  # times the plain tools; seconds
ARCHIVE = "http://deb.debian.org/debian"
SOURCES = (
    f"deb {ARCHIVE} bookworm main",
    f"deb {ARCHIVE} bookworm-updates main",
    f"deb {ARCHIVE}-security bookworm-security main",
)
MEMORY_FILES = Path("/dev/shm")
PLAIN_SCRIPT = """\
set -eu
tree=$1 disk=$2 packages=$3
shift 3
mmdebstrap --variant=apt --format=directory --aptopt='APT::Install-Recommends "false"' --include="$packages" \\
    bookworm "$tree" "$@"
truncate --size=10G "$disk"
mke2fs -q -F -t ext4 -d "$tree" "$disk"
"""


def candidates(home: Path, tree: Path, disk: Path) -> list[Candidate]:
    """Return ours, for the first time and again, and the plain tools. All write their disk below the same folder."""
    ours = [sys.executable, "-m", "benchmarks.bootstrap", "--once", str(home)]

    def forget_ours() -> None:
        shutil.rmtree(home, ignore_errors=True)

    def forget_plain() -> None:
        shutil.rmtree(tree, ignore_errors=True)
        disk.unlink(missing_ok=True)

    plain = ["sh", "-c", PLAIN_SCRIPT, "sh", str(tree), str(disk), ",".join(BASE_PACKAGES), *SOURCES]
    return [
        Candidate(FIRST, [ours], prepare=forget_ours),
        Candidate(AGAIN, [ours]),
        Candidate(PLAIN, [plain], prepare=forget_plain),
    ]


def report(folder: Path, memory: Path, rounds: int) -> None:
    """Measure all, and print the table and what it is held to."""
    samples = compare(candidates(folder / "home", memory / "tree", folder / "disk.raw"), rounds, warm_up=False)
    print(f"{len(BASE_PACKAGES)} packages and what they need; {rounds} rounds; {busy()}; {machine()}\n")
    print(table(samples, PLAIN))
    print(LIMITS_HEAD)
    print(limit_row(samples, FIRST, PLAIN, MOST))
    again = max(samples[AGAIN], key=lambda sample: sample.wall)
    cells = f"{again.wall:.2f} s | {again.user + again.system:.2f} s"
    print(f"| {AGAIN}: under {MOST_AGAIN:g} s | {cells} | {met(again.wall, MOST_AGAIN)} |")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.bootstrap", description=__doc__)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where the disks go (2 GB); default: a temporary one")
    parser.add_argument("--once", type=Path, metavar="HOME", help="bootstrap once, into the catalogue of HOME")
    arguments = parser.parse_args()
    if arguments.once:
        bootstrap_image("debian-12", Catalogue(arguments.once, SystemClock()), home=arguments.once)
        return
    memory = MEMORY_FILES if MEMORY_FILES.is_dir() else arguments.folder
    with (
        tempfile.TemporaryDirectory(dir=arguments.folder) as folder,
        tempfile.TemporaryDirectory(dir=memory) as trees,
    ):
        report(Path(folder), Path(trees), arguments.rounds)


if __name__ == "__main__":
    main()
