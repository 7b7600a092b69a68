"""A minimal bootable image from a distribution's packages, made unless the same one was made before.

    root_tree.py    the root file system, by mmdebstrap
    boot_disk.py    the disk around it; block_devices/boot_loader.py what starts it

The result is kept by content: its key is over the recipe (the source of these modules), the request, and the signed
indexes of the package archive. While none of them changes, the same image is returned and nothing is made.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

from ...block_devices import boot_loader
from ...disks.extents import need_space
from ...errors import AlreadyExists, EnvironmentFault, InputError
from ...host.programs import find_tool
from ...host.scratch import locked, memory_folder, own_folder, passage, scratch_folder
from ...ports import Image, Notify
from ...quantities import GIB, parse_source_date
from ..catalogue import Catalogue
from . import boot_disk, root_tree
from .boot_disk import (
    Identity,
    assemble,
)
from .package_source import ArchiveState, Unreachable, contents
from .root_tree import BASE_PACKAGES, boot_files, cloud_contents, make_tree
from .tree_owner import remove_tree

SYSTEMS = {"debian-12": "bookworm", "debian-13": "trixie"}
_SMALLEST_GB = 2
_TREE_BYTES = 1536 << 20  # a tree and the packages that are unpacked into it, with room for some more
_DISK_BYTES = 1 << 30
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9.+-]+(:[a-z0-9]+)?(/[-a-z0-9]+|=[A-Za-z0-9.+:~-]+)?")


@dataclass(frozen=True)
class BootstrapRequest:
    """The request of a bootstrap."""

    family: str
    suite: str
    packages: tuple[str, ...]
    mirror: str | None
    size_gb: int

    @property
    def digest(self) -> str:
        """Name the request: the first 16 hex digits of its SHA-256."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]


Maker = Callable[[BootstrapRequest, ArchiveState, str, Path, Notify], None]
"""Writes the disk of a request; gets the archive's contents, the key, the path and where to say how far it is."""


def bootstrap_image(
    name: str,
    catalogue: Catalogue,
    *,
    home: Path,
    release: str | None = None,
    packages: Sequence[str] = (),
    mirror: str | None = None,
    size_gb: int = 10,
    progress: Notify = lambda line: None,
    make: Maker | None = None,
) -> Image:
    """Make an image of a distribution, or return the one that was made of the same packages before.

    `name` is the system (a key of SYSTEMS) and the image's family; `release` another suite of it, whose family is
    then debian-RELEASE; `packages` are added to the base. What is made is kept below `home`/cache. Without a network,
    the newest earlier image of the same request is returned, and `progress` called. `make` writes the disk; it is
    make_disk() unless given.
    Raises InputError, MissingTool, NoSpace, EnvironmentFault.
    """
    request = _request(name, release, packages, mirror, size_gb)
    kept = home / "cache" / "bootstrap" / request.digest
    kept.mkdir(parents=True, exist_ok=True)
    with locked(kept):  # a process that asks for the same at the same time waits, and finds it made
        try:
            with scratch_folder(kept.parent) as scratch:
                archive = contents(mirror, request.suite, scratch.path, progress)
        except Unreachable as error:
            return _without_archive(catalogue, request, kept, error, progress)
        key = _key(request, archive)
        image_name = f"{request.family}-{time.strftime('%Y%m%d', time.gmtime(archive.written))}-{key[:12]}"
        disk = kept / f"{image_name}.raw"
        if not disk.exists():
            with scratch_folder(kept.parent) as staging:
                staged = staging.path / disk.name
                (make or make_disk)(request, archive, key, staged, progress)
                staged.replace(disk)
            _forget_older(kept, disk)
        return _in_catalogue(catalogue, request, disk)


def suite_and_family(name: str, release: str | None) -> tuple[str, str]:
    """Return the suite of a system, a key of SYSTEMS, or of another release of it, and the family. InputError."""
    if name not in SYSTEMS:
        raise InputError(f"{name!r} cannot be bootstrapped; write one of: {', '.join(SYSTEMS)}")
    suite = release or SYSTEMS[name]
    return suite, name if suite == SYSTEMS[name] else f"debian-{suite}".replace(".", "-")


