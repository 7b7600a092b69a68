"""Files of package mirrors on the disk of one machine, by their content, with an index by URL.

    HOME/cache/packages/content/SHA256          a file
    HOME/cache/packages/index/SHA256-OF-URL     its URL, digest, and what the mirror said of its version; the time at
                                                which it was last used is its mtime
    HOME/cache/packages/.scratch-*              files that are being written

A file gets its place when it is whole, and is read once more whenever it is used: one that is not what it was is
removed. Several processes may use one cache. What one of them removes while another reads stays readable for that.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Self

from ..host.scratch import faults, locked, scratch_folder

PACKAGES_LIMIT = 4 << 30  # bytes
RESERVE = 1 << 30  # bytes of the file system that the cache leaves free
LARGEST_FILE = 1 << 30  # bytes
MOST_FILES = 1 << 16  # URLs
LOOKS = 64  # the cache looks for its size after each of so many parts of the limit that it has written
_RECORD_LIMIT = 1 << 16  # bytes
_CHUNK = 1 << 20


@dataclass(frozen=True)
class PackageRecord:
    """What is known of the file of a URL."""

    url: str
    sha256: str
    bytes: int
    etag: str = ""
    last_modified: str = ""
    content_type: str = ""


@dataclass(frozen=True)
class CachedFile:
    """A file of the cache, open at its beginning."""

    record: PackageRecord
    file: IO[bytes]


@dataclass(frozen=True)
class PackageEntry:
    """A file of the cache, for people."""

    url: str
    sha256: str
    bytes: int
    used: float  # Unix seconds


def folder_of_packages(home: Path) -> Path:
    """Return where the files of a home are."""
    return home / "cache" / "packages"


class PackageCache:
    """The files of one home. A context manager; close() ends it. NoSpace, EnvironmentFault where it cannot be made."""

    def __init__(self, home: Path, limit: int = PACKAGES_LIMIT) -> None:
        self._folder = folder_of_packages(home)
        self._limit = limit
        self._turn = threading.Lock()
        self._promised = 0  # bytes that open writers may still write
        self._unseen = 0  # bytes that were written since the last look
        self._stack = ExitStack()
        self._content, self._index = self._folder / "content", self._folder / "index"
        with faults(self._folder):
            for folder in (self._content, self._index):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._scratch = self._stack.enter_context(scratch_folder(self._folder)).path

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Hold the cache to its limit, and end the use of it."""
        with suppress(OSError):
            self.prune(self._limit)
        self._stack.close()

    def find(self, url: str) -> CachedFile | None:
        """Return the file of a URL, after reading all of it; None where there is none, or it is damaged."""
        place = self._place(url)
        record = _read_record(place)
        if record is None or record.url != url:
            return None
        try:
            file = (self._content / record.sha256).open("rb")
        except OSError:
            return None
        if _digest(file) != record.sha256:
            file.close()
            with suppress(OSError), locked(self._folder):
                (self._content / record.sha256).unlink(missing_ok=True)
                place.unlink(missing_ok=True)
            return None
        with suppress(OSError):  # removed meanwhile
            os.utime(place)
        return CachedFile(record, file)

    def add(self, size: int | None) -> PackageWriter | None:
        """Return what takes a new file of so many bytes; None where it is too large, or there is no room for it."""
        if size is not None and size > min(LARGEST_FILE, self._limit // 4):
            return None
        try:
            with self._turn:
                wanted = LARGEST_FILE if size is None else size
                if shutil.disk_usage(self._folder).free < RESERVE + wanted + self._promised:
                    return None
                writer = PackageWriter(self, self._scratch / secrets.token_hex(8), wanted)
                self._promised += wanted
                return writer
        except OSError:
            return None

    def release(self, size: int) -> None:
        """Take back the room that a writer was promised."""
        with self._turn:
            self._promised -= size

    def publish(self, path: Path, record: PackageRecord) -> None:
        """Move a whole file, and what is known of it, to their places. OSError."""
        staged = path.with_suffix(".json")
        staged.write_text(json.dumps(asdict(record)))
        with locked(self._folder):
            path.replace(self._content / record.sha256)
            staged.replace(self._place(record.url))
        self._unseen += max(record.bytes, self._limit // MOST_FILES)
        if self._unseen > self._limit // LOOKS:
            self._unseen = 0
            self.prune(self._limit)

    def entries(self) -> list[PackageEntry]:
        """Return all files, those used last first."""
        found = []
        for place, used in self._places():
            record = _read_record(place)
            if record is not None:
                found.append(PackageEntry(record.url, record.sha256, record.bytes, used))
        return sorted(found, key=lambda entry: entry.used, reverse=True)

    def prune(self, keep: int) -> int:
        """Remove the files that were used longest ago, until the others have `keep` bytes; return the bytes removed.

        A content of several URLs counts once, and stays while one of them does. OSError.
        """
        with locked(self._folder):
            before = kept = self._bytes()
            known = sorted(self._places(), key=lambda each: each[1])
            for place, _ in known[: max(0, len(known) - MOST_FILES)]:
                place.unlink(missing_ok=True)
            if kept <= keep and not self._strays():
                return 0
            wanted: dict[str, list[Path]] = {}  # the indexes of each content, the content used longest ago first
            for place, _ in sorted(self._places(), key=lambda each: each[1]):
                record = _read_record(place)
                if record is None:
                    place.unlink(missing_ok=True)
                else:
                    wanted[record.sha256] = [*wanted.pop(record.sha256, []), place]
            for path in list(self._content.iterdir()):
                if path.name not in wanted:
                    kept -= _remove(path)
            for digest, places in wanted.items():
                if kept <= keep:
                    break
                for place in places:
                    place.unlink(missing_ok=True)
                kept -= _remove(self._content / digest)
            return before - kept

    def _bytes(self) -> int:
        return sum(path.stat().st_size for path in self._content.iterdir())

    def _strays(self) -> bool:
        """Return whether there are more contents than indexes: a process was killed between the two."""
        return len(list(self._content.iterdir())) > len(list(self._index.iterdir()))

    def _places(self) -> Iterator[tuple[Path, float]]:
        for place in list(self._index.iterdir()):
            with suppress(FileNotFoundError):
                yield place, place.stat().st_mtime

    def _place(self, url: str) -> Path:
        return self._index / hashlib.sha256(url.encode("utf-8", "surrogateescape")).hexdigest()


class PackageWriter:
    """A file that is being fetched. It is kept by keep(), and gone after close()."""

    def __init__(self, cache: PackageCache, path: Path, promised: int = LARGEST_FILE) -> None:
        """Begin; `promised` is the room that there is for it, which release() takes back."""
        self._cache = cache
        self._promised = promised
        self._path = path
        self._file: IO[bytes] | None = path.open("xb")
        self._digest = hashlib.sha256()
        self._bytes = 0

    def write(self, data: bytes) -> None:
        """Add data. Where the disk takes no more, or the file grows too large, it is given up, and no error."""
        if self._file is None:
            return
        self._digest.update(data)
        self._bytes += len(data)
        if self._bytes > min(LARGEST_FILE, self._promised):
            self.close()
            return
        try:
            self._file.write(data)
        except OSError:
            self.close()

    def keep(self, url: str, *, etag: str, last_modified: str, content_type: str, sha256: str | None) -> None:
        """Keep the file as that of a URL, unless it was given up, or has another digest than the one it must have."""
        if self._file is None or sha256 not in (None, self._digest.hexdigest()):
            return
        record = PackageRecord(url, self._digest.hexdigest(), self._bytes, etag, last_modified, content_type)
        with suppress(OSError):
            self._file.close()
            self._cache.publish(self._path, record)

    def close(self) -> None:
        """Remove what was not kept."""
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            self._file = None
        self._cache.release(self._promised)
        self._promised = 0
        with suppress(OSError):
            self._path.unlink(missing_ok=True)


def _read_record(place: Path) -> PackageRecord | None:
    try:
        with place.open("rb") as file:
            record = PackageRecord(**json.loads(file.read(_RECORD_LIMIT)))
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    texts = (record.url, record.sha256, record.etag, record.last_modified, record.content_type)
    fits = all(isinstance(text, str) for text in texts) and isinstance(record.bytes, int)
    return record if fits and len(record.sha256) == 64 and record.sha256.isalnum() else None


def _digest(file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    with suppress(OSError):  # a disk that cannot be read: another digest
        while data := file.read(_CHUNK):
            digest.update(data)
        file.seek(0)
        return digest.hexdigest()
    return ""


def _remove(path: Path) -> int:
    try:
        size = path.stat().st_size
        path.unlink()
    except FileNotFoundError:
        return 0
    return size
