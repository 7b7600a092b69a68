"""Read the package databases of an image's root file system, without running anything from it.

    dpkg    /var/lib/dpkg/status, and one file a package in status.d (distroless images)
    rpm     /usr/lib/sysimage/rpm or /var/lib/rpm; see rpm.py
    apk     /lib/apk/db/installed
    cos     /etc/cos-package-info.json of Container-Optimized OS, which has no package manager

An image may have several of them. What is damaged is an ImageFileError that names the file, never half a list.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from typing import Any

from provisioner.system.os_release import distribution

from ..budget import PACKAGES_BOUNDS, Budget
from ..disks.root_files import RootFiles
from ..errors import ImageFileError
from ..host.scratch import temporary_folder
from ..ports import Package
from . import rpm

LOG = logging.getLogger(__name__)

DPKG_STATUS, DPKG_PARTS = "/var/lib/dpkg/status", "/var/lib/dpkg/status.d"
RPM_FOLDERS = ("/usr/lib/sysimage/rpm", "/var/lib/rpm")
APK_INSTALLED = ("/lib/apk/db/installed", "/usr/lib/apk/db/installed")
COS_LIST = "/etc/cos-package-info.json"
LARGEST_TEXT = 64 << 20  # bytes of one file; dpkg's status of a full desktop has some 5 MB
LARGEST_RPM = 384 << 20  # bytes; an RPM database of 5,000 packages has some 250 MB
LARGEST_COS = 8 << 20  # bytes, which json.loads() may turn into thirty times as many; COS's list has some 100 kB
PACKAGE_BYTES = rpm.PACKAGE_BYTES


def packages(root: RootFiles) -> list[Package] | None:
    """List what is installed, by name; None where there is no package database that can be read. ImageFileError."""
    source = _Source(root)
    lists = [found for read in (_dpkg, _rpm, _apk, _cos) if (found := read(source)) is not None]
    if not lists:
        return None
    system = root.os_release()
    all_of_them = {replace(package, distribution=distribution(system)) for found in lists for package in found}
    return sorted(all_of_them, key=attrgetter("order"))


class _Source:
    """The root file system with its package databases, and the one Budget for all of them."""

    def __init__(self, root: RootFiles) -> None:
        self.root = root
        self.budget = Budget(PACKAGES_BOUNDS, root.file_system.disk)

    def read(self, path: str) -> bytes:
        """Read a file of a list."""
        data = self.text(path, LARGEST_TEXT)
        self.budget.read(len(data))
        return data

    def text(self, path: str, largest: int) -> bytes:
        """Read a file that is counted when it is parsed."""
        self._check(path, largest)
        return self.root.read(path)

    def copied(self, paths: Iterable[str], into: Path) -> list[Path]:
        """Copy those files that there are; of the first, and what is beside it, a database is read where it is."""
        found = [path for path in paths if _is_file(self.root, path)]
        for path in found:
            self._check(path, LARGEST_RPM)
        copies = self.root.dump(found, into)
        return [copies[path] for path in found]

    def paragraphs(self, path: str) -> Iterator[Mapping[str, str]]:
        """Yield the fields of each paragraph, first lines alone: their continuations are not needed."""
        fields: dict[str, str] = {}
        for line in io.BytesIO(self.read(path)):
            if line == b"\n":
                yield from self._counted(fields)
                fields = {}
            elif line[:1] not in (b" ", b"\t"):
                name, _, value = line.decode("utf-8", "replace").partition(":")
                fields[name.rstrip("\n")] = value.strip()
        yield from self._counted(fields)

    def keep(self, package: Package) -> Package:
        """Count what a package takes."""
        texts = (package.name, package.version, package.architecture, package.source, package.vendor, package.license)
        self.budget.keep(PACKAGE_BYTES + 2 * sum(map(len, texts)))
        return package

    def _counted(self, fields: dict[str, str]) -> Iterator[Mapping[str, str]]:
        self.budget.step(1 + len(fields))
        if fields:
            yield fields

    def _check(self, path: str, largest: int) -> None:
        entry = self.root.entry(path)
        if entry is not None and entry.size > largest:
            raise ImageFileError(
                f"{path}: {entry.size} bytes are too many for a list of packages; look at it in the image"
            )


def _is_file(root: RootFiles, path: str) -> bool:
    entry = root.entry(path)
    return entry is not None and entry.is_file


def _is_folder(root: RootFiles, path: str) -> bool:
    entry = root.entry(path)
    return entry is not None and entry.is_folder


def _dpkg(source: _Source) -> list[Package] | None:
    found: list[Package] | None = None
    root = source.root
    if _is_file(root, DPKG_STATUS):
        found = [
            source.keep(_dpkg_package(fields, DPKG_STATUS))
            for fields in source.paragraphs(DPKG_STATUS)
            if fields.get("Status", "").endswith(" installed")
        ]
    if _is_folder(root, DPKG_PARTS):
        found = found or []
        parts = [f"{DPKG_PARTS}/{name}" for name in root.names(DPKG_PARTS) if not name.endswith(".md5sums")]
        for path in filter(lambda path: _is_file(root, path), parts):
            found += [source.keep(_dpkg_package(fields, path)) for fields in source.paragraphs(path)]
    return found


def _dpkg_package(fields: Mapping[str, str], path: str) -> Package:
    if not all(fields.get(key) for key in ("Package", "Version")):
        raise ImageFileError(f"{path}: a package has no name or version; look at it with dpkg --audit in the image")
    source, _, version = fields.get("Source", "").partition(" ")
    return Package(
        name=fields["Package"],
        version=fields["Version"],
        architecture=fields.get("Architecture", ""),
        source=f"{source}@{version.strip('()')}" if version else source,
        vendor=fields.get("Maintainer", ""),
    )


def _rpm(source: _Source) -> list[Package] | None:
    root = source.root
    for folder in RPM_FOLDERS:
        kind = rpm.databases_of(root.names(folder)) if _is_folder(root, folder) else ""
        path = f"{folder}/{kind}"
        if kind == rpm.BERKELEY:
            LOG.warning("%s is a Berkeley DB, which cannot be read: its packages are unknown", path)
        elif kind:
            read = rpm.ndb_packages if kind == rpm.NDB else rpm.sqlite_packages
            with temporary_folder() as scratch:
                copies = source.copied((path, f"{folder}/{rpm.WAL}"), scratch)
                return read(copies[0], path, source.budget)
    return None


def _apk(source: _Source) -> list[Package] | None:
    path = next((path for path in APK_INSTALLED if _is_file(source.root, path)), None)
    if path is None:
        return None
    return [source.keep(_apk_package(fields, path)) for fields in source.paragraphs(path)]


def _apk_package(fields: Mapping[str, str], path: str) -> Package:
    if not all(fields.get(key) for key in ("P", "V")):
        raise ImageFileError(f"{path}: a package has no name or version; look at it with apk audit in the image")
    return Package(
        name=fields["P"],
        version=fields["V"],
        architecture=fields.get("A", ""),
        kind="apk",
        source=fields.get("o", ""),
        vendor=fields.get("m", ""),
        license=fields.get("L", ""),
    )


def _cos(source: _Source) -> list[Package] | None:
    if not _is_file(source.root, COS_LIST):
        return None
    try:
        document = source.budget.json(source.text(COS_LIST, LARGEST_COS))
        installed, build_time = (document.get(key) or [] for key in ("installedPackages", "buildTimePackages"))
        found = [source.keep(_cos_package(one)) for one in installed]
        return [*found, *(replace(source.keep(_cos_package(one)), build_time=True) for one in build_time)]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ImageFileError(f"{COS_LIST}: is not the list that Container-Optimized OS keeps: {error!r}") from error


def _cos_package(entry: Mapping[str, Any]) -> Package:
    """Take one of Portage's packages: category, name and version, and the version of its ebuild.

    JSON may hold halves of surrogate pairs, which are no characters: UTF-8 has nothing for them.
    """
    told = (entry["name"], entry["version"], entry.get("category") or "", entry.get("ebuild_version") or "")
    name, version, category, ebuild = (str(one).encode("utf-8", "replace").decode() for one in told)
    source = f"{category}/{name}" if category else ""
    return Package(
        name=name,
        version=version,
        architecture="",
        kind="cos",
        source=f"{source}@{ebuild}" if source and ebuild else source,
    )
