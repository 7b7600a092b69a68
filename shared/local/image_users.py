"""What on this machine has the disk of an image of the catalogue open: processes such as VMs, and loop devices.

Builds are known to the store. A process of another user can be looked at by root alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ..image_users import ImageUse

PROCESSES = Path("/proc")
BLOCK_DEVICES = Path("/sys/block")


class LocalImageUsers:
    """The users of the catalogue below a home."""

    def __init__(self, home: Path) -> None:
        self._images = home.resolve() / "images"

    def uses(self, project: str, images_of: str) -> Iterator[ImageUse]:
        """List open disks. What ends meanwhile, or is not to be seen, is left out."""
        yield from self._processes()
        for device in sorted(BLOCK_DEVICES.glob("loop*")):
            with suppress(OSError):
                backing = (device / "loop" / "backing_file").read_text().strip()
                yield from self._use(Path(backing), f"loop device /dev/{device.name}")

    def _processes(self) -> Iterator[ImageUse]:
        for process in PROCESSES.iterdir():
            if not process.name.isdecimal() or process.name == str(os.getpid()):
                continue
            with suppress(OSError):
                for opened in (process / "fd").iterdir():
                    with suppress(OSError):
                        yield from self._use(opened.readlink(), f"process {process.name}")

    def _use(self, path: Path, user: str) -> Iterator[ImageUse]:
        if path.parent.parent == self._images:
            yield ImageUse(path.parent.name, "", f"{user}, which has its disk open")
