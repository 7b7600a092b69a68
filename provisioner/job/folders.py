"""Add up what is below each folder of this machine's root file system, for hosts that cannot read its disk.

    folder<TAB>/usr/lib<TAB>BYTES<TAB>FILES     lines of an INVENTORY report: the largest folders, three deep

Sizes are those of files as `ls` shows them; a file with several names counts once. Other file systems are left out, and
what the clean-up removes later is not.
"""

from __future__ import annotations

import os
import stat
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Dict, List, Set, Tuple

DEEPEST = 3  # folders below the root that are told apart
MOST_FOLDERS = 300  # that are told
ENOUGH_SECONDS = 30.0
MOST_HELD = 500_000  # folders and numbers of files in memory
_LOOKED_AFTER = 512  # entries, after which the bounds are looked at


class _TooMuch(Exception):
    """Bounds were reached, and what was added up so far says nothing."""


def largest_folders(root: str, clock: Callable[[], float] = time.monotonic) -> List[Tuple[str, int, int]]:
    """Return path, bytes and files of the largest folders; [] where there are too many, or it takes too long."""
    try:
        own = _Sums(os.lstat(root).st_dev, clock).of(root)
    except (OSError, _TooMuch):
        return []
    whole: Dict[str, List[int]] = {}
    for path, (size, files) in own.items():
        for around in _around(path):
            found = whole.setdefault(around, [0, 0])
            found[0] += size
            found[1] += files
    told = [(path, size, files) for path, (size, files) in whole.items() if size]
    return sorted(told, key=lambda each: (-each[1], each[0].count("/"), each[0]))[:MOST_FOLDERS]


def _around(path: str) -> List[str]:
    """Return a folder and those that it is in."""
    parts = path.split("/")[1:] if path != "/" else []
    return ["/"] + ["/" + "/".join(parts[: end + 1]) for end in range(len(parts))]


class _Sums:
    """One walk over a file system."""

    def __init__(self, device: int, clock: Callable[[], float]) -> None:
        self._device = device
        self._clock = clock
        self._end = clock() + ENOUGH_SECONDS
        self._linked: Set[int] = set()
        self._sums: Dict[str, List[int]] = {"/": [0, 0]}
        self._waiting: List[Tuple[str, str]] = []
        self._seen = 0

    def of(self, root: str) -> Dict[str, List[int]]:
        """Return the sums of each folder without those below it; of the deepest, with them."""
        self._waiting.append((root, "/"))
        while self._waiting:
            folder, counted_as = self._waiting.pop()
            try:
                entries = os.scandir(folder)
            except OSError:
                continue
            with entries:
                for entry in entries:
                    self._take(entry, counted_as)
        return self._sums

    def _take(self, entry: os.DirEntry[str], counted_as: str) -> None:
        self._seen += 1
        if self._seen % _LOOKED_AFTER == 0:
            held = len(self._waiting) + len(self._linked) + len(self._sums)
            if held > MOST_HELD or self._clock() > self._end:
                raise _TooMuch
        try:
            found = entry.stat(follow_symlinks=False)
        except OSError:
            return
        if found.st_dev != self._device:
            return
        if stat.S_ISDIR(found.st_mode):
            below = counted_as
            if counted_as == "/" or counted_as.count("/") < DEEPEST:
                below = "/" + entry.name if counted_as == "/" else counted_as + "/" + entry.name
                self._sums[below] = [0, 0]
            self._waiting.append((entry.path, below))
        elif stat.S_ISREG(found.st_mode):
            if found.st_nlink > 1:
                if found.st_ino in self._linked:
                    return
                self._linked.add(found.st_ino)
            sums = self._sums[counted_as]
            sums[0] += found.st_size
            sums[1] += 1
