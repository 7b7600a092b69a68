"""Let the root file system fill its partition, which was made larger before this machine booted."""

from __future__ import annotations

import os

from .output import Console
from .process import find_program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional

SLACK = 16 << 20  # bytes: less than a group of blocks is not worth it, and often cannot be used
SECTOR = 512  # /sys counts in these, whatever the disk does
HEAD = 70 << 10  # bytes, that hold the superblock of all three file systems


def grow_root(console: Console) -> str:
    """Grow it if needed; give a note for people when that was needed and did not work, else nothing."""
    try:
        kind, device = _root_mount()
        name = os.path.basename(os.readlink("/sys/dev/block/" + device))
        with open(f"/sys/dev/block/{device}/size", encoding="ascii") as file:
            partition = int(file.read()) * SECTOR
        with open(f"/dev/{name}", "rb") as disk:
            size = file_system_size(disk.read(HEAD))
    except OSError:
        return ""  # not on a disk of its own: overlays, network file systems, memory
    if size is None or partition - size < SLACK:
        return ""
    return _grow(kind, name, partition, console)


def file_system_size(head: bytes) -> Optional[int]:
    """Give the size in bytes that a file system's first HEAD bytes tell; None for those we do not know."""
    if head[0x438:0x43A] == b"\x53\xef":
        blocks = _number(head, 0x404, 4) + (_number(head, 0x550, 4) << 32)
        return blocks * (1024 << _number(head, 0x418, 4))
    if head[:4] == b"XFSB":
        return int.from_bytes(head[4:8], "big") * int.from_bytes(head[8:16], "big")
    if head[0x10040:0x10048] == b"_BHRfS_M":
        return _number(head, 0x10070, 8)
    return None


def _number(head: bytes, at: int, size: int) -> int:
    return int.from_bytes(head[at : at + size], "little")


def _root_mount() -> tuple[str, str]:
    """Give the root's file system kind and its disk's MAJOR:MINOR. OSError when it is not on a disk."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        lines = [line.split() for line in file]
    fields = [line for line in lines if line[4] == "/"][-1]
    kind, source = fields[fields.index("-") + 1 : fields.index("-") + 3]
    device = fields[2]
    if device.startswith("0:"):  # btrfs: the number is not its disk's
        number = os.stat(source).st_rdev
        device = f"{os.major(number)}:{os.minor(number)}"
    return kind, device


def _grow(kind: str, name: str, partition: int, console: Console) -> str:
    command, package = {
        "ext": (["resize2fs", f"/dev/{name}"], "e2fsprogs"),
        "xfs": (["xfs_growfs", "/"], "xfsprogs"),
        "btrfs": (["btrfs", "filesystem", "resize", "max", "/"], "btrfs-progs"),
    }["ext" if kind.startswith("ext") else kind]
    program = find_program(command[0])
    if not program:
        return f"the root file system stays smaller than its disk: this image has no {command[0]} (package {package})"
    child = os.posix_spawn(program, command, {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status:
        return f"the root file system stays smaller than its disk: {command[0]} ended with status {status}"
    console.say(f"the root file system now fills its {partition >> 20} MiB")
    return ""
