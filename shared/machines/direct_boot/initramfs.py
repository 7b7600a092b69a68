"""Write an initramfs: a cpio archive in the `newc` format.

The format: Documentation/driver-api/early-userspace/buffer-format.rst. Owners are root and times are 0, so that the
same members give the same bytes.
"""

from __future__ import annotations

import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath


@dataclass(frozen=True)
class CpioMember:
    """One file: its contents, and its mode with the file's type as in stat(2)."""

    content: bytes
    mode: int
    device: tuple[int, int] = (0, 0)  # major and minor number, of a device node

    @classmethod
    def file(cls, content: bytes, *, executable: bool = False) -> CpioMember:
        """Make a regular file."""
        return cls(content, stat.S_IFREG | (0o755 if executable else 0o644))

    @classmethod
    def link(cls, target: str) -> CpioMember:
        """Make a symbolic link."""
        return cls(target.encode(), stat.S_IFLNK | 0o777)

    @classmethod
    def character_device(cls, major: int, minor: int) -> CpioMember:
        """Make a node of a character device, for root alone."""
        return cls(b"", stat.S_IFCHR | 0o600, (major, minor))

    @classmethod
    def folder(cls) -> CpioMember:
        """Make a folder. Parents of members need no entry of their own."""
        return cls(b"", stat.S_IFDIR | 0o755)


def archive(members: Mapping[str, CpioMember]) -> bytes:
    """Pack members (path without a leading slash -> member), folders before what is in them."""
    whole: dict[str, CpioMember] = {}
    for path, member in members.items():
        for parent in PurePosixPath(path).parents:
            if str(parent) != ".":
                whole.setdefault(str(parent), CpioMember.folder())
        whole[path] = member
    records = [_record(number, path, member) for number, (path, member) in enumerate(sorted(whole.items()), 1)]
    return b"".join(records) + _record(0, "TRAILER!!!", CpioMember(b"", 0))


def _record(number: int, path: str, member: CpioMember) -> bytes:
    name = path.encode() + b"\0"
    links = 2 if stat.S_ISDIR(member.mode) else 1
    fields = (number, member.mode, 0, 0, links, 0, len(member.content), 0, 0, *member.device, len(name), 0)
    head = b"070701" + "".join(f"{value:08X}" for value in fields).encode() + name
    return _padded(head) + _padded(member.content)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
