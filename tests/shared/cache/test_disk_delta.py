"""The changed blocks of a disk: what QEMU writes is read as QEMU reads it, and anything else is refused."""

from __future__ import annotations

import os
import random
import struct
from pathlib import Path

import pytest

from shared.cache.disk_delta import DiskChange, apply_delta, create_delta, read_delta
from shared.errors import ImageFileError
from tests.shared.disks.small_disks import tool

KIB, MIB = 1 << 10, 1 << 20
SIZE = 7 * MIB + 3 * KIB  # four second tables, and a last cluster that is not whole


def write(path: Path, *commands: str, size: int = SIZE, options: str = "cluster_size=4k") -> Path:
    tool("qemu-img", "create", "-q", "-f", "qcow2", "-o", options, path, str(size))
    return change(path, *commands)


def change(path: Path, *commands: str) -> Path:
    tool("qemu-io", "-f", "qcow2", *(word for command in commands for word in ("-c", command)), path)
    return path


def applied(delta: Path, disk: Path, size: int = SIZE) -> Path:
    with disk.open("r+b") as file:
        apply_delta(delta, read_delta(delta, size), file.fileno())
    return disk


def filled(path: Path, size: int = SIZE) -> Path:
    """Make a disk with data where the deltas of these tests change it."""
    with path.open("wb") as file:
        file.truncate(size)
        for start in (0, 3 * MIB, 5 * MIB):
            file.seek(start)
            file.write(b"\x55" * (2 * MIB))
        file.seek(size - 5 * KIB)
        file.write(b"\x55" * 5 * KIB)
    return path


def test_what_qemu_has_written_is_applied(tmp_path: Path) -> None:
    delta = write(
        tmp_path / "delta",
        *("write -P 1 64k 128k", "write -P 2 1M 64k", "write -z 3M 192k", "write -P 3 6M 64k"),
        "write -P 4 7M 3k",
    )
    disk = applied(delta, filled(tmp_path / "disk"))
    expected = bytearray(filled(tmp_path / "expected").read_bytes())
    for start, length, value in (
        (64 * KIB, 128 * KIB, 1),
        (MIB, 64 * KIB, 2),
        (3 * MIB, 192 * KIB, 0),
        (6 * MIB, 64 * KIB, 3),
        (7 * MIB, 3 * KIB, 4),
    ):
        expected[start : start + length] = bytes([value]) * length
    assert disk.read_bytes() == bytes(expected)
    assert len(read_delta(delta, SIZE)) == 5  # neighbours are one range
    with disk.open("rb") as file:
        assert os.lseek(file.fileno(), 3 * MIB, os.SEEK_DATA) == 3 * MIB + 192 * KIB  # zeros take no room


@pytest.mark.parametrize("size", [600 * MIB + 3 * KIB, 10 << 30, 3 << 40])
def test_an_empty_delta_is_one_for_qemu(tmp_path: Path, size: int) -> None:
    path = tmp_path / "delta"
    create_delta(path, size)
    assert read_delta(path, size) == []
    assert "No errors were found" in tool("qemu-img", "check", "-f", "qcow2", path)
    change(path, f"write -P 9 {size - 64 * KIB} {64 * KIB - size % 512}")
    found = read_delta(path, size)
    assert found[0].start <= size - 64 * KIB
    assert found[-1].start + found[-1].length == size
    assert path.stat().st_mode & 0o777 == 0o600


def test_other_kinds_of_files_are_refused(tmp_path: Path) -> None:
    plain = write(tmp_path / "plain", "write -P 1 0 64k")
    raw = filled(tmp_path / "raw")
    tool("qemu-img", "convert", "-q", "-c", "-f", "raw", "-O", "qcow2", raw, tmp_path / "compressed")
    tool(
        *("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", raw, tmp_path / "backed"),
    )
    write(tmp_path / "old", "write -P 1 0 64k", options="compat=0.10")
    write(tmp_path / "apart", "write -P 1 0 64k", options=f"data_file={tmp_path / 'data'}")
    tool("qemu-img", "snapshot", "-c", "one", write(tmp_path / "snapshot", "write -P 1 0 64k"))
    assert len(read_delta(plain, SIZE)) == 1
    for name in ("raw", "compressed", "backed", "old", "apart", "snapshot"):
        with pytest.raises(ImageFileError, match=name):
            read_delta(tmp_path / name, SIZE)
    with pytest.raises(ImageFileError, match="for a disk of"):
        read_delta(plain, SIZE + 512)


@pytest.mark.parametrize(
    ("offset", "value"),
    [
        (20, struct.pack(">I", 40)),
        (36, struct.pack(">I", 1)),
        (40, struct.pack(">Q", 1 << 50)),
        (40, struct.pack(">Q", 0)),
        (40, struct.pack(">Q", 512)),
    ],
)
def test_a_header_that_leads_astray_is_refused(tmp_path: Path, offset: int, value: bytes) -> None:
    delta = write(tmp_path / "delta", "write -P 1 0 64k")
    with delta.open("r+b") as file:
        file.seek(offset)
        file.write(value)
    with pytest.raises(ImageFileError, match="delta: "):
        read_delta(delta, SIZE)


def test_damage_is_refused_or_stays_within_the_disk_and_the_file(tmp_path: Path) -> None:
    """Every change lies on the disk, and every source in the file, whatever bytes are another's."""
    size = 2 * MIB
    delta = write(tmp_path / "delta", "write -P 1 0 64k", "write -P 2 1M 4k", size=size, options="cluster_size=512")
    whole = delta.read_bytes()
    chance, refused = random.Random(11), 0
    for _ in range(600):
        data = bytearray(whole[: chance.choice([len(whole), chance.randrange(len(whole))])])
        for _ in range(chance.randrange(4)):
            if data:
                data[chance.randrange(min(len(data), 8192))] = chance.randrange(256)
        delta.write_bytes(data)
        try:
            changes = read_delta(delta, size)
        except ImageFileError:
            refused += 1
            continue
        assert all(is_within(change, size, len(data)) for change in changes)
    assert 100 < refused < 600


def is_within(change: DiskChange, size: int, length: int) -> bool:
    source = change.source or 0
    return 0 <= change.start < change.start + change.length <= size and source + change.length * bool(source) <= length
