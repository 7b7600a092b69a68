"""Archives of root file systems as tools write them, and as those write them who mean harm."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import subprocess
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

TIME = 1_600_000_000
Entry = tuple[tarfile.TarInfo, bytes]


def entry(name: str, kind: bytes = tarfile.REGTYPE, data: bytes = b"", **fields: Any) -> Entry:
    """Describe a member; `fields` are those of TarInfo."""
    member = tarfile.TarInfo(name)
    member.type, member.size, member.mtime = kind, len(data), TIME
    member.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    for key, value in fields.items():
        setattr(member, key, value)
    return member, data


def folder(name: str, **fields: Any) -> Entry:
    return entry(name, tarfile.DIRTYPE, **fields)


def link(name: str, target: str) -> Entry:
    return entry(name, tarfile.SYMTYPE, linkname=target)


def hard_link(name: str, target: str) -> Entry:
    return entry(name, tarfile.LNKTYPE, linkname=target)


def elf(machine: int = 62) -> bytes:
    """Return the head of a program for a machine of ELF; 62 is x86-64."""
    return b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00" + machine.to_bytes(2, "little") + bytes(44)


def packed(entries: Sequence[Entry]) -> bytes:
    """Pack members into a tar archive."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT, errors="surrogateescape") as archive:
        for member, data in entries:
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def compressed(data: bytes, way: str) -> bytes:
    """Compress an archive in the way that a name's ending tells."""
    if way == "zst":
        return subprocess.run(["zstd", "-q"], input=data, stdout=subprocess.PIPE, check=True).stdout
    ways: dict[str, Callable[[bytes], bytes]] = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}
    return ways[way](data) if way in ways else data


def system(machine: int = 62, more: Sequence[Entry] = ()) -> list[Entry]:
    """Return the members of the smallest tree that is a system's."""
    return [
        folder("./"),
        folder("./etc/"),
        entry("./etc/os-release", data=b'ID=tiny\nPRETTY_NAME="Tiny 1"\n'),
        folder("./usr/"),
        folder("./usr/bin/"),
        link("./bin", "usr/bin"),
        entry("./usr/bin/sh", data=elf(machine), mode=0o755),
        *more,
    ]


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    path.chmod(0o644)
    return path
