"""The digest of a disk: what it counts, when one that was kept is used, and one that is read beside other work."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path

import pytest

from shared.cache.disk_digest import KEPT, BegunDigest, disk_digest, kept_digest

MIB = 1 << 20


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """Return a disk with a hole that has not been written to for a while."""
    path = tmp_path / "disk.raw"
    with path.open("wb") as file:
        file.truncate(5 * MIB)
        file.seek(3 * MIB)
        file.write(b"data")
    return path


def settle(disk: Path) -> None:
    """Wait until the file was not changed for so long that its digest is kept."""
    end = disk.stat().st_ctime + 1.1
    while time.time() < end:
        time.sleep(0.05)


def documented(disk: Path) -> str:
    """Return the digest as docs/provenance.md computes it."""
    digest = hashlib.sha256(b"%d" % disk.stat().st_size)
    with disk.open("rb") as file:
        for number, piece in enumerate(iter(lambda: file.read(MIB), b"")):
            if piece.strip(b"\0"):
                digest.update(b"%d %d " % (number, len(piece)) + piece)
    return digest.hexdigest()


def test_holes_and_zeros_do_not_count(disk: Path, tmp_path: Path) -> None:
    written = tmp_path / "written.raw"
    written.write_bytes(disk.read_bytes())
    assert disk_digest(disk) == disk_digest(written) == documented(disk)


def test_a_digest_is_kept_while_the_file_is_the_same(disk: Path) -> None:
    before = disk_digest(disk)
    for _ in range(20):  # a machine that is busy may take so long that it settles
        disk.touch()
        assert kept_digest(disk) == before
        if not disk.with_name(KEPT).exists():
            break  # it was written a moment ago, and may be again in the same tick
        disk.with_name(KEPT).unlink()
    assert not disk.with_name(KEPT).exists()
    settle(disk)
    assert kept_digest(disk) == before
    kept = json.loads(disk.with_name(KEPT).read_text())
    assert kept["digest"] == before
    disk.with_name(KEPT).write_text(json.dumps({**kept, "digest": "known"}))
    assert kept_digest(disk) == "known"
    with disk.open("r+b") as file:
        file.write(b"x")
    os.utime(disk, ns=(0, int(kept["state"].split()[2])))  # a program can set this time, and not that of the change
    assert kept_digest(disk) == documented(disk) != before


@pytest.mark.parametrize("damaged", [b"", b"{", b"[]", b'{"state": 1}', b"\xff" * 10000])
def test_a_damaged_one_is_read_again(disk: Path, damaged: bytes) -> None:
    disk.with_name(KEPT).write_bytes(damaged)
    assert kept_digest(disk) == documented(disk)


def test_one_that_was_begun_is_that_of_the_disk_as_it_is_now(disk: Path) -> None:
    begun = BegunDigest(disk)
    assert begun.result() == begun.result() == documented(disk)
    before = begun.result()
    with disk.open("r+b") as file:
        file.write(b"changed")
    os.utime(disk, ns=(1, 1))
    assert begun.result() == documented(disk) != before
    disk.unlink()
    with pytest.raises(FileNotFoundError):
        begun.result()
