"""A small file system of its own, to be filled: a tmpfs in a mount namespace, which needs no rights that root lacks."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

MOUNT = 'mount -t tmpfs -o "size=$1,mode=0700" tmpfs "$0" && echo ready && exec sleep infinity'
CHUNK = 1 << 16


@dataclass(frozen=True)
class SmallDisk:
    """The file system. `path` is what commands run through `enter` see it as, `inside` where we look at it."""

    path: Path
    inside: Path
    enter: tuple[str, ...]

    def fill(self) -> Path:
        """Use all the room that is left. Return the file that does, to be deleted again."""
        return self.keep_full(lambda full: not full)

    def keep_full(self, wanted: Callable[[bool], bool]) -> Path:
        """Use all room, also what is freed meanwhile, while it is `wanted`, which is told whether there was none left.

        Return the file that does, to be deleted again.
        """
        filler, full = self.inside / "filler", False
        with filler.open("ab", buffering=0) as file:
            while wanted(full):
                try:
                    full = not file.write(bytes(CHUNK))
                except OSError:
                    full = True
        return filler


@contextmanager
def small_disk(path: Path, size: str) -> Iterator[SmallDisk]:
    """Mount it at `path`; `size` as mount takes it, such as 64m."""
    path.mkdir(exist_ok=True)
    user = ["--map-root-user"] if os.geteuid() else []
    holder = subprocess.Popen(
        ["unshare", "--mount", *user, "sh", "-c", MOUNT, path, size], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == "ready\n"
        same_user = ["--user", "--preserve-credentials"] if user else []
        enter = ("nsenter", f"--target={holder.pid}", "--mount", *same_user, f"--wd={Path.cwd()}")
        yield SmallDisk(path, Path(f"/proc/{holder.pid}/root") / path.relative_to("/"), enter)
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
