import gzip
import hashlib
import os
import random
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.archives.gzip_stream import Level
from shared.disks.archive import Archive, publish_archive, write_archive
from shared.disks.archive_reader import verify_archive
from shared.disks.extents import data_extents
from shared.errors import AlreadyExists, EnvironmentFault, ImageFileError, NotFound, Permanent, Transient

BLOCK = 4096
MIB = 1 << 20
GIB = 1 << 30
TAR = ["tar", "-S", "--format=gnu", "--owner=root", "--group=root", "--mtime=@0", "--mode=644", "-cf", "-", "disk.raw"]


def make_disk(folder: Path, size: int, runs: Sequence[tuple[int, int]]) -> Path:
    """Make disk.raw with half-compressible data at runs of (offset, length), the same every time."""
    disk = folder / "disk.raw"
    dice = random.Random(size)
    with disk.open("wb") as file:
        file.truncate(size)
        for offset, length in runs:
            file.seek(offset)
            file.write((dice.randbytes(length // 2 + 1) + b"text" * (length // 8 + 1))[: min(length, size - offset)])
    return disk


def extents_of(path: Path) -> list[tuple[int, int]]:
    with path.open("rb") as file:
        return list(data_extents(file.fileno(), path.stat().st_size))


def data_of(path: Path) -> list[bytes]:
    with path.open("rb") as file:
        return [os.pread(file.fileno(), length, offset) for offset, length in extents_of(path)]


@contextmanager
def folder() -> Iterator[Path]:
    """Yield a fresh folder: Hypothesis runs a test many times, and tmp_path would be one for all."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


LAYOUTS = {
    "empty": (0, []),
    "all hole": (MIB, []),
    "all data": (MIB, [(0, MIB)]),
    "all data, unaligned": (MIB + 77, [(0, MIB + 77)]),
    "a single byte": (1, [(0, 1)]),
    "data at the very end": (4 * MIB, [(4 * MIB - BLOCK, BLOCK)]),
    "unaligned end of data": (MIB + 77, [(MIB, 77)]),
    "unaligned end in a hole": (MIB + 77, [(0, BLOCK)]),
    "beyond 8 GiB": (10 * GIB, [(0, 3 * MIB), (9 * GIB, MIB), (10 * GIB - BLOCK, BLOCK)]),
    "between 1 and 8 GiB": (7 * GIB, [(0, BLOCK), (5 * GIB, BLOCK), (7 * GIB - BLOCK, BLOCK)]),
    "one block of extensions": (MIB, [(i * 3 * BLOCK, BLOCK) for i in range(24)]),
    "thousands of extents": (32 * MIB, [(i * 2 * BLOCK, BLOCK) for i in range(3000)]),
}


@pytest.mark.parametrize("level", ["fast", "best"])
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_the_tar_stream_is_that_of_gnu_tar(
    tmp_path: Path, layout: tuple[int, list[tuple[int, int]]], level: Level
) -> None:
    disk = make_disk(tmp_path, *layout)
    archive = write_archive(disk, tmp_path / "staged", level=level)
    expected = subprocess.run(TAR, cwd=tmp_path, capture_output=True, check=True).stdout
    assert gzip.decompress((tmp_path / "staged").read_bytes()) == expected
    assert verify_archive(tmp_path / "staged", archive) == hashlib.sha256(expected).hexdigest()


@settings(max_examples=40, deadline=None)
@given(
    steps=st.lists(st.tuples(st.integers(0, 40), st.integers(1, 40)), max_size=60),
    tail=st.integers(0, 3 * BLOCK),
    far=st.sampled_from([0, 0, 9 * GIB]),
    level=st.sampled_from(["fast", "best"]),
)
def test_tar_gives_the_disk_back_with_its_holes(
    steps: list[tuple[int, int]], tail: int, far: int, level: Level
) -> None:
    runs, end = [], far
    for gap, blocks in steps:
        runs.append((end + gap * BLOCK, blocks * BLOCK))
        end += (gap + blocks) * BLOCK
    with folder() as here:
        disk = make_disk(here, end + tail, runs)
        archive = write_archive(disk, here / "staged.tar.gz", level=level)
        (here / "out").mkdir()
        subprocess.run(["gzip", "-t", here / "staged.tar.gz"], check=True)
        subprocess.run(["tar", "-xSf", here / "staged.tar.gz", "-C", here / "out"], check=True)
        back = here / "out" / "disk.raw"
        assert back.stat().st_size == end + tail
        assert extents_of(back) == extents_of(disk)
        assert data_of(back) == data_of(disk)
        with tarfile.open(here / "staged.tar.gz") as tar:
            assert [(member.name, member.size) for member in tar] == [("disk.raw", end + tail)]
        verify_archive(here / "staged.tar.gz", archive)


def test_the_digests_are_those_that_plain_commands_print(tmp_path: Path) -> None:
    disk = make_disk(tmp_path, 5 * MIB + 7, [(MIB, MIB), (3 * MIB, BLOCK)])
    archive = write_archive(disk, tmp_path / "a.tar.gz")
    tar_sha256 = verify_archive(tmp_path / "a.tar.gz", archive)

    def shown(command: str) -> str:
        return subprocess.run(
            ["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout.split()[0]

    assert shown("sha256sum a.tar.gz") == archive.sha256
    assert shown("gzip -dc a.tar.gz | sha256sum") == tar_sha256
    assert shown("tar -xOf a.tar.gz | gzip -1 | tail -c8 | od -An -tx4 -N4") == archive.crc32
    assert (archive.disk_bytes, archive.data_bytes) == (5 * MIB + 7, MIB + BLOCK)
    assert archive.bytes == (tmp_path / "a.tar.gz").stat().st_size


def test_the_same_disk_gives_the_same_archive_whatever_the_number_of_threads(tmp_path: Path) -> None:
    disk = make_disk(tmp_path, 8 * MIB, [(0, 3 * MIB), (5 * MIB, MIB)])
    many = write_archive(disk, tmp_path / "many")
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, [min(allowed)])
        one = write_archive(disk, tmp_path / "one")
    finally:
        os.sched_setaffinity(0, allowed)
    assert one.sha256 == many.sha256


def test_best_is_smaller(tmp_path: Path) -> None:
    text = b"".join(b"line %d of a log that is much like the one before it\n" % number for number in range(40_000))
    (tmp_path / "disk.raw").write_bytes(text)
    fast = write_archive(tmp_path / "disk.raw", tmp_path / "fast", level="fast")
    best = write_archive(tmp_path / "disk.raw", tmp_path / "best", level="best")
    assert best.bytes < fast.bytes


def test_progress_counts_data_up_to_all_of_it(tmp_path: Path) -> None:
    disk = make_disk(tmp_path, 64 * MIB, [(0, 2 * MIB), (32 * MIB, MIB + BLOCK)])
    seen: list[tuple[int, int]] = []
    archive = write_archive(disk, tmp_path / "staged", progress=lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen)
    assert seen[-1] == (3 * MIB + BLOCK, 3 * MIB + BLOCK)
    read: list[tuple[int, int]] = []
    verify_archive(tmp_path / "staged", archive, progress=lambda done, total: read.append((done, total)))
    assert read[-1] == (archive.bytes, archive.bytes)


# Faults while writing: whatever happens, nothing is left, neither files nor threads.


def _assert_nothing_left(folder: Path) -> None:
    assert [path.name for path in folder.iterdir()] == ["disk.raw"]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("export")]


def _during_export(disk: Path, action: Callable[[], object]) -> Archive:
    """Export a disk and do something after the first chunk."""
    actions = iter([action])

    def progress(_done: int, _total: int) -> None:
        for first in actions:
            first()

    return write_archive(disk, disk.with_name("staged"), progress=progress)


def _append(disk: Path) -> None:
    with disk.open("ab") as file:
        file.write(b"more")


def _touch(disk: Path) -> None:
    with disk.open("r+b") as file:
        file.write(b"changed")


@pytest.mark.parametrize(
    "change", [lambda disk: os.truncate(disk, MIB), _append, _touch], ids=["shorter", "longer", "written"]
)
def test_a_disk_that_changes_is_refused(tmp_path: Path, change: Callable[[Path], None]) -> None:
    disk = make_disk(tmp_path, 24 * MIB, [(0, 24 * MIB)])
    with pytest.raises(Permanent, match=r"disk\.raw: .*stop what writes to it"):
        _during_export(disk, lambda: change(disk))
    _assert_nothing_left(tmp_path)


def test_an_export_that_progress_ends_leaves_nothing(tmp_path: Path) -> None:
    """So the dispatcher ends an export that is no longer wanted."""

    def unwanted(done: int, total: int) -> None:
        raise Transient(f"not wanted after {done} of {total} bytes")

    with pytest.raises(Transient, match="not wanted after"):
        write_archive(make_disk(tmp_path, 8 * MIB, [(0, 8 * MIB)]), tmp_path / "staged", progress=unwanted)
    _assert_nothing_left(tmp_path)


def test_an_interrupt_ends_threads_and_leaves_nothing(tmp_path: Path) -> None:
    disk = make_disk(tmp_path, 24 * MIB, [(0, 24 * MIB)])
    with pytest.raises(KeyboardInterrupt):
        _during_export(disk, lambda: os.kill(os.getpid(), signal.SIGINT))
    _assert_nothing_left(tmp_path)


KILLED = """
import os, signal, sys
from pathlib import Path
from shared.disks.archive import write_archive
write_archive(Path(sys.argv[1]), Path(sys.argv[2]), progress=lambda done, total: os.kill(os.getpid(), signal.SIGKILL))
"""


def test_a_killed_export_leaves_its_staged_file_alone_which_the_next_replaces(tmp_path: Path) -> None:
    disk = make_disk(tmp_path, 8 * MIB, [(0, 8 * MIB)])
    done = subprocess.run([sys.executable, "-c", KILLED, disk, tmp_path / "staged"], check=False)
    assert done.returncode == -signal.SIGKILL
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk.raw", "staged"]
    verify_archive(tmp_path / "staged", write_archive(disk, tmp_path / "staged"))


def test_a_full_file_system_is_named_and_left_empty(tmp_path: Path) -> None:
    """A real one: a file system of 1 MiB in a mount namespace of its own."""
    disk = make_disk(tmp_path, 16 * MIB, [(0, 16 * MIB)])
    (tmp_path / "small").mkdir()
    script = (
        "import os, sys; from pathlib import Path\n"
        "from shared.errors import NoSpace; from shared.disks.archive import write_archive\n"
        "try: write_archive(Path(sys.argv[1]), Path(sys.argv[2]) / 'staged')\n"
        "except NoSpace as error: print(error, os.listdir(sys.argv[2]))\n"
    )
    mount = 'mount -t tmpfs -o size=1m none "$1" && exec "$2" -c "$3" "$4" "$1"'
    done = subprocess.run(
        [
            "unshare",
            "--user",
            "--map-root-user",
            "--mount",
            "sh",
            "-c",
            mount,
            "sh",
            tmp_path / "small",
            sys.executable,
            script,
            disk,
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith(f"no space: {tmp_path / 'small'}: the file system is full")
    assert done.stdout.endswith("[]\n")


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    disk = make_disk(tmp_path, MIB, [])
    with pytest.raises(EnvironmentFault, match=str(tmp_path / "absent")):
        write_archive(disk, tmp_path / "absent" / "staged")
    with pytest.raises(EnvironmentFault, match="/proc/staged"):
        write_archive(disk, Path("/proc/staged"))


def test_an_absent_disk_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageFileError, match=r"disk\.raw: No such file"):
        write_archive(tmp_path / "disk.raw", tmp_path / "staged")


# Publication.


@pytest.fixture
def written(tmp_path: Path) -> Archive:
    return write_archive(make_disk(tmp_path, 4 * MIB, [(0, MIB), (2 * MIB, MIB)]), tmp_path / "staged")


def test_a_published_archive_has_its_name_and_nothing_else(written: Archive, tmp_path: Path) -> None:
    data = written.path.read_bytes()
    publish_archive(written.path, tmp_path / "image.tar.gz")
    assert (tmp_path / "image.tar.gz").read_bytes() == data
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk.raw", "image.tar.gz"]


def test_another_file_of_that_name_is_never_overwritten(written: Archive, tmp_path: Path) -> None:
    (tmp_path / "image.tar.gz").write_bytes(b"precious")
    with pytest.raises(AlreadyExists, match=r"image\.tar\.gz"):
        publish_archive(written.path, tmp_path / "image.tar.gz")
    assert (tmp_path / "image.tar.gz").read_bytes() == b"precious"
    assert written.path.exists()


@pytest.mark.parametrize("again", ["same file", "same bytes"])
def test_publication_goes_on_where_it_was_cut_off(written: Archive, tmp_path: Path, again: str) -> None:
    final = tmp_path / "image.tar.gz"
    if again == "same file":
        final.hardlink_to(written.path)
    else:
        final.write_bytes(written.path.read_bytes())
    publish_archive(written.path, final)
    assert not written.path.exists()
    assert verify_archive(final, written)


def test_faults_of_publication_name_the_file(written: Archive, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match="absent"):
        publish_archive(written.path, tmp_path / "absent" / "image.tar.gz")
    assert written.path.exists()
    with pytest.raises(NotFound, match="nothing"):
        publish_archive(tmp_path / "nothing", tmp_path / "image.tar.gz")
