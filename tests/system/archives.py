"""Examine a finished archive with programs of the system, none of which is Goldsmith's."""

from __future__ import annotations

import gzip
import hashlib
import json
import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.shared.disks.small_disks import tool

_BLOCK = mmap.ALLOCATIONGRANULARITY


def sha256(path: Path) -> str:
    """Return the digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def data_sha256(disk: Path) -> str:
    """Return a digest that two disks have in common if they are the same bytes; of holes nothing is read."""
    found = hashlib.sha256(str(disk.stat().st_size).encode())
    with disk.open("rb", buffering=0) as file:
        for start, end in _extents(file.fileno()):
            for at in range(start, end, _BLOCK):
                block = os.pread(file.fileno(), min(_BLOCK, end - at), at)
                if block.strip(b"\0"):  # blocks of zeros may be holes of the other disk
                    found.update(b"%d " % at + block)
    return found.hexdigest()


def sha256_inside(archive: Path) -> str:
    """Return the digest of a gzip file's contents."""
    with gzip.open(archive, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def assert_agree(folder: Path) -> dict[str, Any]:
    """Check that the folder has one archive with its descriptions and nothing else. Return the manifest."""
    (archive,) = folder.glob("*.tar.gz")
    stem = archive.name.removesuffix(".tar.gz")
    beside = [f"{stem}.cdx.json", f"{stem}.json", f"{stem}.spdx.json"]
    assert sorted(path.name for path in folder.iterdir()) == sorted([archive.name, *beside])
    document: dict[str, Any] = json.loads((folder / f"{stem}.json").read_text())
    assert document["sbom"] == [f"{stem}.spdx.json", f"{stem}.cdx.json"]
    described = json.loads((folder / f"{stem}.spdx.json").read_text())["packages"][0]
    assert described["name"] == stem
    assert document["archive"]["bytes"] == archive.stat().st_size
    assert document["archive"]["sha256"] == sha256(archive)
    return document


def assert_whole(folder: Path) -> dict[str, Any]:
    """Check as well that the archive is a tar.gz with one member, disk.raw. Return the manifest."""
    document = assert_agree(folder)
    (archive,) = folder.glob("*.tar.gz")
    tool("gzip", "-t", archive)
    assert tool("tar", "--list", "--sparse", "--gzip", "--file", archive).split() == ["disk.raw"]
    assert document["archive"]["tar_sha256"] == sha256_inside(archive)
    return document


def root_partition(disk: Path) -> tuple[int, int]:
    """Return the start and the size, in bytes, of the root partition, which is the largest."""
    table = json.loads(tool("sfdisk", "--json", disk))["partitiontable"]
    largest = max(table["partitions"], key=lambda partition: int(partition["size"]))
    return int(largest["start"]) * 512, int(largest["size"]) * 512


def debugfs(disk: Path, request: str) -> str:
    """Return debugfs's answer about the root file system in a partition of a disk."""
    start, _ = root_partition(disk)
    return tool("debugfs", "-R", request, f"{disk}?offset={start}")


def holds(disk: Path, *texts: str) -> list[str]:
    """Return the texts that are anywhere in the data of a disk, in a file or in freed blocks."""
    found: set[str] = set()
    wanted = [text.encode() for text in texts]
    with disk.open("rb", buffering=0) as file:
        for start, end in _extents(file.fileno()):
            with mmap.mmap(file.fileno(), end - start, offset=start, access=mmap.ACCESS_READ) as data:
                found.update(text.decode() for text in wanted if data.find(text) >= 0)
    return sorted(found)


def files_with(folder: Path, *texts: str, without: str = "") -> list[str]:
    """Return the files below a folder that hold a text, but not those below folders of a name."""
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name != without]
        paths = (Path(place, name) for name in names)
        found += [str(path) for path in paths if path.is_file() and not path.is_symlink() and holds(path, *texts)]
    return sorted(found)


def _extents(file: int) -> Iterator[tuple[int, int]]:
    """Yield start and end of each stretch of data. Between them are holes."""
    end, size = 0, os.fstat(file).st_size
    while end < size:
        try:
            start = os.lseek(file, end, os.SEEK_DATA)
        except OSError:  # ENXIO: holes up to the end
            return
        end = os.lseek(file, start, os.SEEK_HOLE)
        yield start // _BLOCK * _BLOCK, end
