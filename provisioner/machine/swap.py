"""Empty the swap that the build machine has used: it holds memory of its processes, with passwords and keys.

mkswap writes one page and leaves the rest as it was. Only that page is kept, so that machines of the image can use the
same swap. The rest is overwritten through the file system: blocks that fallocate has reserved read as zeros there while
the disk still holds what the kernel has swapped out to them.
"""

from __future__ import annotations

import os
import re
import stat
import struct

from ..system.files import read_text

CHUNK = 1 << 20
BLKZEROOUT = 0x127F  # linux/fs.h
IN_MEMORY = "/dev/zram"
MAGIC = b"SWAPSPACE2"  # ends the first page of a swap area
PAGES = (4096, 16384, 65536)  # bytes of a page: x86, and arm64 in its three ways
SWAP_HEAD = PAGES[-1]  # bytes of an area that show how large its page is


class NoSwap(ValueError):
    """This is not a swap area, and nothing is written to it."""


def page_of(head: bytes) -> int:
    """Return the size in bytes of the page that a swap area begins with; 0 where `head` begins no swap area."""
    return next((page for page in PAGES if head[page - len(MAGIC) : page] == MAGIC), 0)


def any_set(data: bytes) -> bool:
    """Return whether a byte is not zero."""
    return data.count(0) != len(data)


def empty_swap(root: str = "/") -> list[str]:
    """Switch off all swap on disks, empty it and the areas in fstab; return what could not be done, for people."""
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
    """Overwrite all but the first page of a swap area with zeros. NoSwap, OSError."""
    handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        mode = os.fstat(handle).st_mode
        page = page_of(os.pread(handle, SWAP_HEAD, 0))
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
    """Return whether a file holds only zeros from `start` on, on the disk and not only for its readers. OSError.

    SEEK_HOLE counts blocks that were reserved and never written through the file system as holes: their contents are
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
    """Return the paths that /proc/swaps lists, without those in memory."""
    paths = (_unescaped(line.split()[0]) for line in swaps.splitlines()[1:] if line.split())
    return [path for path in paths if not path.startswith(IN_MEMORY)]


def named_areas(fstab: str) -> list[str]:
    """Return the paths of the swap areas in an fstab, also those that are named by UUID or label."""
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
    from ..system.process import find_program, run_quietly  # hosts, which read areas of other machines, run nothing

    program = find_program("swapoff")
    if not program:
        return False
    return run_quietly([program, path]) == 0


def _zero_out(device: int, start: int, end: int) -> bool:
    """Make a block device zero a range itself; return False where it cannot."""
    import fcntl

    try:
        fcntl.ioctl(device, BLKZEROOUT, struct.pack("QQ", start, end - start))
    except OSError:
        return False
    return True


def _read(path: str) -> str:
    try:
        return read_text(path)
    except OSError:
        return ""
