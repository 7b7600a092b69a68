"""extract-image: unpack the image that a distribution offers, where the original mounts it by loop devices.

A tar archive or squashfs is unpacked by its program. A disk is read by Goldsmith, outside of the sandbox that root.d
runs in: the program tells which image it needs, and root.d begins anew with an archive of the image's files.
"""

from __future__ import annotations

import json
import os

from ..system.files import read_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import List, Mapping

PACKED_IMAGES, WANTED_IMAGE = "images.json", "wanted"  # files of the work: archives by image, and an image without one
_LONGEST_PATH = 4096
_HEAD = 512  # bytes at the beginning of a file that tell what it is
_SQUASHFS, _USTAR, _USTAR_AT = b"hsqs", b"ustar", 257
_GZIP, _XZ, _BZIP2, _ZSTD = b"\x1f\x8b", b"\xfd7zXZ", b"BZh", b"\x28\xb5\x2f\xfd"
_UNPACK = ("--numeric-owner", "--xattrs", "--xattrs-include=*", "--xattrs-exclude=security.selinux")


def is_disk_image(path: str) -> bool:
    """Return whether a file is neither a tar archive, also a compressed one, nor squashfs. OSError."""
    with open(path, "rb") as file:
        head = file.read(_HEAD)
    return not head.startswith((_SQUASHFS, _ZSTD)) and not _plain(path, head)[_USTAR_AT:].startswith(_USTAR)


def unpacking(path: str, target: str, work: str) -> List[str]:
    """Return the command that unpacks an image into a folder; [] where an archive of it is missing. OSError."""
    if is_disk_image(path):
        archive = _archives(work).get(os.path.realpath(path), "")
        if not archive:
            with open(os.path.join(work, WANTED_IMAGE), "w", encoding="utf-8") as wanted:
                wanted.write(os.path.realpath(path))
            return []
    else:
        archive = path
        with open(path, "rb") as file:
            if file.read(len(_SQUASHFS)) == _SQUASHFS:
                return ["unsquashfs", "-f", "-d", target, path]
    return ["tar", "-C", target, *_UNPACK, "-xf", archive]


def wanted_image(work: str) -> str:
    """Return the path of the image that has been asked for; "" for none, or where a script has written otherwise."""
    try:
        return read_text(os.path.join(work, WANTED_IMAGE), _LONGEST_PATH)
    except (OSError, ValueError):
        return ""


def _archives(work: str) -> Mapping[str, str]:
    try:
        with open(os.path.join(work, PACKED_IMAGES), "rb") as file:
            return dict(json.loads(file.read().decode()))
    except FileNotFoundError:
        return {}


def _plain(path: str, head: bytes) -> bytes:
    """Return the beginning of what is compressed; of other things, and of what cannot be read, the head itself."""
    import bz2
    import gzip
    import lzma
    import zlib

    try:
        if head.startswith(_GZIP):
            with gzip.open(path) as packed:
                return packed.read(_HEAD)
        if head.startswith(_XZ):
            with lzma.open(path) as packed:
                return packed.read(_HEAD)
        if head.startswith(_BZIP2):
            with bz2.open(path) as packed:
                return packed.read(_HEAD)
    except (EOFError, OSError, lzma.LZMAError, zlib.error):
        pass
    return head
