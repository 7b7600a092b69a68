"""Small files are read whole or not at all, whatever lies in their place; a file is replaced as a whole."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from provisioner.job.inventory import take
from provisioner.system.files import read_text, write_whole
from provisioner.system.os_release import system_id


def test_a_file_is_read_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a\r\n\xff\n")
    (tmp_path / "link").symlink_to("a")
    assert read_text(str(tmp_path / "link"), 5) == "a\r\n\udcff\n"
    assert read_text(str(tmp_path / "a"), 5, "replace") == "a\r\n\ufffd\n"


def test_what_is_too_large_or_no_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(11))
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match="has more than 10 bytes"):
        read_text(str(tmp_path / "large"), 10)
    for path in (tmp_path / "fifo", Path("/dev/zero")):
        with pytest.raises(OSError, match="is not a regular file"):
            read_text(str(path), 10)
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(OSError, match=r"No such file|Is a directory|is not a regular file"):
            read_text(str(path), 10)


@pytest.mark.parametrize("put", [os.mkfifo, lambda path: path.symlink_to("/dev/zero"), os.mkdir])
def test_a_machine_whose_files_are_none_is_known_no_more(tmp_path: Path, put: Callable[[Path], None]) -> None:
    (tmp_path / "etc").mkdir()
    for name in ("os-release", "cos-package-info.json"):
        put(tmp_path / "etc" / name)
    (tmp_path / "usr/lib").mkdir(parents=True)
    assert system_id(str(tmp_path)) == ""
    lines, message = take(str(tmp_path))
    assert lines == ""
    assert message.startswith("0 packages; cos: ")
    (tmp_path / "usr/lib/os-release").write_text("ID=debian\n")
    assert system_id(str(tmp_path)) == "debian"


def test_a_new_file_takes_the_old_ones_name_and_not_its_place(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_whole(str(path), b"old" * 10_000)
    with path.open("rb") as reader:  # reads the blocks of the old file, as after a power cut
        write_whole(str(path), b"new")
        assert reader.read() == b"old" * 10_000
    assert path.read_bytes() == b"new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
    assert path.stat().st_mode & 0o077 == 0


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_whole(str(path), b"old")
    (tmp_path / "file.new").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_whole(str(path), b"new")
    assert path.read_bytes() == b"old"
