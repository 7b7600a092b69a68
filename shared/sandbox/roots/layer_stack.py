"""The layers of a sandbox's root: those that earlier builds have left, and the one that takes what a step changes.

    MACHINE/changes/N/layer/content     what the steps since the last kept one have changed; an overlay's upper folder
    MACHINE/changes/N/work              the overlay's own

When a step's result is to be kept, the overlay is unmounted, its upper folder becomes one more lower one, and a new
overlay is mounted. A process of its own computes the digests of what was kept, and gives it its place in the cache,
beside the next steps. What it cannot keep is kept from no build: the sandbox goes on with its own files.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...cache.layer_store import (
    CONTENT,
    LayerRecord,
    LayerStore,
    OpenLayer,
    StepLayer,
    lock_record,
    oldest_of,
    open_chain,
)
from ...errors import GoldsmithError
from ..system_calls import NO_DEVICES, end_with_parent, mount_file_system
from .unpack_root import remove_all

_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
LEAST_ROOM = 64 << 20  # bytes
DIGEST = 64  # bytes, in hex
MOST_LOWER = 120  # folders of an overlay: their names have to fit into the page of options that mount(2) takes


@dataclass(frozen=True)
class CacheSpec:
    """The cache of a sandbox: its folder, what the build may begin with, and what it leaves."""

    folder: str
    build: str
    max_age: float  # seconds, of results that could have come from other hosts
    chain: tuple[StepLayer, ...]

    @classmethod
    def decode(cls, document: Mapping[str, Any]) -> CacheSpec:
        """Read what dataclasses.asdict() has made."""
        chain = tuple(StepLayer(**each) for each in document["chain"])
        return cls(document["folder"], document["build"], document["max_age"], chain)


class LayerStack:
    """The layers of one sandbox."""

    def __init__(self, spec: CacheSpec | None, changes: Path, say: Callable[[str], None]) -> None:
        """Open the layers that the build begins after; `first` is the index of its first step."""
        self._spec = spec
        self._changes = changes
        self._say = say
        self._store = LayerStore(Path(spec.folder), remove_all) if spec else None
        self._opened = self._open() if spec else []
        self._waiting: Sequence[StepLayer] = spec.chain[len(self._opened) :] if spec else ()
        self._before = self._opened[-1].record if self._opened else None
        self._lower = [os.open(each.content, _FOLDER) for each in self._opened]
        self._known = self._before.digest if self._before else ""  # of the layer that the build begins after
        self._began = time.time()
        self._round = 0
        self._publishers: list[int] = []
        self._locks: list[int] = []  # of the layers that this build leaves: it stands on their files
        self._below = -1  # the reading end of a pipe by which the newest publisher tells the digest of its layer
        self.first = spec.chain[len(self._opened) - 1].step + 1 if spec and self._opened else 0
        remove_all(changes)  # of a sandbox of this name that was killed
        changes.mkdir(mode=0o700)  # setuid files in it are for the sandbox alone

    def _open(self) -> list[OpenLayer]:
        assert self._spec is not None
        assert self._store is not None
        return open_chain(self._store, self._spec.chain[:MOST_LOWER], self._spec.max_age)

    @property
    def lower(self) -> tuple[int, ...]:
        """The folders of all layers, the oldest first, as open descriptors."""
        return tuple(self._lower)

    def mount(self, bottom: Path, target: Path, mode: int, owner: tuple[int, int]) -> None:
        """Mount an overlay with a new upper folder over all layers and the folder `bottom`. OSError."""
        self._round += 1
        place = self._changes / str(self._round)
        upper, work = place / "layer" / CONTENT, place / "work"
        upper.mkdir(parents=True)
        work.mkdir()
        os.chown(upper, *owner)
        upper.chmod(mode)
        opened = [os.open(each, os.O_PATH | os.O_CLOEXEC) for each in (bottom, upper, work)]
        lower = ":".join(f"/proc/self/fd/{each}" for each in (*reversed(self._lower), opened[0]))
        options = (
            f"lowerdir={lower},upperdir=/proc/self/fd/{opened[1]},workdir=/proc/self/fd/{opened[2]},userxattr,"
            "xino=on"  # so that all files are on one device, as those of a disk are
        )
        try:
            mount_file_system("root", target, "overlay", NO_DEVICES, options)
        finally:
            for descriptor in opened:
                os.close(descriptor)

    def keep(self) -> None:
        """Make the upper folder of the overlay, which is unmounted, a layer, and keep it for other builds."""
        staged = self._changes / str(self._round) / "layer"
        self._lower.append(os.open(staged / CONTENT, _FOLDER))
        if self._spec is None or not self._waiting or len(self._lower) > MOST_LOWER:
            return
        layer, self._waiting = self._waiting[0], self._waiting[1:]
        now = time.time()
        record = LayerRecord(
            key=layer.key,
            before=self._before.key if self._before else "",
            step=layer.name,
            build=self._spec.build,
            engine="chroot",
            made=now,
            oldest=oldest_of(self._before, layer.networked, self._began),
        )
        self._before, self._began = record, now
        self._locks.append(lock_record(staged))
        self._publishers.append(self._publish(staged, record))

    def add_last(self) -> None:
        """Count the upper folder of the overlay, which is unmounted, among the layers; no other build gets it."""
        place = self._changes / str(self._round) / "layer" / CONTENT
        self._lower.append(os.open(place, _FOLDER))

    def has_room(self) -> bool:
        """Return whether the disk that takes the changes has room; without, builds could not even be ended."""
        state = os.statvfs(self._changes)
        return state.f_bavail * state.f_frsize >= LEAST_ROOM

    def close(self) -> None:
        """Wait for what is still being kept, and remove the rest."""
        for process in self._publishers:
            os.waitpid(process, 0)
        if self._below >= 0:
            os.close(self._below)
        for descriptor in (*self._lower, *self._locks):
            os.close(descriptor)
        for each in self._opened:
            each.close()
        remove_all(self._changes)

    def _publish(self, staged: Path, record: LayerRecord) -> int:
        """Publish a layer from a process of its own, which ends with this one; return its id.

        It is of use only on the layer below it, whose digest the publisher before tells.
        """
        assert self._store is not None
        parent, below = os.getpid(), self._below
        self._below, told = os.pipe()
        process = os.fork()
        if process:
            os.close(told)
            if below >= 0:
                os.close(below)
            return process
        try:
            end_with_parent(9)
            os.close(self._below)
            whole = self._store.seal(staged, record)
            os.write(told, whole.digest.encode())
            known = os.read(below, DIGEST) if below >= 0 else self._known.encode()
            if os.getppid() == parent and (known or not record.before):
                self._store.place(staged, replace(whole, below=known.decode()))
        except (OSError, GoldsmithError) as error:
            self._say(f"the result of step {record.step!r} is not kept: {error}")
        finally:
            os._exit(0)
