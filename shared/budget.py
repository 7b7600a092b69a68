"""Bounds on the work that one input may cause: set here and nowhere else.

The code that opens an input makes a Budget of the limits of its kind, and passes it to all that read it. They take
from it what they read, what they keep and what they do, so that the sum is bounded however the input is cut into parts.
All is counted and no clock is read: the same input always ends the same way.

The limits grow with the input's own size, as honest inputs need them to; their fixed part is for small ones. They are
such that no reader needs more than 512 MB of memory and 20 s for 64 MB of input (docs/decisions/0027-budgets.md).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from .errors import ImageFileError, InputError
from .quantities import GIB, MIB


@dataclass(frozen=True)
class Bounds:
    """The cost that one kind of input may have: a fixed amount, and more for each of its bytes."""

    kind: str
    read: int  # bytes that are read, or come out when it is unpacked
    kept: int  # bytes of memory that its contents take as long as it is read, estimated
    steps: int  # members, names, entries of a table, blocks of a map: some microseconds each
    remedy: str
    read_per_byte: int = 0
    bytes_per_kept: int = 0  # of the input, for each further byte of memory; 0 for none
    bytes_per_step: int = 0  # and for each further step
    error: type[InputError] = ImageFileError


CONTEXT_BOUNDS = Bounds(
    "a context's archive",
    read=256 * MIB,
    read_per_byte=32,
    kept=224 * MIB,
    steps=1_000_000,
    remedy="pack it again from its files, without compression if they are large and nearly empty",
    error=InputError,
)
DISK_ARCHIVE_BOUNDS = Bounds(
    "a disk's archive",
    read=16 * GIB,  # all zeros; gzip makes a thousandth of them
    read_per_byte=384,
    kept=192 * MIB,
    steps=500_000,
    bytes_per_step=256,
    remedy="pack the disk again with tar --sparse --format=gnu",
)
ROOT_ARCHIVE_BOUNDS = Bounds(
    "a root file system's archive",
    read=4 * GIB,  # gzip makes a thousandth of zeros
    read_per_byte=64,
    kept=192 * MIB,
    bytes_per_kept=2,
    steps=2_000_000,  # 200,000 members
    bytes_per_step=64,
    remedy="pack it again from its files, with tar --sparse if they are large and nearly empty",
)
DISK_BOUNDS = Bounds(
    "a disk's file systems",
    read=GIB,
    read_per_byte=4,
    kept=128 * MIB,
    bytes_per_kept=8,
    steps=500_000,
    bytes_per_step=64,  # a file takes at least an inode of 128 bytes, and its name twelve
    remedy="check its file systems with e2fsck and fsck.fat",
)
PACKAGES_BOUNDS = Bounds(
    "a system's lists of packages",
    read=640 * MIB,  # an RPM database of 5,000 packages has some 250 MB
    kept=160 * MIB,
    steps=4_000_000,
    remedy="look at its package database in the image",
)
KERNEL_BOUNDS = Bounds(
    "a kernel and its modules",
    read=512 * MIB,
    kept=192 * MIB,  # Debian's has 70 MB inside, and 15,000 aliases of modules
    steps=1_000_000,
    remedy="install the kernel's package again in the image",
)
BILL_OF_MATERIALS_BOUNDS = Bounds(
    "a bill of materials",
    read=16 * MIB,
    kept=128 * MIB,
    steps=20_000,
    remedy="leave out what is not needed",
    error=InputError,
)


class Budget:
    """The remaining budget of one input, called `subject`, of `size` bytes."""

    def __init__(self, limits: Bounds, subject: object, size: int = 0) -> None:
        self.limits = limits
        self.subject = subject
        self.most_read = limits.read + limits.read_per_byte * size
        self.most_kept = limits.kept + (size // limits.bytes_per_kept if limits.bytes_per_kept else 0)
        self.most_steps = limits.steps + (size // limits.bytes_per_step if limits.bytes_per_step else 0)
        self.bytes_read = 0
        self.bytes_kept = 0
        self.steps_done = 0

    def read(self, count: int) -> None:
        """Take bytes that were read or unpacked."""
        self.bytes_read += count
        if self.bytes_read > self.most_read:
            raise self.spent(f"{self.most_read} bytes of contents")

    def keep(self, count: int) -> None:
        """Take bytes of memory."""
        self.bytes_kept += count
        if self.bytes_kept > self.most_kept:
            raise self.spent(f"{self.most_kept} bytes of memory")

    def step(self, count: int = 1) -> None:
        """Take steps."""
        self.steps_done += count
        if self.steps_done > self.most_steps:
            raise self.spent(f"{self.most_steps} entries")

    def json(self, text: bytes) -> Any:
        """Parse JSON. ValueError where it is none, RecursionError where it is nested too deeply.

        Its memory is taken before: three bytes may become an object of 64, and four make a value of a list.
        """
        self.read(len(text))
        objects, lists, values = text.count(b"{"), text.count(b"["), text.count(b",") + text.count(b":")
        self.keep(2 * len(text) + 200 * objects + 80 * lists + 64 * values)
        return json.loads(text)

    def spent(self, limit: str) -> InputError:
        """Return the error of an input that needs more than `limit`."""
        return self.limits.error(
            f"{self.subject}: reading it takes more than {limit}, the most for {self.limits.kind} of this size: it is "
            f"damaged, or made to exhaust its reader; {self.limits.remedy}"
        )
