"""What on this machine has the disk of an image of the catalogue open: processes such as VMs, and loop devices.

Builds are known to the store. A process of another user can be looked at by root alone. Files are told by their inodes:
a container has other paths for them, and the catalogue may be a link to another disk.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

from ..image_users import ImageUse

PROCESSES = Path("/proc")
BLOCK_DEVICES = Path("/sys/block")

_File: TypeAlias = tuple[int, int]  # device and inode


class LocalImageUsers:
    """The users of the catalogue below a home."""

    def __init__(self, home: Path) -> None:
        self._images = home / "images"

    def uses(self, project: str, images_of: str) -> Iterator[ImageUse]:
        """List open disks. What ends meanwhile, or is not to be seen, is left out."""
        files = dict(self._files())
        yield from self._processes(files)
        for device in sorted(BLOCK_DEVICES.glob("loop*")):
            with suppress(OSError):
                backing = Path((device / "loop" / "backing_file").read_text().removesuffix("\n"))
                yield from _use(backing, files, f"loop device /dev/{device.name}")

    def _files(self) -> Iterator[tuple[_File, str]]:
        """List the files of the images, each with the image's name."""
        for image in self._images.glob("*"):
            with suppress(OSError):
                for path in image.iterdir():
                    with suppress(OSError):
                        yield _file(path), image.name

    def _processes(self, files: Mapping[_File, str]) -> Iterator[ImageUse]:
        for process in PROCESSES.iterdir():
            if not process.name.isdecimal() or process.name == str(os.getpid()):
                continue
            with suppress(OSError):
                for opened in (process / "fd").iterdir():
                    with suppress(OSError):
                        yield from _use(opened, files, f"process {process.name}")


def _file(path: Path) -> _File:
    found = path.stat()
    return found.st_dev, found.st_ino


def _use(path: Path, files: Mapping[_File, str], user: str) -> Iterator[ImageUse]:
    image = files.get(_file(path))
    if image is not None:
        yield ImageUse(image, "", f"{user}, which has its disk open")
