"""Images from nothing, each made once: kept by content in the catalogue.

    rootfs-KEY12, oci-KEY12          of the archive of a root file system, of a container's image
    debian-bookworm-DATE-KEY12       of packages, as their archive had them on that date
    elements-KEY12                   of what root.d of elements makes

The key is over everything that decides the bytes of the disk: the digest of the archive, or of the container's image,
or the request and the signed indexes of the packages' archive; the disk; and the modules that make it. Elements that
fetch other things than packages make a new image once the last one is older than the request allows. A file is
digested once, as long as its place, size and times stay the same, and again while it is unpacked: one that was changed
meanwhile is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cache
from pathlib import Path

from ..architectures import X86_64, Architecture, find_architecture
from ..budget import ROOT_ARCHIVE_BOUNDS, Budget
from ..build.block_devices.description import DiskDescription, default_disk
from ..disks.extents import open_descriptor
from ..errors import AlreadyExists, ImageFileError, InputError
from ..host.scratch import faults, force, locked, part_of, scratch_folder
from ..images.bootstrap.package_source import NoSuchRelease, Unreachable
from ..images.catalogue import DISK, Catalogue, content_id
from ..machines.machines import Machines
from ..ports import Image, Notify
from ..quantities import MIB, parse_source_date
from .container import ContainerImage, container_image
from .elements import ElementsRequest, RootElements
from .packages import PackageRequest
from .packed import FilePart, plain_stream
from .start_room import RoomJob, run_room
from .tree_disk import Fill, FilledTree, TreeOrder, write_made_disk, write_tree_disk
from .tree_maker import TreeMaker

_CODE = Path(__file__).resolve().parents[1]
_RECIPE = (
    *("block_devices", "build/block_devices", "images/bootstrap", "origins"),
    *("archives/tar_members.py", "sandbox/roots/inode_fields.py", "sandbox/assembly.py"),
    *("sandbox/roots/unpack_root.py", "sandbox/roots/write_root.py"),
    "machines/direct_boot/guest/fill",
)
"""Folders and files of the code that decides what is on a disk: none can change without new keys."""
_DIGITS = 12
_NOT_IN_NAMES = re.compile(r"[^a-z0-9]+")
_PACKAGES_ESTIMATE = 1536 * MIB  # a tree and the packages that are unpacked into it, with room for some more
_LEAST_ESTIMATE = 512 * MIB
_PACKED_ESTIMATE = 5  # times the size of an archive; compressed ones grow to three to five times of it

Write = Callable[[TreeOrder, Path], None]
"""Writes the disk of an order."""


class KeptOrigins:
    """Makes images from nothing, or finds those that were made of the same contents before."""

    def __init__(
        self,
        catalogue: Catalogue,
        home: Path,
        progress: Notify,
        disk: DiskDescription | None = None,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self._catalogue = catalogue
        self._home = home
        self._folder = home / "cache" / "origins"
        self._progress = progress
        self._given = disk
        self._disk = disk or default_disk()
        self._environment = environment

    @property
    def disk(self) -> DiskDescription:
        """The disk that images get: the one that was given, or else that of the elements of the last request."""
        return self._disk

    def of_rootfs(self, file: Path) -> Image:
        """Return the image of a root file system that is packed as a tar archive, also compressed.

        ImageFileError, InputError, MissingTool, NoSpace, EnvironmentFault.
        """
        descriptor = open_descriptor(file)
        try:
            sha256 = self._digest(file, descriptor)
            size = os.fstat(descriptor).st_size
            fill = _rootfs_filler(file, descriptor, size, sha256)
            return self._filled("rootfs", sha256, str(file), fill, size * _PACKED_ESTIMATE)
        finally:
            os.close(descriptor)

    def of_container(self, place: Path) -> Image:
        """Return the image of a container's image: an OCI layout or what `docker save` writes, a folder or a file.

        ImageFileError, InputError, MissingTool, NoSpace, EnvironmentFault.
        """
        with faults(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
        with scratch_folder(self._folder) as scratch, container_image(place, scratch.path) as image:
            estimate = _PACKED_ESTIMATE * sum(layer.length for layer in image.layers)
            return self._filled("oci", image.content, str(place), _container_filler(place, image), estimate)

    def of_packages(self, request: PackageRequest) -> Image:
        """Return the image of a distribution's packages, as its archive has them now.

        Without a network, the one that was made last of the same request is returned, and `progress` is told.
        InputError, MissingTool, NoSpace, EnvironmentFault.
        """
        with faults(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
        kind = find_architecture(request.architecture)
        self._disk = self._given or default_disk(kind)
        request = replace(request, root_kind=self._disk.root.kind)
        disk = "" if self._disk == default_disk(kind) else f"-{hashlib.sha256(_text_of(self._disk)).hexdigest()}"
        known = self._folder / "requests" / f"{request.digest}{disk}"
        try:
            with scratch_folder(self._folder) as scratch:
                archive = request.state(scratch.path, self._progress)
        except Unreachable as error:
            return self._made_before(known, error)
        date = time.strftime("%Y%m%d", time.gmtime(archive.written))
        prefix = f"{request.distribution}-{_NOT_IN_NAMES.sub('-', request.release)}-{date}"
        if kind != X86_64:
            prefix = f"{prefix}-{kind.name}"
        indexes = [hashlib.sha256(index).hexdigest() for index in archive.indexes]
        content = json.dumps([request.digest, *archive.source.lines, *indexes])

        def write(order: TreeOrder, disk: Path) -> None:
            written = archive.written if order.epoch is None else order.epoch
            write_made_disk(order, request.maker(archive, written, self._progress), disk, self._progress)

        subject = f"{request.distribution} {request.release}"
        image = self._image(prefix, content, subject, write, _PACKAGES_ESTIMATE, architecture=kind)
        _write_whole(known, image.name)
        return image

    def of_elements(self, request: ElementsRequest, machines: Machines) -> Image:
        """Return the image of what root.d of elements makes, on the disk that they describe, if no other one is given.

        Without a network, the one that was made last of the same request is returned, and `progress` is told.
        InputError, MissingTool, NoSpace, EnvironmentFault.
        """

        def run(job: RoomJob, each_line: Notify) -> bytes:
            return run_room(job, self._home, machines, each_line)

        if request.local_image is not None and request.local_image.is_file():
            descriptor = open_descriptor(request.local_image)
            try:
                request = replace(request, local_digest=self._digest(request.local_image, descriptor))
            finally:
                os.close(descriptor)
        elements = RootElements(request, run, self._home, self._progress)
        self._disk = self._given or elements.disk() or default_disk()
        if request.size is not None:
            self._disk = replace(self._disk, size=request.size)
        fields = [elements.digest, self._disk.to_json(), request.room, _recipe()]
        known = self._folder / "requests" / hashlib.sha256(json.dumps(fields).encode()).hexdigest()
        state = elements.state()
        if state.unreachable:
            return self._made_before(known, Unreachable(f"source.elements: {state.unreachable}"))
        last = self._last(known) if state.indexes is None else None
        if last is not None and time.time() - last.created < request.max_age:
            return last
        made = state.indexes if state.indexes is not None else time.time()
        content = json.dumps([elements.digest, request.room, made])

        def write(order: TreeOrder, disk: Path) -> None:
            date = state.date if order.epoch is None else order.epoch
            reason = self._disk.needs_vm or ""
            write_made_disk(order, lambda scratch, tree: elements.make(tree, date, reason), disk, self._progress)

        image = self._image("elements", content, elements.subject, write, _PACKAGES_ESTIMATE, request.room)
        _write_whole(known, image.name)
        return image

    def _last(self, known: Path) -> Image | None:
        """Return the image that was made last of a request; None also where a power cut has left no name of it."""
        with suppress(FileNotFoundError, ValueError, InputError):
            return self._catalogue.get(known.read_text())
        return None

    def _made_before(self, known: Path, error: Unreachable) -> Image:
        image = self._last(known)
        if image is not None:
            self._progress(f"the package archive cannot be reached; {image.name}, made earlier, is used: {error}")
            return image
        raise InputError(f"source.bootstrap: {error}") if isinstance(error, NoSuchRelease) else error

    def _filled(self, kind: str, content: str, subject: str, fill: Fill, estimate: int) -> Image:
        def write(order: TreeOrder, disk: Path) -> None:
            write_tree_disk(order, fill, disk, self._progress)

        return self._image(kind, content, subject, write, estimate)

    def _image(
        self,
        kind: str,
        content: str,
        subject: str,
        write: Write,
        estimate: int,
        growth: int = 0,
        architecture: Architecture = X86_64,
    ) -> Image:
        """Return the image of a content, and make it where there is none."""
        epoch = _epoch(self._environment)
        key = hashlib.sha256(json.dumps([kind, content, epoch, self._disk.to_json(), _recipe()]).encode()).hexdigest()
        name = f"{kind}-{key[:_DIGITS]}"
        kernels = tuple(self._catalogue.folder / image.name / DISK for image in self._catalogue.list())
        order = TreeOrder(
            self._disk, subject, key, epoch, max(estimate, _LEAST_ESTIMATE), kernels, growth, architecture
        )
        with self._only(name):  # a process that asks for the same at the same time waits, and finds it made
            image = self._catalogue.get(name) or self._make(name, order, write)
        if image.id != content_id(key):
            raise AlreadyExists(f"image {name} is not of {subject}; delete it: goldsmith images delete {name}")
        return image

    def _make(self, name: str, order: TreeOrder, write: Write) -> Image:
        self._progress(f"making {name} of {order.subject}")
        with self._catalogue.staging() as scratch:
            disk = scratch.path / "disk.raw"
            write(order, disk)
            description = f"made of {Path(order.subject).name}"
            return self._catalogue.add(
                disk,
                name,
                transfer="move",
                description=description,
                content=order.key,
                architecture=order.architecture.name,
            )

    def _digest(self, file: Path, descriptor: int) -> str:
        """Return the SHA-256 of a file, which is remembered."""
        state = os.fstat(descriptor)
        identity = [
            str(file.resolve()),
            state.st_dev,
            state.st_ino,
            state.st_size,
            state.st_mtime_ns,
            state.st_ctime_ns,
        ]
        known = self._folder / "digests" / hashlib.sha256(json.dumps(identity).encode()).hexdigest()
        with suppress(FileNotFoundError):
            found = known.read_text()
            if len(found) == hashlib.sha256().digest_size * 2:
                return found
        self._progress(f"reading {file}")
        sha256 = FilePart(descriptor, 0, state.st_size).finish()
        _write_whole(known, sha256)
        return sha256

    @contextmanager
    def _only(self, name: str) -> Iterator[None]:
        """Hold off other processes that would make the same image."""
        place = self._folder / name
        with faults(self._folder):
            place.mkdir(parents=True, exist_ok=True)
        with locked(place):
            yield


def _text_of(disk: DiskDescription) -> bytes:
    return json.dumps(disk.to_json(), sort_keys=True).encode()


def _write_whole(path: Path, text: str) -> None:
    with faults(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        part_of(path).write_text(text)
        force(part_of(path))
        part_of(path).replace(path)


def _epoch(environment: Mapping[str, str]) -> int | None:
    """Return the time that the environment wants in all that is made. InputError."""
    try:
        return parse_source_date(environment.get("SOURCE_DATE_EPOCH", ""))
    except ValueError as error:
        raise InputError(f"SOURCE_DATE_EPOCH {error}") from error


def _rootfs_filler(file: Path, descriptor: int, size: int, sha256: str) -> Fill:
    """Return what unpacks an archive into a folder, and checks that it is still the one that was digested."""

    def fill(folder: Path) -> FilledTree:
        budget = Budget(ROOT_ARCHIVE_BOUNDS, file, size)
        maker = TreeMaker(folder, str(file), budget)
        part = FilePart(descriptor, 0, size)
        with plain_stream(part, budget) as stream:
            maker.add(stream, layer=False)
        if part.finish() != sha256:
            raise ImageFileError(f"{file}: was changed while it was read; leave it alone, and build again")
        return FilledTree(maker.finish(), maker.newest)

    return fill


def _container_filler(place: Path, image: ContainerImage) -> Fill:
    """Return what unpacks the layers of a container's image over each other, and checks each."""

    def fill(folder: Path) -> FilledTree:
        budget = Budget(ROOT_ARCHIVE_BOUNDS, place, sum(layer.length for layer in image.layers))
        maker = TreeMaker(folder, str(place), budget)
        for number, layer in enumerate(image.layers, 1):
            part = layer.part()
            with plain_stream(part, budget) as stream:
                plain = maker.add(stream, layer=True)
            if plain != layer.plain or layer.packed not in (None, part.finish()):
                raise ImageFileError(f"{place}: is damaged: layer {number} is not what its digest says; save it again")
        return FilledTree(maker.finish(), maker.newest)

    return fill


@cache
def _recipe() -> str:
    digest = hashlib.sha256()
    for place in _RECIPE:
        path = _CODE / place
        for module in sorted(path.rglob("*.py")) if path.is_dir() else (path,):
            digest.update(module.read_bytes())
    return digest.hexdigest()
