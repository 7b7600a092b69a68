"""Give blocks that hold deleted files back to the disks, so that they take no space in the image: what fstrim does.

Trimming reads all of a file system's bitmaps, 0.2 s on an emulated disk of 10 GB. It is left out where all that can
have been written and deleted again is less than what would be worth it.
"""

from __future__ import annotations

import os

from .output import Console

FITRIM = 0xC0185879  # linux/fs.h: _IOWR('X', 121, struct fstrim_range)
TRIMMED = ("ext4", "xfs", "btrfs")
WORTH = 8 << 20  # bytes: an export packs them in 10 ms


class FreeBlocks:
    """The free blocks of this machine's disks."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._used_before: dict[str, int] = {}

    def remember(self) -> None:
        """Note how much is in use before the steps."""
        self._used_before = {device: _used(path) for device, path, _ in disks() if _written(device) is not None}

    def give_back(self) -> None:
        """Trim what is worth it. Everything, unless remember() was called since the disk was new."""
        import fcntl

        os.sync()  # blocks of files that were only just deleted are not free on the disk yet
        whole = (0).to_bytes(8, "little") + (2**64 - 1).to_bytes(8, "little") + (0).to_bytes(8, "little")
        for device, path, kind in disks():
            if kind not in TRIMMED or self._most_deleted(device, path) < WORTH:
                continue
            handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.ioctl(handle, FITRIM, whole)
            except OSError as error:
                self._console.say(f"{path}: free blocks are not given back to the disk: {error.strerror}")
            finally:
                os.close(handle)

    def _most_deleted(self, device: str, path: str) -> float:
        """Give the most bytes that can have been written and be free again."""
        written = _written(device)
        if written is None or device not in self._used_before:
            return float("inf")
        return self._used_before[device] + written - _used(path)


def disks() -> list[tuple[str, str, str]]:
    """Give the writable file systems on disks: device, one mount point and kind of each."""
    found: dict[str, tuple[str, str, str]] = {}
    with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            device, path, kind, options = line.split(" ")[:4]
            if device.startswith("/dev/") and "rw" in options.split(","):
                found.setdefault(device, (device, path, kind))
    return list(found.values())


def _used(path: str) -> int:
    found = os.statvfs(path)
    return (found.f_blocks - found.f_bfree) * found.f_frsize


def _written(device: str) -> int | None:
    """Give the bytes written to a file system since it was mounted; None where the kernel does not count them."""
    try:
        with open(f"/sys/fs/ext4/{os.path.basename(device)}/session_write_kbytes", encoding="ascii") as file:
            return int(file.read()) << 10
    except OSError:
        return None
