"""Read a container's image from an OCI layout or what `docker save` writes, in a folder or in a tar archive of one.

    oci-layout, index.json, blobs/sha256/HEX    an index leads to manifests, a manifest to a configuration and layers
    manifest.json, CONFIG.json, LAYER.tar       the same in one list, where the configuration has the layers' digests

All is hostile: a blob counts only with the digest by which it was asked for, and a path is one of the folder's.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
import stat
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ..archives.inflate import FAULTS
from ..archives.tar_members import TarMembers
from ..budget import ROOT_ARCHIVE_BOUNDS, Budget
from ..disks.extents import open_descriptor
from ..errors import ImageFileError, InputError
from ..host.scratch import faults
from ..sandbox.system_calls import open_in_root
from .packed import FilePart, plain_stream

PLATFORM = "linux/amd64"
_INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
_MANIFESTS = ("application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json")
_CONFIGS = ("application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json")
_LAYER = re.compile(
    r"application/vnd\.(?:oci\.image\.layer\.v1\.tar|docker\.image\.rootfs\.diff\.tar)(?:[.+](?:gzip|zstd))?"
)
_ELSEWHERE = re.compile(r"application/vnd\.(?:oci\.image\.layer\.nondistributable|docker\.image\.rootfs\.foreign).*")
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_HEX = re.compile(r"(?:.*/)?([0-9a-f]{64})(?:\.json)?")
_LARGEST_DOCUMENT = 4 << 20  # bytes, as registries allow
_DEEPEST = 4  # indexes in each other
_MOST_LAYERS = 500
_MOST_LINKS = 8
_NAME = "org.opencontainers.image.ref.name"


@dataclass(frozen=True)
class Layer:
    """A layer's bytes in an open file, and the SHA-256 that they have to have: as they are, and unpacked."""

    descriptor: int
    start: int
    length: int
    packed: str | None
    plain: str

    def part(self) -> FilePart:
        """Return its bytes, to be read once."""
        return FilePart(self.descriptor, self.start, self.length)


@dataclass(frozen=True)
class ContainerImage:
    """The image for this machine: a digest over all of it, and its layers, the lowest first."""

    content: str
    layers: tuple[Layer, ...]


@dataclass(frozen=True)
class _Place:
    """Where a file's bytes lie in an open one."""

    descriptor: int
    start: int
    length: int


class _Files(Protocol):
    """The files of a folder or an archive, by their paths in it."""

    subject: Path

    def find(self, path: str) -> _Place | None:
        """Return where a file is; None where there is none."""