def _request(
    name: str, release: str | None, packages: Sequence[str], mirror: str | None, size_gb: int
) -> BootstrapRequest:
    suite, family = suite_and_family(name, release)
    for package in packages:
        if not _PACKAGE.fullmatch(package):
            raise InputError(f"{package!r} is not the name of a package; write one such as nginx")
    if size_gb < _SMALLEST_GB:
        raise InputError(f"an image of {size_gb} GB is too small; ask for at least {_SMALLEST_GB}")
    wanted = (*BASE_PACKAGES, *sorted(set(packages) - set(BASE_PACKAGES)))
    return BootstrapRequest(family, suite, wanted, mirror, size_gb)


def _key(request: BootstrapRequest, archive: ArchiveState) -> str:
    digest = hashlib.sha256(_recipe())
    lines = "\n".join(archive.source.lines)
    for data in (request.digest.encode(), lines.encode(), *archive.indexes):
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()


@cache
def _recipe() -> bytes:
    """Digest the modules that decide what is in an image: none of them can change without a new key."""
    sources = [Path(module.__file__ or "").read_bytes() for module in (root_tree, boot_disk, boot_loader)]
    return hashlib.sha256(b"\0".join(sources)).digest()


def _without_archive(
    catalogue: Catalogue, request: BootstrapRequest, kept: Path, error: Unreachable, progress: Notify
) -> Image:
    disks = sorted(kept.glob("*.raw"), key=lambda path: path.stat().st_mtime)
    if not disks:
        raise error
    progress(f"the package archive cannot be reached; {disks[-1].stem}, made earlier, is used: {error}")
    return _in_catalogue(catalogue, request, disks[-1])


def _in_catalogue(catalogue: Catalogue, request: BootstrapRequest, disk: Path) -> Image:
    image = catalogue.get(disk.stem)
    if image is not None:
        return image
    extra = [package for package in request.packages if package not in BASE_PACKAGES]
    description = f"Debian {request.suite}, bootstrapped" + (f" with {', '.join(extra)}" if extra else "")
    try:
        return catalogue.add(disk, disk.stem, transfer="link", family=request.family, description=description)
    except AlreadyExists:
        image = catalogue.get(disk.stem)
        if image is None:
            raise
        return image


def make_disk(request: BootstrapRequest, archive: ArchiveState, key: str, disk: Path, progress: Notify) -> None:
    """Make the disk of a request from what the archive holds, without a look at what was made before."""
    for program in ("mmdebstrap", "sfdisk", "mke2fs", "mkfs.vfat", "mcopy", "grub-mkimage"):
        find_tool(program)
    if not _KEYRING.exists():
        raise EnvironmentFault(f"{_KEYRING} is missing; install it with: apt-get install debian-archive-keyring")
    need_space(disk.parent, _DISK_BYTES)
    written = _date() or archive.written
    identity = Identity.derived(key)
    with scratch_folder(_tree_parent(), mode=passage(), remove=remove_tree) as scratch:
        wanted = cloud_contents(archive.source, request.packages)
        wanted = replace(wanted, files={**wanted.files, **boot_files(identity.root)})
        tree = make_tree(scratch, wanted, written, progress)
        progress("writing the disk")
        size = request.size_gb * GIB
        assemble(tree, disk, size=size, identity=identity, scratch=scratch.path, time=written)


def _date() -> int | None:
    """Return the date that the environment wants in all that is made. InputError."""
    try:
        return parse_source_date(os.environ.get("SOURCE_DATE_EPOCH", ""))
    except ValueError as error:
        raise InputError(f"SOURCE_DATE_EPOCH {error}") from error


def _tree_parent() -> Path:
    """Return a folder of ours where a tree is quick to write: in memory where there is enough of it, else TMPDIR."""
    parent = memory_folder(2 * _TREE_BYTES)
    if parent is None:
        need_space(parent := Path(tempfile.gettempdir()), _TREE_BYTES)
        parent = own_folder(parent)
    return parent


def _forget_older(kept: Path, newest: Path) -> None:
    for path in kept.glob("*.raw"):
        if path != newest:
            path.unlink(missing_ok=True)
