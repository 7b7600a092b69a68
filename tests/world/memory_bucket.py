"""The Bucket port in memory, as honest as the adapters in tests/world/fakes.py."""

from __future__ import annotations

import hashlib

from shared.errors import AlreadyExists, Conflict, NotFound
from shared.export_ports import ObjectSum
from tests.world.fuse import Fuse


class MemoryBucket:
    """Objects in a dictionary."""

    def __init__(self, fuse: Fuse | None = None) -> None:
        self.fuse = fuse or Fuse()
        self.objects: dict[str, bytes] = {}

    def read(self, uri: str) -> bytes:
        self.fuse.touch()
        if uri not in self.objects:
            raise NotFound(f"there is no object {uri}")
        return self.objects[uri]

    def read_part(self, uri: str, start: int, most: int) -> tuple[bytes, int]:
        data = self.read(uri)
        begin = start if start >= 0 else max(0, len(data) + start)
        return data[begin : begin + most], len(data)

    def write(self, uri: str, data: bytes) -> None:
        self.fuse.touch()
        self.objects[uri] = data
        self.fuse.touch()

    def read_with_generation(self, uri: str) -> tuple[bytes, str]:
        data = self.read(uri)
        return data, _digest(data)

    def generation(self, uri: str) -> str:
        self.fuse.touch()
        return _digest(self.objects[uri]) if uri in self.objects else ""

    def write_if_generation(self, uri: str, data: bytes, generation: str) -> str:
        self.fuse.touch()
        found = self.objects.get(uri)
        if found != data and generation != ("" if found is None else _digest(found)):
            raise Conflict(f"{uri} was written by another process")
        self.objects[uri] = data
        self.fuse.touch()
        return _digest(data)

    def upload_session(self, uri: str) -> str:
        self.fuse.touch()
        if uri in self.objects:
            raise Conflict(f"{uri} is there already")
        return f"https://storage.example/upload?object={uri}"

    def checksum(self, uri: str) -> ObjectSum | None:
        self.fuse.touch()
        data = self.objects.get(uri)
        return None if data is None else ObjectSum(len(data), hashlib.md5(data, usedforsecurity=False).hexdigest())

    def delete(self, uri: str) -> None:
        self.fuse.touch()
        self.objects.pop(uri, None)
        self.fuse.touch()

    def publish(self, staged: str, final: str) -> None:
        self.fuse.touch()
        if staged not in self.objects:
            if final not in self.objects:
                raise NotFound(f"there is neither {staged} nor {final}")
            return
        if self.objects.get(final, self.objects[staged]) != self.objects[staged]:
            raise AlreadyExists(f"there is another object {final}")
        self.objects[final] = self.objects.pop(staged)
        self.fuse.touch()

    def withdraw(self, uri: str, sha256: str, known: ObjectSum | None = None) -> None:
        self.fuse.touch()
        found = self.objects.get(uri)
        if found is not None and (known is None or known == self.checksum(uri)) and _digest(found) == sha256:
            del self.objects[uri]
        self.fuse.touch()


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