class _Folder:
    """The files of a folder, each open until the end."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.subject = folder
        self._stack = stack
        self._root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        stack.callback(os.close, self._root)

    def find(self, path: str) -> _Place | None:
        try:
            file = open_in_root(self._root, os.fsencode(path), os.O_RDONLY | os.O_NONBLOCK)
        except (FileNotFoundError, NotADirectoryError):
            return None
        self._stack.callback(os.close, file)
        state = os.fstat(file)
        return _Place(file, 0, state.st_size) if stat.S_ISREG(state.st_mode) else None


class _Archive:
    """The files of a tar archive that is not compressed."""

    def __init__(self, subject: Path, descriptor: int, budget: Budget) -> None:
        self.subject = subject
        self._places: dict[str, _Place] = {}
        self._links: dict[str, str] = {}
        os.lseek(descriptor, 0, os.SEEK_SET)
        with os.fdopen(os.dup(descriptor), "rb") as stream:
            members = TarMembers(stream, budget)
            for member in members:
                path = _normal(member.name)
                self._places.pop(path, None)
                self._links.pop(path, None)
                if member.isreg() and not member.issparse():
                    self._places[path] = _Place(descriptor, member.offset_data, member.size)
                elif member.issym():
                    self._links[path] = _normal(posixpath.join(posixpath.dirname(path), member.linkname))
                elif member.islnk():
                    self._links[path] = _normal(member.linkname)
            members.check_end()

    def find(self, path: str) -> _Place | None:
        path = _normal(path)
        for _ in range(_MOST_LINKS):
            if path in self._places:
                return self._places[path]
            path = self._links.get(path, "")
        return None


def _normal(path: str) -> str:
    return posixpath.normpath("/" + path).lstrip("/")


@contextmanager
def container_image(place: Path, scratch: Path) -> Iterator[ContainerImage]:
    """Yield the image for linux/amd64 of a folder or file. `scratch` is a folder for an archive that is compressed.

    InputError where there is none for this machine, or several; ImageFileError where it is damaged; NoSpace.
    """
    with ExitStack() as stack:
        try:
            files: _Files = _Folder(place, stack) if place.is_dir() else _of_file(place, scratch, stack)
            budget = Budget(ROOT_ARCHIVE_BOUNDS, place, 0)
            reader = _Reader(files, budget)
            image = reader.layout() if files.find("index.json") else reader.saved()
        except (*FAULTS, tarfile.TarError, RecursionError) as error:
            raise ImageFileError(f"{place}: is no image of a container that can be read: {error}") from error
        yield image


def _of_file(place: Path, scratch: Path, stack: ExitStack) -> _Archive:
    descriptor = open_descriptor(place)
    stack.callback(os.close, descriptor)
    size = os.fstat(descriptor).st_size
    budget = Budget(ROOT_ARCHIVE_BOUNDS, place, size)
    part = FilePart(descriptor, 0, size)
    if part.is_packed:
        with faults(scratch), (scratch / "unpacked.tar").open("w+b") as file, plain_stream(part, budget) as stream:
            while data := stream.read(1 << 20):
                file.write(data)
            file.flush()
            descriptor = os.dup(file.fileno())
        stack.callback(os.close, descriptor)
    return _Archive(place, descriptor, budget)


@dataclass(frozen=True)
class _Candidate:
    """A manifest that an index leads to."""

    sha256: str
    platform: str | None  # None where the index does not tell
    variant: str | None
    name: str | None


class _Reader:
    """Reads the documents of one image."""

    def __init__(self, files: _Files, budget: Budget) -> None:
        self._files = files
        self._budget = budget

    def layout(self) -> ContainerImage:
        """Read an OCI layout."""
        index = self._document("index.json")
        found = {each.sha256: each for each in self._candidates(index, 0)}
        known = {sha256: each.platform or self._platform_of(sha256) for sha256, each in found.items()}
        fitting = [found[sha256] for sha256, platform in known.items() if platform == PLATFORM]
        fitting = [each for each in fitting if each.variant is None] or fitting[:1]
        if not fitting:
            others = sorted({platform for platform in known.values() if platform is not None})
            has = f"images for {', '.join(others)} alone" if others else "no image of a container"
            raise InputError(f"{self._files.subject}: has {has}; give one for {PLATFORM}")
        if len(fitting) > 1:
            names = ", ".join(sorted(each.name or each.sha256[:12] for each in fitting))
            raise self._several(len(fitting), names)
        manifest = self._blob("manifest", fitting[0].sha256)
        config = self._config(self._blob("configuration", self._digest(_mapping(manifest, "config"))))
        descriptors = _list(manifest, "layers")
        digests = [self._layer_digest(descriptor) for descriptor in descriptors]
        layers = []
        for descriptor, digest, plain in zip(descriptors, digests, self._plain(config, len(digests)), strict=True):
            place = self._found(f"blobs/sha256/{digest}")
            if descriptor.get("size") != place.length:
                raise self._damaged(f"layer {digest[:12]} has {place.length} bytes, not {descriptor.get('size')}")
            layers.append(Layer(place.descriptor, place.start, place.length, digest, plain))
        return ContainerImage(fitting[0].sha256, tuple(layers))

    def saved(self) -> ContainerImage:
        """Read what `docker save` writes."""
        if self._files.find("manifest.json") is None:
            raise ImageFileError(
                f"{self._files.subject}: has neither index.json nor manifest.json; give an OCI layout, or what "
                "docker save writes"
            )
        images = self._document("manifest.json")
        if not isinstance(images, list) or not all(isinstance(image, dict) for image in images) or not images:
            raise self._damaged("manifest.json lists no image")
        if len({str(image.get("Config")) for image in images}) > 1:
            tags = (tag for image in images for tag in image.get("RepoTags") or ())
            raise self._several(len(images), ", ".join(map(str, tags)))
        name, paths = images[0].get("Config"), _list(images[0], "Layers", str)
        if not isinstance(name, str):
            raise self._damaged("manifest.json names no configuration")
        data = self._bytes(name)
        sha256 = hashlib.sha256(data).hexdigest()
        named = _HEX.fullmatch(name)
        if named is not None and named[1] != sha256:
            raise self._damaged(f"the configuration {name} is not what its name says")
        config = self._config(self._budget.json(data))
        layers = []
        for path, plain in zip(paths, self._plain(config, len(paths)), strict=True):
            place = self._found(path)
            layers.append(Layer(place.descriptor, place.start, place.length, None, plain))
        return ContainerImage(sha256, tuple(layers))

    def _candidates(self, index: Any, depth: int) -> Iterator[_Candidate]:
        if depth > _DEEPEST:
            raise self._damaged("its indexes lie in each other without an end")
        for descriptor in _list(index, "manifests"):
            self._budget.step(100)
            kind = descriptor.get("mediaType")
            if kind in _INDEXES:
                yield from self._candidates(self._blob("index", self._digest(descriptor)), depth + 1)
            elif kind in _MANIFESTS:
                platform = descriptor.get("platform")
                told = f"{platform.get('os')}/{platform.get('architecture')}" if isinstance(platform, dict) else None
                variant = platform.get("variant") if isinstance(platform, dict) else None
                notes = descriptor.get("annotations")
                name = str(notes[_NAME]) if isinstance(notes, dict) and _NAME in notes else None
                if told != "unknown/unknown":  # a statement about another image
                    yield _Candidate(self._digest(descriptor), told, variant, name)

    def _platform_of(self, sha256: str) -> str | None:
        """Return the platform of a manifest by its configuration; None for what is no container's image."""
        config = _mapping(self._blob("manifest", sha256), "config")
        if config.get("mediaType") not in _CONFIGS:
            return None
        found = self._blob("configuration", self._digest(config))
        return f"{found.get('os')}/{found.get('architecture')}" if isinstance(found, dict) else None

    def _config(self, config: Any) -> Mapping[str, Any]:
        """Check the platform of a configuration."""
        if not isinstance(config, dict):
            raise self._damaged("its configuration is no object")
        platform = f"{config.get('os')}/{config.get('architecture')}"
        if platform != PLATFORM:
            raise InputError(f"{self._files.subject}: is an image for {platform}; give one for {PLATFORM}")
        return config

    def _plain(self, config: Mapping[str, Any], count: int) -> list[str]:
        """Return the digests of unpacked layers, of which there have to be as many as layers."""
        found = [_DIGEST.fullmatch(str(digest)) for digest in _list(_mapping(config, "rootfs"), "diff_ids", str)]
        digests = [match[1] for match in found if match is not None]
        if not 0 < len(digests) == len(found) == count <= _MOST_LAYERS:
            raise self._damaged(f"it has {count} layers, and its configuration tells of {len(digests)}")
        return digests

    def _layer_digest(self, descriptor: Mapping[str, Any]) -> str:
        kind = str(descriptor.get("mediaType"))
        if _ELSEWHERE.fullmatch(kind) or descriptor.get("urls"):
            raise InputError(
                f"{self._files.subject}: has a foreign layer, whose files are elsewhere ({kind[:100]}); give an image "
                "whose layers are all in it"
            )
        if not _LAYER.fullmatch(kind):
            raise InputError(
                f"{self._files.subject}: has a layer of the kind {kind[:100]}, which cannot be read; give an image "
                "with layers of tar, tar+gzip or tar+zstd"
            )
        return self._digest(descriptor)

    def _digest(self, descriptor: Mapping[str, Any]) -> str:
        digest = str(descriptor.get("digest"))
        match = _DIGEST.fullmatch(digest)
        if match is None:
            raise self._damaged(f"it names a blob by {digest[:80]!r}, and only sha256 is read")
        return match[1]

    def _blob(self, what: str, sha256: str) -> Any:
        """Read a document by its digest."""
        data = self._bytes(f"blobs/sha256/{sha256}")
        if hashlib.sha256(data).hexdigest() != sha256:
            raise self._damaged(f"the {what} {sha256[:12]} is not what its digest says")
        return self._budget.json(data)

    def _document(self, path: str) -> Any:
        return self._budget.json(self._bytes(path))

    def _bytes(self, path: str) -> bytes:
        place = self._found(path)
        if place.length > _LARGEST_DOCUMENT:
            raise self._damaged(f"{path[:100]} has {place.length} bytes, more than any document of an image")
        return os.pread(place.descriptor, place.length, place.start)

    def _found(self, path: str) -> _Place:
        place = self._files.find(path) if "\0" not in path else None
        if place is None:
            raise self._damaged(f"it has no {path[:100]!r}")
        return place

    def _damaged(self, what: str) -> ImageFileError:
        return ImageFileError(f"{self._files.subject}: is damaged: {what}; save it again")

    def _several(self, count: int, names: str) -> InputError:
        return InputError(f"{self._files.subject}: holds {count} images ({names[:300]}); save one of them alone")


def _mapping(document: Any, key: str) -> Mapping[str, Any]:
    value = document.get(key) if isinstance(document, dict) else None
    if isinstance(value, dict):
        return value
    raise ValueError(f"{key} is no object in one of its documents")


def _list(document: Any, key: str, of: type = dict) -> list[Any]:
    value = document.get(key) if isinstance(document, dict) else None
    if isinstance(value, list) and all(isinstance(each, of) for each in value):
        return value
    raise ValueError(f"{key} is no list of objects, or of texts, in one of its documents")
