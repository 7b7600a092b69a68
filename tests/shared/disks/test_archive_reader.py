import gzip
import hashlib
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shared.disks.archive import Archive, write_archive
from shared.disks.archive_reader import verify_archive
from shared.errors import ImageFileError

MIB = 1 << 20


@pytest.fixture
def written(tmp_path: Path) -> Archive:
    with (tmp_path / "disk.raw").open("wb") as disk:
        disk.truncate(4 * MIB)
        disk.write(os.urandom(MIB))
        disk.seek(2 * MIB)
        disk.write(os.urandom(MIB))
    return write_archive(tmp_path / "disk.raw", tmp_path / "staged")


@pytest.mark.parametrize("place", [0, 3, 40, 5000, 400_000, -10, -5, -1])
def test_a_flipped_bit_is_found(written: Archive, place: int) -> None:
    data = bytearray(written.path.read_bytes())
    data[place] ^= 4
    written.path.write_bytes(data)
    with pytest.raises(ImageFileError, match="staged"):
        verify_archive(written.path, written)


@pytest.mark.parametrize("length", [0, 1, 18, 600_000])
def test_a_truncated_archive_is_found_and_the_place_named(written: Archive, length: int) -> None:
    os.truncate(written.path, length)
    with pytest.raises(ImageFileError, match=f"ends at byte {length}"):
        verify_archive(written.path, written)


def test_anything_appended_is_found(written: Archive) -> None:
    with written.path.open("ab") as file:
        file.write(b"\0")
    with pytest.raises(ImageFileError, match="follows"):
        verify_archive(written.path, written)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"sha256": "0" * 64}, "SHA-256"),
        ({"crc32": "00000000"}, "CRC-32"),
        ({"disk_bytes": 5 * MIB}, "4194304 bytes"),
        ({"data_bytes": MIB}, "bytes of data"),
    ],
)
def test_an_archive_of_another_disk_is_found(written: Archive, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ImageFileError, match=message):
        verify_archive(written.path, replace(written, **wrong))


def _packed(tar: bytes, like: Archive) -> Archive:
    """Make an archive of a tar stream of our own, whole as far as gzip is concerned."""
    like.path.write_bytes(gzip.compress(tar, 1))
    data = like.path.read_bytes()
    return replace(like, bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


def _renamed(tar: bytes) -> bytes:
    block = bytearray(tar[:512].replace(b"disk.raw", b"disk.img"))
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + tar[512:]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tar: tar + tar, "another member"),
        (lambda tar: tar[:-512], "before the end of its last record"),
        (lambda tar: tar[: -len(tar) // 2], "end of data"),
        (lambda tar: b"", "empty file|no member"),
        (lambda tar: bytes(10240), "no member"),
        (_renamed, r"disk\.img"),
        (lambda tar: tar[:5000] + b"!" + tar[5001:], "CRC-32"),
    ],
)
def test_a_wrong_tar_stream_is_found(written: Archive, change: Callable[[bytes], bytes], message: str) -> None:
    wrong = _packed(change(gzip.decompress(written.path.read_bytes())), written)
    with pytest.raises(ImageFileError, match=message) as caught:
        verify_archive(wrong.path, wrong)
    assert caught.value.__traceback__, "holds on to all frames, so that nothing ends for being forgotten"
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("export")]


def test_a_tar_stream_without_its_end_is_found(tmp_path: Path) -> None:
    """Header and data fill a record, so that only the blocks of zeros are missed."""
    (tmp_path / "disk.raw").write_bytes(os.urandom(19 * 512))
    whole = write_archive(tmp_path / "disk.raw", tmp_path / "staged")
    wrong = _packed(gzip.decompress(whole.path.read_bytes())[:10240], whole)
    with pytest.raises(ImageFileError, match="before the end of its last record"):
        verify_archive(wrong.path, wrong)


def test_an_absent_archive_is_named(written: Archive) -> None:
    written.path.unlink()
    with pytest.raises(ImageFileError, match="staged: cannot be read: No such file"):
        verify_archive(written.path, written)
