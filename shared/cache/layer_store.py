"""Layers on the disk of one machine: each what one step of a build has left, under its key.

    HOME/cache/layers/KEY/content       a folder of changed files, or the changed blocks of a disk
    HOME/cache/layers/KEY/layer.json    its record; locked (shared) while a build uses the layer
    HOME/cache/layers/.gone-*           layers that are being removed

A layer is renamed into place when it is whole, and away before it is removed, so that none is ever seen in part,
whatever process dies at whatever moment. What a power cut has left of its files is seen by their digests.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import secrets
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

from ..errors import EnvironmentFault, GoldsmithError
from ..host.scratch import if_abandoned, is_at
from .seal import quick_seal, whole_digest

RECORD, CONTENT, CHECKED = "layer.json", "content", "checked"
GONE = ".gone-"
LARGEST_RECORD = 1 << 16  # bytes
LAYER_KEY = re.compile(r"[0-9a-f]{64}")
_BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class StepLayer:
    """The layer that is kept after a step."""

    step: int  # index into the plan's steps
    name: str  # of the step, for people
    key: str
    networked: bool  # whether what is in it, and in no layer before it, could come from other hosts
    usable: bool = True  # False: a build was told to run this step


@dataclass(frozen=True)
class LayerRecord:
    """What is known of a layer."""

    key: str
    before: str  # the key of the layer below; "" for none
    step: str  # its name
    build: str  # the id of the build that has left it
    engine: str
    made: float  # Unix seconds
    oldest: float | None  # when the first step that could reach other hosts was run; None: none could, of all so far
    below: str = ""  # the digest of the layer below, on which alone this one is of use; "" for none
    disk_bytes: int = 0  # that it takes on this disk
    seal: str = ""  # the digest of quick_seal() and of whole_digest()
    digest: str = ""
    boot: str = ""  # of this machine, in which it was written
    used: float = 0.0  # the last time, Unix seconds; of the file, not in it

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read a record. ValueError for anything else."""
        try:
            document: Any = json.loads(data)
            record = cls(**document)
        except (TypeError, RecursionError) as error:  # another key, or no object at all
            raise ValueError(str(error)) from error
        texts = (
            record.key,
            record.before,
            record.step,
            record.build,
            record.engine,
            record.seal,
            record.digest,
            record.below,
        )
        numbers = (record.made, record.oldest or 0.0, record.disk_bytes)
        if not all(isinstance(each, str) for each in texts) or not all(
            isinstance(each, int | float) for each in numbers
        ):
            raise ValueError("a value of another type")
        return record

    def encode(self) -> bytes:
        """Write it as JSON."""
        return json.dumps({key: value for key, value in asdict(self).items() if key != "used"}).encode()


@dataclass(frozen=True)
class OpenLayer:
    """A layer in use: nothing removes it before close()."""

    record: LayerRecord
    content: Path
    lock: int

    def close(self) -> None:
        """Let it be removed."""
        os.close(self.lock)


