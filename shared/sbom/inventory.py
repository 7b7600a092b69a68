"""Read the text of a build VM's INVENTORY report, which provisioner/job/inventory.py writes.

A guest may have written anything: lines that are not of its form are left out and counted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter

from provisioner.protocol import BUILD, INVENTORY
from provisioner.system.os_release import distribution

from ..build.events import Event, Reported
from ..ports import Package, PackageKind

MOST_FOLDERS_READ = 1000
_PATH = re.compile(r"/|(?:/[^/]{1,255}){1,3}")
_NUMBER = re.compile(r"[0-9]{1,15}")
KINDS: Mapping[str, PackageKind] = {"dpkg": "dpkg", "rpm": "rpm", "apk": "apk", "cos": "cos", "cos-build": "cos"}


@dataclass(frozen=True)
class MeasuredFolder:
    """What a VM says of a folder of its root file system, with all that is below it."""

    path: str
    bytes: int
    files: int


@dataclass(frozen=True)
class Inventory:
    """A list of packages, and what it says of its own gaps."""

    packages: tuple[Package, ...] = ()
    system: Mapping[str, str] = field(default_factory=dict)  # fields of os-release
    left_out: int = 0  # packages that did not fit into the report, and lines that are none
    note: str = ""  # the report's message: what the package managers could not answer
    folders: tuple[MeasuredFolder, ...] = ()  # the largest ones before the clean-up, by path


def of_build(events: Iterable[Event]) -> Inventory | None:
    """Return the newest inventory among a build's events; None for a VM that sent none."""
    reports = (event.report for event in events if isinstance(event, Reported))
    ours = (report for report in reports if (report.kind, report.phase) == (INVENTORY, BUILD))
    newest = max(ours, key=lambda report: (report.attempt, report.sequence), default=None)
    return None if newest is None else read_inventory(newest.output, newest.message)


def read_inventory(text: str, note: str = "") -> Inventory:
    """Read a report's output. Never raises.

    A report is JSON, which may hold halves of surrogate pairs. They are no characters: UTF-8 has nothing for them.
    """
    text, note = (one.encode("utf-8", "replace").decode() for one in (text, note))
    lines = [line.split("\t") for line in text.split("\n") if line]
    system = {line[1]: line[2] for line in lines if line[0] == "os" and len(line) == 3}
    found: set[Package] = set()
    folders: dict[str, MeasuredFolder] = {}
    left_out = 0
    for kind, *fields in lines:
        if kind in KINDS and len(fields) == 6 and fields[0] and fields[1]:
            name, version, architecture, source, vendor, license_ = fields
            found.add(
                Package(
                    name=name,
                    version=version,
                    architecture=architecture,
                    kind=KINDS[kind],
                    source=source,
                    vendor=vendor,
                    license=license_,
                    distribution=distribution(system),
                    build_time=kind == "cos-build",
                )
            )
        elif kind == "folder" and len(folders) < MOST_FOLDERS_READ and (folder := _folder(fields)) is not None:
            folders.setdefault(folder.path, folder)
        elif kind == "cut" and len(fields) == 1 and fields[0].isdecimal():
            left_out += int(fields[0][:9])
        elif kind != "os":
            left_out += 1
    ordered = sorted(found, key=attrgetter("order"))
    return Inventory(tuple(ordered), system, left_out, note, tuple(folders[path] for path in sorted(folders)))


def _folder(fields: Sequence[str]) -> MeasuredFolder | None:
    """Return what a line says of a folder; None for one that is no such line."""
    if len(fields) != 3 or not _PATH.fullmatch(fields[0]) or not all(_NUMBER.fullmatch(each) for each in fields[1:]):
        return None
    return MeasuredFolder(fields[0], int(fields[1]), int(fields[2]))
