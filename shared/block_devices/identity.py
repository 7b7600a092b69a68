"""The identifiers of a disk and of its parts: each follows from the disk's seed and the part's name alone."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass

from ..build.block_devices.description import NewFileSystem

_LVM_LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_LVM_GROUPS = (6, 4, 4, 4, 4, 4, 6)


@dataclass(frozen=True)
class DiskIdentity:
    """Makes identifiers. The same seed and name give the same one."""

    seed: str

    def uuid(self, name: str) -> str:
        """Return the UUID of a part."""
        return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{self.seed}/{name}"))

    def number(self, name: str) -> int:
        """Return a number of 32 bits that is not zero."""
        return int(self.uuid(name)[:8], 16) or 1

    def file_system(self, described: NewFileSystem) -> str:
        """Return the UUID of a file system, as the machine's programs write it."""
        if described.uuid is not None:
            return described.uuid
        if described.kind == "vfat":
            found = f"{self.number(described.name):08X}"
            return f"{found[:4]}-{found[4:]}"
        return self.uuid(described.name)

    def lvm(self, name: str) -> str:
        """Return an identifier as LVM has them: 32 letters and digits, in groups."""
        number = int.from_bytes(hashlib.sha256(f"{self.seed}/{name}".encode()).digest(), "big")
        text = ""
        for _ in range(sum(_LVM_GROUPS)):
            number, index = divmod(number, len(_LVM_LETTERS))
            text += _LVM_LETTERS[index]
        groups, at = [], 0
        for length in _LVM_GROUPS:
            groups.append(text[at : at + length])
            at += length
        return "-".join(groups)
