import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from shared.disks.extents import copy_sparse, data_extents, need_space, written_file
from shared.errors import EnvironmentFault, ImageFileError, NoSpace

MIB = 1 << 20


def sparse(path: Path, size: int, *pieces: tuple[int, bytes]) -> Path:
    with path.open("wb") as file:
        file.truncate(size)
        for offset, data in pieces:
            file.seek(offset)
            file.write(data)
    return path


def extents_of(path: Path) -> list[tuple[int, int]]:
    with path.open("rb") as file:
        return list(data_extents(file.fileno(), path.stat().st_size))


def test_extents_are_the_runs_of_data_in_order(tmp_path: Path) -> None:
    disk = sparse(tmp_path / "disk", 64 * MIB, (0, b"a" * 4096), (8 * MIB, b"b" * 8192), (64 * MIB - 4096, b"c" * 4096))
    assert extents_of(disk) == [(0, 4096), (8 * MIB, 8192), (64 * MIB - 4096, 4096)]


@pytest.mark.parametrize("size", [0, 1, 4096, 10 << 30])
def test_a_file_of_holes_has_no_extents(tmp_path: Path, size: int) -> None:
    assert extents_of(sparse(tmp_path / "disk", size)) == []


def test_extents_end_at_an_unaligned_end(tmp_path: Path) -> None:
    assert extents_of(sparse(tmp_path / "disk", MIB + 5, (MIB, b"tail!"))) == [(MIB, 5)]


@pytest.mark.parametrize(("size", "expected"), [(4096, []), (MIB, []), (MIB + 5, [(MIB, 5)]), (9 * MIB, [(MIB, 4096)])])
def test_what_lies_beyond_the_size_is_not_told(tmp_path: Path, size: int, expected: list[tuple[int, int]]) -> None:
    """The file may have grown since its size was read."""
    with sparse(tmp_path / "disk", 9 * MIB, (MIB, b"x" * 4096)).open("rb") as file:
        assert list(data_extents(file.fileno(), size)) == expected


def test_a_file_that_cannot_be_sought_for_holes_is_one_extent() -> None:
    # Files of /proc have no SEEK_DATA: the kernel answers EINVAL.
    with Path("/proc/self/status").open("rb") as file:
        assert list(data_extents(file.fileno(), 100)) == [(0, 100)]


@pytest.mark.parametrize("elsewhere", [False, True], ids=["same file system", "another file system"])
def test_a_copy_has_the_same_bytes_size_and_holes(tmp_path: Path, elsewhere: bool) -> None:
    source = sparse(tmp_path / "source", 9 << 30, (0, b"boot"), (5 << 30, os.urandom(3 * MIB)), ((9 << 30) - 3, b"end"))
    folder = Path("/dev/shm") if elsewhere else tmp_path
    target = folder / f"copy-{os.getpid()}"
    try:
        copy_sparse(source, target)
        assert target.stat().st_size == 9 << 30
        assert extents_of(target) == extents_of(source)
        assert all(_piece(target, *extent) == _piece(source, *extent) for extent in extents_of(source))
        assert target.stat().st_blocks * 512 < 8 * MIB
    finally:
        target.unlink(missing_ok=True)


def _piece(path: Path, offset: int, length: int) -> bytes:
    with path.open("rb") as file:
        return os.pread(file.fileno(), length, offset)


def test_a_copy_replaces_what_was_there_and_leaves_nothing_else(tmp_path: Path) -> None:
    source = sparse(tmp_path / "source", MIB, (4096, b"new"))
    (tmp_path / "target").write_bytes(b"old")
    copy_sparse(source, tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == source.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source", "target"]


def test_an_absent_source_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageFileError, match="nothing"):
        copy_sparse(tmp_path / "nothing", tmp_path / "target")
    assert list(tmp_path.iterdir()) == []


def test_a_source_that_is_shorter_than_it_says_is_refused(tmp_path: Path) -> None:
    """Files of /sys are said to have a page, whatever is in them."""
    with pytest.raises(ImageFileError, match="online: ends at byte"):
        copy_sparse(Path("/sys/devices/system/cpu/online"), tmp_path / "target")
    assert list(tmp_path.iterdir()) == []


def test_an_absent_folder_is_named(tmp_path: Path) -> None:
    source = sparse(tmp_path / "source", MIB, (0, b"x"))
    with pytest.raises(EnvironmentFault, match="absent"):
        copy_sparse(source, tmp_path / "absent" / "target")


def test_too_little_space_is_found_before_anything_is_written(tmp_path: Path) -> None:
    state = os.statvfs(tmp_path)
    with pytest.raises(NoSpace, match="are needed"):
        need_space(tmp_path, state.f_blocks * state.f_frsize + 1)


def _write_half(path: Path, fault: BaseException) -> None:
    with written_file(path) as fd:
        os.write(fd, b"half")
        raise fault


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_file_system_leaves_nothing(tmp_path: Path, code: int) -> None:
    with pytest.raises(NoSpace, match=str(tmp_path)):
        _write_half(tmp_path / "half", OSError(code, os.strerror(code)))
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        _write_half(tmp_path / "half", KeyboardInterrupt())
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_exists_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "kept").write_bytes(b"kept")
    with pytest.raises(EnvironmentFault, match="exists already"), written_file(tmp_path / "kept"):
        pass
    assert (tmp_path / "kept").read_bytes() == b"kept"


def test_a_copy_cut_short_by_a_file_size_limit_leaves_nothing(tmp_path: Path) -> None:
    """The real system says no in the middle: a process that may write 1 MiB at most copies 3 MiB."""
    source = sparse(tmp_path / "source", 3 * MIB, (0, os.urandom(3 * MIB)))
    script = (
        "import resource, signal, sys; from pathlib import Path; from shared.disks.extents import copy_sparse\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))\n"
        "copy_sparse(Path(sys.argv[1]), Path(sys.argv[2]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, source, tmp_path / "target"], capture_output=True, text=True, check=False
    )
    assert "EnvironmentFault" in done.stderr
    assert list(tmp_path.iterdir()) == [source]
