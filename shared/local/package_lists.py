"""What is installed in an image: the package databases on its root file system, read without running anything of it.

    dpkg    /var/lib/dpkg/status, and one file a package in status.d (distroless images)
    rpm     /usr/lib/sysimage/rpm or /var/lib/rpm; see rpm_database.py
    apk     /lib/apk/db/installed
    cos     /etc/cos-package-info.json of Container-Optimized OS, which has no package manager

An image may have several of them. What is damaged is an ImageFileError that names the file, never half a list.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from ..errors import ImageFileError
from ..os_release import distribution
from ..ports import Package
from . import rpm_database
from .root_files import RootFiles

LOG = logging.getLogger(__name__)

DPKG_STATUS, DPKG_PARTS = "/var/lib/dpkg/status", "/var/lib/dpkg/status.d"
RPM_FOLDERS = ("/usr/lib/sysimage/rpm", "/var/lib/rpm")
APK_INSTALLED = ("/lib/apk/db/installed", "/usr/lib/apk/db/installed")
COS_LIST = "/etc/cos-package-info.json"
LARGEST_TEXT = 64 << 20  # bytes; dpkg's status of a full desktop has some 5 MB
LARGEST_RPM = 384 << 20  # bytes; an RPM database of 5,000 packages has some 250 MB


def packages(root: RootFiles) -> list[Package] | None:
    """List what is installed, by name; None where there is no package database that can be read. ImageFileError."""
    lists = [found for read in (_dpkg, _rpm, _apk, _cos) if (found := read(root)) is not None]
    if not lists:
        return None
    system = root.os_release()
    all_of_them = {replace(package, distribution=distribution(system)) for found in lists for package in found}
    return sorted(all_of_them, key=lambda one: (one.name, one.architecture, one.version, one.kind, one.source))


def _bytes(root: RootFiles, path: str, largest: int = LARGEST_TEXT) -> bytes:
    entry = root.entry(path)
    if entry is not None and entry.size > largest:
        raise ImageFileError(f"{path}: {entry.size} bytes are too many for a list of packages; look at it in the image")
    return root.read(path)


def _text(root: RootFiles, path: str) -> str:
    return _bytes(root, path).decode("utf-8", "replace")


def _is_file(root: RootFiles, path: str) -> bool:
    entry = root.entry(path)
    return entry is not None and entry.is_file


def _is_folder(root: RootFiles, path: str) -> bool:
    entry = root.entry(path)
    return entry is not None and entry.is_folder


def _dpkg(root: RootFiles) -> list[Package] | None:
    found: list[Package] | None = None
    if _is_file(root, DPKG_STATUS):
        paragraphs = _paragraphs(_text(root, DPKG_STATUS))
        installed = [fields for fields in paragraphs if fields.get("Status", "").endswith(" installed")]
        found = [_dpkg_package(fields, DPKG_STATUS) for fields in installed]
    if _is_folder(root, DPKG_PARTS):
        parts = [f"{DPKG_PARTS}/{name}" for name in root.names(DPKG_PARTS) if not name.endswith(".md5sums")]
        for path in filter(lambda path: _is_file(root, path), parts):
            found = [*(found or []), *(_dpkg_package(fields, path) for fields in _paragraphs(_text(root, path)))]
    return found


def _paragraphs(text: str) -> Iterator[Mapping[str, str]]:
    """Give the fields of each paragraph, first lines alone: what goes on below is not for us."""
    for paragraph in text.split("\n\n"):
        lines = (line.partition(":") for line in paragraph.split("\n") if line[:1] not in (" ", "\t", ""))
        fields = {name: value.strip() for name, _, value in lines}
        if fields:
            yield fields


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


def _rpm(root: RootFiles) -> list[Package] | None:
    for folder in RPM_FOLDERS:
        kind = rpm_database.databases_of(root.names(folder)) if _is_folder(root, folder) else ""
        path = f"{folder}/{kind}"
        if kind == rpm_database.BERKELEY:
            LOG.warning("%s is a Berkeley DB, which cannot be read: its packages are unknown", path)
        elif kind == rpm_database.NDB:
            return rpm_database.ndb_packages(_bytes(root, path, LARGEST_RPM), path)
        elif kind == rpm_database.SQLITE:
            wal = f"{folder}/{rpm_database.WAL}"
            rest = _bytes(root, wal, LARGEST_RPM) if _is_file(root, wal) else None
            return rpm_database.sqlite_packages(_bytes(root, path, LARGEST_RPM), rest, path)
    return None


def _apk(root: RootFiles) -> list[Package] | None:
    path = next((path for path in APK_INSTALLED if _is_file(root, path)), None)
    return None if path is None else [_apk_package(fields, path) for fields in _paragraphs(_text(root, path))]


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


def _cos(root: RootFiles) -> list[Package] | None:
    if not _is_file(root, COS_LIST):
        return None
    try:
        document = json.loads(_bytes(root, COS_LIST))
        installed, build_time = (document.get(key) or [] for key in ("installedPackages", "buildTimePackages"))
        return [*map(_cos_package, installed), *(replace(_cos_package(one), build_time=True) for one in build_time)]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ImageFileError(f"{COS_LIST}: is not the list that Container-Optimized OS keeps: {error!r}") from error


def _cos_package(entry: Mapping[str, Any]) -> Package:
    """Take one of Portage's packages: category, name and version, and the version of its ebuild."""
    category, ebuild = entry.get("category", ""), entry.get("ebuild_version", "")
    source = f"{category}/{entry['name']}" if category else ""
    return Package(
        name=str(entry["name"]),
        version=str(entry["version"]),
        architecture="",
        kind="cos",
        source=f"{source}@{ebuild}" if source and ebuild else source,
    )
