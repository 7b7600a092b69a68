"""What people have uploaded, in memory: every generation of an object, as a bucket with versions keeps them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from shared.errors import AlreadyExists, NotFound
from shared.ports import StoredObject


class MemoryObjects:
    """Objects by URI; `downloaded` is what was read, in that order."""

    def __init__(self) -> None:
        self.live: dict[str, StoredObject] = {}
        self.contents: dict[tuple[str, str], bytes] = {}
        self.downloaded: list[str] = []
        self.faults: dict[str, Exception] = {}  # of every look at the object of that URI

    def put(
        self, uri: str, data: bytes | str, metadata: Mapping[str, str] | None = None, *, size: int | None = None
    ) -> str:
        """Upload; return the generation. `size` is what the object claims to have."""
        content = data.encode() if isinstance(data, str) else data
        generation = str(len(self.contents) + 1)
        self.contents[uri, generation] = content
        self.live[uri] = StoredObject(uri, generation, len(content) if size is None else size, dict(metadata or {}))
        return generation

    def remove(self, uri: str) -> None:
        del self.live[uri]

    def stat(self, uri: str, generation: str = "") -> StoredObject | None:
        if uri in self.faults:
            raise self.faults[uri]
        found = self.live.get(uri)
        return None if found is None or generation not in ("", found.generation) else found

    def listing(self, prefix: str) -> Iterator[StoredObject]:
        yield from (self.live[uri] for uri in sorted(self.live) if uri.startswith(prefix))

    def download(self, found: StoredObject, target: Path) -> None:
        if self.live.get(found.uri) != found:
            raise NotFound(f"there is no object {found.uri}#{found.generation}")
        self.downloaded.append(found.uri)
        target.write_bytes(self.contents[found.uri, found.generation])

    def parts(self, found: StoredObject) -> Iterator[bytes]:
        if self.live.get(found.uri) != found:
            raise NotFound(f"there is no object {found.uri}#{found.generation}")
        content = self.contents[found.uri, found.generation]
        yield from (content[start : start + 1000] for start in range(0, len(content), 1000))

    def copy_once(self, found: StoredObject, uri: str) -> None:
        if uri not in self.live:
            self.put(uri, b"".join(self.parts(found)))

    def write_once(self, uri: str, source: Path) -> None:
        if uri not in self.live:
            self.put(uri, source.read_bytes())
        elif self.contents[uri, self.live[uri].generation] != source.read_bytes():
            raise AlreadyExists(f"there is another object {uri}")