class LayerStore:
    """The layers below a folder. Any number of processes may use it at once."""

    def __init__(self, folder: Path, remove: Callable[[Path], object]) -> None:
        """`remove` removes a folder of files that may be of other users."""
        self.folder = folder
        self._remove = remove

    def open(self, key: str) -> OpenLayer | None:
        """Return a layer that is whole, for use; None where there is none. One that is damaged is thrown away."""
        path = self.folder / key / RECORD
        try:
            lock = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            fcntl.flock(lock, fcntl.LOCK_SH)
            if not is_at(lock, path):  # removed meanwhile
                os.close(lock)
                return None
            record = LayerRecord.decode(os.read(lock, LARGEST_RECORD))
            if self._is_of_use(record, key):
                os.utime(lock)
                return OpenLayer(record, self.folder / key / CONTENT, lock)
        except (OSError, ValueError, GoldsmithError):
            pass
        os.close(lock)
        self.discard(key)
        return None

    def look(self, key: str) -> LayerRecord | None:
        """Return the record of a layer that open() would open; it stays as it is, and so does one that is damaged."""
        path = self.folder / key / RECORD
        try:
            with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
                record = LayerRecord.decode(file.read(LARGEST_RECORD))
            return record if self._is_of_use(record, key) else None
        except (OSError, ValueError, GoldsmithError):
            return None

    def publish(self, staged: Path, record: LayerRecord) -> LayerRecord | None:
        """Make a layer of a folder that has its content; return its record, or None where there is one. OSError."""
        whole = self.seal(staged, record)
        return whole if self.place(staged, whole) else None

    def seal(self, staged: Path, record: LayerRecord) -> LayerRecord:
        """Return the record of a folder's content with its digests. OSError."""
        content = staged / CONTENT
        seal = quick_seal(content)
        return replace(
            record,
            disk_bytes=seal.disk_bytes,
            seal=seal.digest,
            digest=whole_digest(content),
            boot=_BOOT.read_text().strip(),
        )

    def place(self, staged: Path, whole: LayerRecord) -> bool:
        """Make a sealed folder a layer; return False where there is one of its key. OSError."""
        (staged / RECORD).write_bytes(whole.encode())  # into the file that lock_record() may have locked
        try:
            staged.rename(self.folder / whole.key)
        except OSError as error:
            if error.errno in (errno.EEXIST, errno.ENOTEMPTY):  # another build was faster
                return False
            raise
        return True

    def records(self) -> Iterator[LayerRecord]:
        """Yield the records of all layers; one that is damaged is left out."""
        for key in self._keys():
            path = self.folder / key / RECORD
            with suppress(OSError, ValueError), path.open("rb") as file:
                record = LayerRecord.decode(file.read(LARGEST_RECORD))
                yield replace(record, used=os.fstat(file.fileno()).st_mtime)

    def discard(self, key: str) -> bool:
        """Remove a layer, unless a build uses it. Return whether it is gone."""
        place = self.folder / key
        try:
            lock = os.open(place / RECORD, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return self._take_away(place)
        except OSError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return not is_at(lock, place / RECORD) or self._take_away(place)
        except BlockingIOError:
            return False
        finally:
            os.close(lock)

    def prune(self, most: int) -> list[LayerRecord]:
        """Remove the layers that were used longest ago, until the rest take at most `most` bytes; return those.

        A layer is of no use without those below it: it goes with them.
        """
        self.sweep()
        return list(self._over(most, self.discard))

    def surplus(self, most: int) -> list[LayerRecord]:
        """Return the layers that prune() would remove."""
        return list(self._over(most, self._is_unused))

    def _over(self, most: int, goes: Callable[[str], bool]) -> Iterator[LayerRecord]:
        """Yield what is too much, as far as it goes."""
        left = sorted(self.records(), key=lambda record: (record.used, record.key))
        size, there = sum(record.disk_bytes for record in left), {record.key for record in left}
        for record in left:
            orphan = bool(record.before) and record.before not in there
            if (size > most or orphan) and goes(record.key):
                yield record
                there.discard(record.key)
                size -= record.disk_bytes

    def _is_unused(self, key: str) -> bool:
        """Return whether discard() would remove a layer."""
        try:
            lock = os.open(self.folder / key / RECORD, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            return isinstance(error, FileNotFoundError)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            os.close(lock)
        return True

    def sweep(self) -> None:
        """Remove what killed processes have left: layers that were on their way out, and such without a record."""
        for path in self._all():
            if path.name.startswith(GONE):
                with if_abandoned(path) as abandoned:
                    if abandoned:
                        self._remove(path)
            elif LAYER_KEY.fullmatch(path.name) and not (path / RECORD).exists():
                self.discard(path.name)

    def verify(self) -> list[str]:
        """Compare the files of all layers with their digests; remove those that differ, and return their keys."""
        bad = []
        for key in self._keys():
            found = self.open(key)
            if found is None:
                bad.append(key)
                continue
            try:
                whole = whole_digest(found.content) == found.record.digest
            except (OSError, GoldsmithError):
                whole = False
            found.close()
            if not whole:
                self.discard(key)
                bad.append(key)
        return bad

    def _is_of_use(self, record: LayerRecord, key: str) -> bool:
        """Return whether a layer is that of a key, and whole. OSError, EnvironmentFault."""
        return record.key == key and is_content(self.folder / key / CONTENT) and self._is_whole(record)

    def _is_whole(self, record: LayerRecord) -> bool:
        """Return whether a layer's files are as they were; all is read where the file system says otherwise.

        So it is once after each boot of this machine: a power cut may have lost what was not on the disk yet.
        """
        place = self.folder / record.key
        seen, seal = record.boot, record.seal
        with suppress(OSError, ValueError):
            seen, seal = (place / CHECKED).read_text().split("\n")
        boot, now = _BOOT.read_text().strip(), quick_seal(place / CONTENT).digest
        if (seen, seal) == (boot, now):
            return True
        if whole_digest(place / CONTENT) != record.digest:
            return False
        with suppress(OSError):  # of another user: it is read again then
            staged = place / f"{CHECKED}.{secrets.token_hex(4)}"
            staged.write_text(f"{boot}\n{now}")
            staged.replace(place / CHECKED)
        return True

    def _take_away(self, place: Path) -> bool:
        gone = self.folder / f"{GONE}{place.name[:16]}-{secrets.token_hex(4)}"
        try:
            place.rename(gone)
        except FileNotFoundError:
            return True
        except OSError:
            return False
        self._remove(gone)
        return True

    def _keys(self) -> list[str]:
        return [path.name for path in self._all() if LAYER_KEY.fullmatch(path.name)]

    def _all(self) -> list[Path]:
        try:
            return sorted(self.folder.iterdir())
        except FileNotFoundError:
            return []


def lock_record(staged: Path) -> int:
    """Lock a layer in the making, as a user of it, wherever it is moved; return what holds the lock. OSError."""
    lock = os.open(staged / RECORD, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    fcntl.flock(lock, fcntl.LOCK_SH)
    return lock


def is_content(path: Path) -> bool:
    """Return whether a layer's content is a folder or a file, and no link to one. OSError."""
    mode = path.lstat().st_mode
    return stat.S_ISDIR(mode) or stat.S_ISREG(mode)


def open_chain(store: LayerStore, chain: Sequence[StepLayer], max_age: float) -> list[OpenLayer]:
    """Open the layers that a build may begin after, the lowest first.

    None of them has older results of other hosts than `max_age` seconds. One that is older, or was made on another
    layer than the one below it, is thrown away with all above it, and so are those above one that is not there: this
    build makes newer ones.
    """
    found: list[OpenLayer] = []
    for index, layer in enumerate(chain):
        if not layer.usable:
            break
        opened = store.open(layer.key)
        record = None if opened is None else opened.record
        if opened is not None and _lack(record, found[-1].record if found else None, max_age) is None:
            found.append(opened)
            continue
        if opened is not None:
            opened.close()
        for each in reversed(chain[index:]):
            store.discard(each.key)
        break
    return found


Lack = Literal["missing", "old", "elsewhere"]
"""Why a layer is of no use: it is not there, its results of other hosts are too old, or it is on another layer."""


def look_along(store: LayerStore, chain: Sequence[StepLayer], max_age: float) -> tuple[list[LayerRecord], Lack | None]:
    """Return the records of the layers that open_chain() would open, and what the next one lacks; change nothing."""
    found: list[LayerRecord] = []
    for layer in chain:
        if not layer.usable:
            break
        record = store.look(layer.key)
        lack = _lack(record, found[-1] if found else None, max_age)
        if record is None or lack is not None:
            return found, lack
        found.append(record)
    return found, None


def _lack(record: LayerRecord | None, below: LayerRecord | None, max_age: float) -> Lack | None:
    if record is None:
        return "missing"
    if record.below != (below.digest if below else ""):
        return "elsewhere"
    return "old" if _too_old(record, time.time(), max_age) else None


def _too_old(record: LayerRecord, now: float, max_age: float) -> bool:
    return record.oldest is not None and not 0 <= now - record.oldest < max_age


def folder_of_layers(home: Path) -> Path:
    """Return the folder of all layers below a home, which is made for its owner alone. EnvironmentFault."""
    folder = home / "cache" / "layers"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentFault(f"{folder}: {error.strerror}") from error
    return folder


def oldest_of(before: LayerRecord | None, networked: bool, began: float) -> float | None:
    """Return when the first step of a layer that could reach other hosts was run, with all below it."""
    known = before.oldest if before else None
    if not networked:
        return known
    return began if known is None else min(known, began)
