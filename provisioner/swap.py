"""Empty the swap that the build machine has used: it holds memory of whatever ran here, passwords and keys too.

mkswap writes one page and leaves all else as it was. Only that page is kept, so that the image's machines can use the
same swap. All behind it is overwritten through the file system: blocks that fallocate has reserved read as zeros there
while the disk still holds what the kernel has swapped out to them.
"""

from __future__ import annotations

import os
import re
import stat
import struct

from . import process
from .swap_area import HEAD, any_set, page_of

CHUNK = 1 << 20
BLKZEROOUT = 0x127F  # linux/fs.h
IN_MEMORY = "/dev/zram"


class NoSwap(ValueError):
    """Something that is no swap area, and is not written to."""


def empty_swap(root: str = "/") -> list[str]:
    """Switch off all swap on disks and empty it, and what fstab names; return what could not be done, for people."""
    problems = []
    active = active_areas(_read(os.path.join(root, "proc/swaps")))
    named = named_areas(_read(os.path.join(root, "etc/fstab")))
    places = {os.path.realpath(os.path.join(root, path.lstrip("/"))): path for path in (*named, *active)}
    for place, path in places.items():
        try:
            if path in active and not _switch_off(path):
                problems.append(f"swap {path} cannot be switched off, and keeps what is in it")
                continue
            empty_area(place)
        except (NoSwap, FileNotFoundError):
            continue
        except OSError as error:
            problems.append(f"swap {path}: {error.strerror}")
    return problems


def empty_area(path: str) -> None:
    """Overwrite a swap area with zeros but for its first page. NoSwap, OSError."""
    handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        mode = os.fstat(handle).st_mode
        page = page_of(os.pread(handle, HEAD, 0))
        if not page or not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
            raise NoSwap(path)
        size = os.lseek(handle, 0, os.SEEK_END)
        if not (stat.S_ISBLK(mode) and _zero_out(handle, page, size)):
            zeros = bytes(CHUNK)
            for at in range(page, size, CHUNK):
                os.pwrite(handle, zeros[: size - at], at)
        os.fsync(handle)
    finally:
        os.close(handle)


def is_blank(path: str, start: int) -> bool:
    """Tell whether a file has zeros alone from `start`, on the disk and not only for those who read it. OSError.

    Blocks that were reserved and never written through the file system are holes to SEEK_HOLE: what is in them is
    unknown.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        size = os.fstat(handle).st_size
        if start >= size:
            return True
        if os.lseek(handle, start, os.SEEK_HOLE) < size:
            return False
        return all(not any_set(os.pread(handle, CHUNK, at)) for at in range(start, size, CHUNK))
    finally:
        os.close(handle)


def active_areas(swaps: str) -> list[str]:
    """Return the paths in /proc/swaps, without those in memory."""
    paths = (_unescaped(line.split()[0]) for line in swaps.splitlines()[1:] if line.split())
    return [path for path in paths if not path.startswith(IN_MEMORY)]


def named_areas(fstab: str) -> list[str]:
    """Return the paths of the swap that an fstab names, by UUID or label too."""
    fields = (line.split() for line in fstab.splitlines() if not line.lstrip().startswith("#"))
    return [_by_name(words[0]) for words in fields if len(words) > 2 and words[2] == "swap"]


def _by_name(source: str) -> str:
    key, equals, name = source.partition("=")
    folders = {"UUID": "by-uuid", "LABEL": "by-label", "PARTUUID": "by-partuuid", "PARTLABEL": "by-partlabel"}
    if equals and key in folders:
        name = name.strip('"')
        return f"/dev/disk/{folders[key]}/{name}"
    return _unescaped(source)


def _unescaped(path: str) -> str:
    """Undo the octal escapes of the kernel and of fstab(5)."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), path)


def _switch_off(path: str) -> bool:
    program = process.find_program("swapoff")
    if not program:
        return False
    quiet = [(os.POSIX_SPAWN_OPEN, handle, os.devnull, os.O_RDWR, 0) for handle in (0, 1, 2)]
    child = os.posix_spawn(program, ["swapoff", path], {"PATH": "/usr/sbin:/usr/bin"}, file_actions=quiet)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def _zero_out(device: int, start: int, end: int) -> bool:
    """Have a block device zero a range by itself; False where it cannot."""
    import fcntl

    try:
        fcntl.ioctl(device, BLKZEROOUT, struct.pack("QQ", start, end - start))
    except OSError:
        return False
    return True


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read(1 << 20)
    except OSError:
        return ""
