"""Looks at a finished archive with the tools of the system, none of which is ours."""

from __future__ import annotations

import gzip
import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

from tests.local.small_disks import tool


def sha256(path: Path) -> str:
    """The digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_inside(archive: Path) -> str:
    """The digest of what a gzip file holds."""
    with gzip.open(archive, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def assert_whole(folder: Path) -> dict[str, Any]:
    """The folder has one archive and its manifest, they agree, and nothing else is there. Give the manifest."""
    archive, manifest = sorted(folder.iterdir(), key=lambda path: path.suffix, reverse=True)
    assert (manifest.suffix, archive.name.removesuffix(".tar.gz")) == (".json", manifest.stem)
    document: dict[str, Any] = json.loads(manifest.read_text())
    tool("gzip", "-t", archive)
    listed = tool("tar", "--list", "--sparse", "--file", archive, "--format=gnu", "--gzip")
    assert listed.split() == ["disk.raw"]
    assert document["archive"]["bytes"] == archive.stat().st_size
    assert document["archive"]["sha256"] == sha256(archive)
    assert document["archive"]["tar_sha256"] == sha256_inside(archive)
    return document


def root_partition(disk: Path) -> tuple[int, int]:
    """Where the root partition, the largest, starts and how long it is: bytes."""
    table = json.loads(tool("sfdisk", "--json", disk))["partitiontable"]
    largest = max(table["partitions"], key=lambda partition: int(partition["size"]))
    return int(largest["start"]) * 512, int(largest["size"]) * 512


def debugfs(disk: Path, request: str) -> str:
    """What debugfs says of the root file system, which lies in a partition of a disk."""
    start, _ = root_partition(disk)
    return tool("debugfs", "-R", request, f"{disk}?offset={start}")


def holds(disk: Path, text: str) -> bool:
    """Whether a text is anywhere in the data of a disk, in a file or in blocks that no file has any more."""
    found = subprocess.run(["grep", "--text", "--quiet", "--fixed-strings", "-e", text, disk], check=False)
    assert found.returncode in (0, 1)
    return found.returncode == 0
