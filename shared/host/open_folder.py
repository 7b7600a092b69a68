"""One open folder that moves through a tree name by name: it follows no link, and needs one descriptor at any depth."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from ..errors import EnvironmentFault

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class OpenFolder:
    """A folder of a tree, open as `descriptor`: `top` at first. OSError where it cannot be opened."""

    def __init__(self, top: Path | int) -> None:
        """Open a folder, or another descriptor of one that is open with O_PATH."""
        self._top = top
        self._above: list[tuple[int, int]] = []  # the folders on the way here
        self.descriptor = os.open(".", _FOLDER, dir_fd=top) if isinstance(top, int) else os.open(top, _FOLDER)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)

    def names(self) -> list[str]:
        """Return the names of what is in it, in no order. OSError."""
        with os.scandir(self.descriptor) as entries:
            return [entry.name for entry in entries]

    def down(self, name: str) -> None:
        """Move to a folder in this one."""
        below = os.open(name, _FOLDER, dir_fd=self.descriptor)
        self._above.append(self._identity())
        self._move(below)

    def up(self) -> None:
        """Move back to the folder that down() came from. EnvironmentFault where this one is elsewhere now."""
        self._move(os.open("..", _FOLDER, dir_fd=self.descriptor))
        if self._identity() != self._above.pop():
            raise EnvironmentFault(f"{self._top}: a folder was moved while it was in use; leave it alone")

    def files(self) -> Iterator[str]:
        """Walk through this folder and all below, which are open in turn; yield the name of each file, link and device.

        At any depth, where a walk that calls itself would end.
        """
        levels = [self._members()]
        while levels:
            for name, is_folder in levels[-1]:
                if is_folder:
                    self.down(name)
                    levels.append(self._members())
                    break
                yield name
            else:
                levels.pop()
                if levels:
                    self.up()

    def _members(self) -> Iterator[tuple[str, bool]]:
        with os.scandir(self.descriptor) as entries:
            return iter(sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries))

    def _move(self, descriptor: int) -> None:
        os.close(self.descriptor)
        self.descriptor = descriptor

    def _identity(self) -> tuple[int, int]:
        state = os.fstat(self.descriptor)
        return state.st_dev, state.st_ino
