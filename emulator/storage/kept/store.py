"""Buckets and objects on disk.

    buckets/BUCKET/bucket.json                 what the bucket is
    buckets/BUCKET/objects/SHA256(name).json   one StoredObject; names never become paths
    data/HEX                                   the bytes of an object; written once, never changed, shared by copies

An object changes by one rename of its JSON, so that a killed emulator finds the old object or the new one, whole; data
that no JSON names is deleted when the store is opened. Nothing is synced: the emulator need not outlive a power cut.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from ..rest.failures import ApiError, invalid, no_object, not_found
from .preconditions import Preconditions
from .staged_data import StagedData
from .stored_object import StoredObject, rfc3339

_NO_DEMANDS = Preconditions()
_BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,61}[a-z0-9](?:\.[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?)*")


class Store:
    """All buckets of one emulator; safe to use from many threads. Refusals are ApiErrors."""

    def __init__(self, folder: Path) -> None:
        self._buckets_folder = folder / "buckets"
        self._data = folder / "data"
        self._buckets_folder.mkdir(parents=True, exist_ok=True)
        self._data.mkdir(exist_ok=True)
        self._lock = threading.RLock()
        self._last_generation = 0
        self._buckets: dict[str, dict[str, Any]] = {}
        self._objects: dict[str, dict[str, StoredObject]] = {}
        self._load()

    # Buckets

    def create_bucket(self, name: object, settings: dict[str, Any]) -> dict[str, Any]:
        """Make a bucket. ApiError 400 for a bad name, 409 if it is there."""
        name = _checked_bucket_name(name)
        with self._lock:
            if name in self._buckets:
                raise ApiError(
                    409,
                    "conflict",
                    "Your previous request to create the named bucket succeeded and you already own it.",
                )
            bucket = {**settings, "name": name, "timeCreated": rfc3339(self._next_generation()), "metageneration": "1"}
            (self._folder(name) / "objects").mkdir(parents=True, exist_ok=True)
            _replace(self._folder(name) / "bucket.json", bucket)
            self._buckets[name], self._objects[name] = bucket, {}
            return bucket

    def bucket(self, name: str) -> dict[str, Any]:
        """Return a bucket's settings. ApiError 404."""
        with self._lock:
            if name not in self._buckets:
                raise not_found("The specified bucket does not exist.")
            return self._buckets[name]

    def buckets(self) -> list[dict[str, Any]]:
        """Return all buckets by name."""
        with self._lock:
            return [self._buckets[name] for name in sorted(self._buckets)]

    def delete_bucket(self, name: str) -> None:
        """Delete an empty bucket. ApiError 404, 409 if something is in it."""
        with self._lock:
            self.bucket(name)
            if self._objects[name]:
                raise ApiError(409, "conflict", "The bucket you tried to delete is not empty.")
            (self._folder(name) / "bucket.json").unlink()
            (self._folder(name) / "objects").rmdir()
            self._folder(name).rmdir()
            del self._buckets[name], self._objects[name]

    # Objects

    def stage(self) -> StagedData:
        """Open a place for an object's bytes; the caller commits or discards them."""
        return StagedData(self._data)

    def commit(
        self,
        staged: StagedData,
        bucket: str,
        name: str,
        settings: dict[str, Any],
        demands: Preconditions = _NO_DEMANDS,
        *,
        component_count: int = 0,
    ) -> StoredObject:
        """Make staged bytes an object's next generation. ApiError 404, 412; then they are still the caller's."""
        with self._lock:
            old = self.find(bucket, name)
            demands.check(old)
            generation = self._next_generation()
            now = rfc3339(generation)
            new = StoredObject(
                bucket=bucket,
                name=name,
                generation=generation,
                metageneration=1,
                size=staged.size,
                crc32c=staged.crc32c,
                md5="" if component_count else staged.md5,
                created=now,
                updated=now,
                data=staged.path.name,
                component_count=component_count,
                settings=settings,
            )
            self._put(new, old)
            staged.is_committed = True
            return new

    def find(self, bucket: str, name: str) -> StoredObject | None:
        """Return an object, or None. ApiError 404 for the bucket."""
        with self._lock:
            self.bucket(bucket)
            return self._objects[bucket].get(name)

    def get(
        self, bucket: str, name: str, generation: int | None = None, demands: Preconditions = _NO_DEMANDS
    ) -> StoredObject:
        """Return an object. ApiError 404, 412, 304."""
        with self._lock:
            found = self._found(bucket, name, generation)
            demands.check(found, reading=True)
            return found

    def open(
        self, bucket: str, name: str, generation: int | None = None, demands: Preconditions = _NO_DEMANDS
    ) -> tuple[StoredObject, BinaryIO]:
        """Return an object and its bytes, which stay readable when it is deleted. ApiError 404, 412, 304."""
        with self._lock:
            found = self.get(bucket, name, generation, demands)
            return found, (self._data / found.data).open("rb", buffering=0)

    def list(self, bucket: str, prefix: str = "") -> list[StoredObject]:
        """Return a bucket's objects by name. ApiError 404."""
        with self._lock:
            self.bucket(bucket)
            objects = self._objects[bucket]
            return [objects[name] for name in sorted(objects) if name.startswith(prefix)]

    def update(
        self,
        bucket: str,
        name: str,
        change: Callable[[dict[str, Any]], dict[str, Any]],
        generation: int | None = None,
        demands: Preconditions = _NO_DEMANDS,
    ) -> StoredObject:
        """Change an object's settings: the next metageneration. ApiError 404, 412."""
        with self._lock:
            old = self._found(bucket, name, generation)
            demands.check(old)
            new = dataclasses.replace(
                old,
                settings=change(old.settings),
                metageneration=old.metageneration + 1,
                updated=rfc3339(self._next_generation()),
            )
            self._put(new, old)
            return new

    def delete(
        self, bucket: str, name: str, generation: int | None = None, demands: Preconditions = _NO_DEMANDS
    ) -> None:
        """Delete an object. ApiError 404, 412."""
        with self._lock:
            old = self._found(bucket, name, generation)
            demands.check(old)
            self._record(bucket, name).unlink()
            del self._objects[bucket][name]
            (self._data / old.data).unlink()

    def copy(
        self, source: StoredObject, bucket: str, name: str, settings: dict[str, Any], demands: Preconditions
    ) -> StoredObject:
        """Make a second name for an object's bytes, without a copy: data never changes. ApiError 404, 412."""
        with self._lock:
            self._found(source.bucket, source.name, source.generation)
            with StagedData.linked(self._data, source) as staged:
                return self.commit(staged, bucket, name, settings, demands, component_count=source.component_count)

    def _found(self, bucket: str, name: str, generation: int | None) -> StoredObject:
        found = self.find(bucket, name)
        if found is None or generation not in (None, found.generation):
            raise no_object(bucket, name)
        return found

    def _put(self, new: StoredObject, old: StoredObject | None) -> None:
        _replace(self._record(new.bucket, new.name), dataclasses.asdict(new))
        self._objects[new.bucket][new.name] = new
        if old and old.data != new.data:
            (self._data / old.data).unlink()

    def _next_generation(self) -> int:
        self._last_generation = max(self._last_generation + 1, time.time_ns() // 1000)
        return self._last_generation

    def _folder(self, bucket: str) -> Path:
        return self._buckets_folder / bucket

    def _record(self, bucket: str, name: str) -> Path:
        return self._folder(bucket) / "objects" / f"{hashlib.sha256(name.encode()).hexdigest()}.json"

    def _load(self) -> None:
        for path in self._buckets_folder.rglob("*.part"):
            path.unlink()
        for path in self._buckets_folder.glob("*/bucket.json"):
            name = path.parent.name
            self._buckets[name] = json.loads(path.read_bytes())
            found = [StoredObject(**json.loads(record.read_bytes())) for record in path.parent.glob("objects/*.json")]
            self._objects[name] = {one.name: one for one in found}
            self._last_generation = max([self._last_generation, *(one.generation for one in found)])
        named = {one.data for objects in self._objects.values() for one in objects.values()}
        for path in self._data.iterdir():
            if path.name not in named:
                path.unlink()


def _checked_bucket_name(name: object) -> str:
    """Return a name that Cloud Storage would accept, and that is safe as the name of a folder. ApiError 400."""
    if not isinstance(name, str) or not 3 <= len(name) <= 222 or not _BUCKET_NAME.fullmatch(name):
        raise invalid(f"Invalid bucket name: {name!r}")
    return name


def _replace(path: Path, document: dict[str, Any]) -> None:
    staged = path.with_suffix(".part")
    staged.write_text(json.dumps(document), encoding="utf-8")
    staged.replace(path)
