"""`images diff` of two disks of 3 GB against reading both once: `python -m benchmarks.image_diff`.

The disks hold this machine's own programs, libraries and documents, packed by mke2fs. The second is, once, a copy of
the first in which files were changed, added and removed, as a build of an image does; and once the changed tree packed
anew, so that hardly a file lies where it lay. All disks are in memory when the first candidate starts: what is
measured is the work, and no disk.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import Candidate, compare, machine, median, ratio, run, table
from shared.disks.ext4.reader import Ext4
from shared.disks.reader import DiskReader

DISK_BYTES, START = 3_000_000_000 // (1 << 20) * (1 << 20), 1 << 20
ROOM = 2_600_000_000  # bytes of files: file systems need some for themselves
LARGEST = 50_000_000  # a larger file would be most of its folder's share
SOURCE = Path("/usr")
DISKS = ("before.raw", "built.raw", "packed.raw")
CHANGED = 300  # files of each kind: of other bytes, of another mode, added, removed


def make_tree(tree: Path) -> None:
    """Link, or copy, this machine's own files into a tree until it is full."""
    room = ROOM
    for folder, below, names in os.walk(SOURCE):
        below.sort()
        target = tree / Path(folder).relative_to("/")
        target.mkdir(parents=True, exist_ok=True)
        for name in sorted(names):
            source = Path(folder, name)
            size = source.lstat().st_size
            if source.is_symlink():
                (target / name).symlink_to(source.readlink())
            elif source.is_file() and size <= min(room, LARGEST):
                shutil.copyfile(source, target / name)
                room -= size


def change_tree(tree: Path) -> None:
    """Do what a build may do: some files get other bytes, or another mode, or are removed or added."""
    files = sorted(path for path in tree.rglob("*") if path.is_file() and not path.is_symlink() and path.stat().st_size)
    step = len(files) // (3 * CHANGED)
    for index, path in enumerate(files[: 3 * CHANGED * step : step]):
        if index % 3 == 0:
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 1
            path.write_bytes(data)
        elif index % 3 == 1:
            path.chmod(0o600)
        else:
            path.unlink()
    for number in range(CHANGED):
        (tree / "usr" / f"added-{number}").write_bytes(b"added" * number)


def pack(tree: Path, disk: Path) -> None:
    """Pack a tree as the root of a disk."""
    with disk.open("wb") as file:
        file.truncate(DISK_BYTES)
    script = f"label: gpt\nstart={START // 512}, type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709\n"
    _run("sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", disk, stdin=script)
    blocks = (DISK_BYTES - 2 * START) // 4096
    _run("mke2fs", "-qF", "-t", "ext4", "-b4096", "-m0", "-E", f"offset={START}", "-d", tree, disk, str(blocks))


def change_disk(before: Path, tree: Path, disk: Path) -> None:
    """Make a copy of a disk hold what the tree holds now, file by file."""
    _run("cp", "--sparse=always", before, disk)
    requests = []
    with DiskReader(before) as reader:
        file_system = Ext4(reader, START, DISK_BYTES)
        for path, inode in file_system.walk():
            there = tree / path.lstrip("/")
            if inode.is_file and not there.exists():
                requests.append(f'rm "{path}"')
            elif inode.is_file and there.read_bytes() != file_system.read(inode):
                requests += [f'rm "{path}"', f'write "{there}" "{path}"']
            elif inode.is_file and there.stat().st_mode != inode.mode:
                requests.append(f'set_inode_field "{path}" mode 0{there.stat().st_mode:o}')
    added = sorted((tree / "usr").glob("added-*"))
    requests += [f'write "{path}" "/{path.relative_to(tree)}"' for path in added]
    _run("debugfs", "-w", "-f", "-", f"{disk}?offset={START}", stdin="\n".join(requests))


def _run(*arguments: str | Path, stdin: str = "") -> None:
    subprocess.run([str(argument) for argument in arguments], input=stdin, check=True, text=True, capture_output=True)


def make_disks(folder: Path) -> None:
    """Make the disks, and say what is in them."""
    tree, before, built, packed = (folder / name for name in ("tree", *DISKS))
    make_tree(tree)
    pack(tree, before)
    change_tree(tree)
    pack(tree, packed)
    change_disk(before, tree, built)
    shutil.rmtree(tree)
    with DiskReader(before) as reader:
        file_system = Ext4(reader, START, DISK_BYTES)
        sizes = [inode.size for _, inode in file_system.walk() if inode.is_file]
    print(
        f"{len(sizes)} files of {sum(sizes) / 1e9:.2f} GB in a disk of {DISK_BYTES / 1e9:.2f} GB; {machine()}\n",
        flush=True,
    )


def report(folder: Path, rounds: int) -> None:
    """Measure, and print the table and what it is held to."""
    # By a process of its own: a child of ours cannot have a peak below ours.
    subprocess.run([sys.executable, "-m", "benchmarks.image_diff", "--make", folder], check=True)
    before, built, packed = (folder / name for name in DISKS)
    environment = {"GOLDSMITH_HOME": str(folder / "home")}
    diff = [sys.executable, "-m", "goldsmith", "images", "diff", str(before)]
    candidates = [Candidate("cat of both", [["cat", before, built]])]
    for name, other in (("built from it", built), ("packed anew", packed)):
        candidates.append(Candidate(f"images diff, {name}", [[*diff, str(other)]], environment=environment))
    run(candidates[0])
    samples = compare(candidates, rounds)
    print(table(samples, "cat of both"))
    print("\n| required | measured |\n| --- | --- |")
    for name in list(samples)[1:]:
        print(f"| {name}: at most 2 times cat of both | {ratio(samples, name, 'cat of both'):.2f} times |")
        print(f"| {name}: memory below 200 MB | {median(samples[name]).peak / 1e6:.0f} MB |")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.image_diff", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the disks go (12 GB); default: a temporary one")
    parser.add_argument("--make", type=Path, metavar="FOLDER", help="only make the disks")
    arguments = parser.parse_args()
    if arguments.make:
        make_disks(arguments.make)
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        report(Path(name), arguments.rounds)


if __name__ == "__main__":
    main()
