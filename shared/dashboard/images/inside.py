"""What is inside an image: its packages, and the sizes of its folders.

On one machine both are read from the disk. On Google Cloud functions cannot read disks: packages and folders are those
that the build VM has told, and a guest may have written anything there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from provisioner.protocol import INVENTORY

from ...build.build import Build
from ...build.events import OLD_REPORT
from ...engine.history import each_event, maker_of
from ...errors import GoldsmithError
from ...json_values import to_document
from ...ports import Image, Package
from ...sbom.inventory import Inventory, MeasuredFolder, of_build
from ..pictures.treemap import SizedFolder
from ..web.pages import PageDocument
from ..web.served import Served
from .found import ShownImage, find_shown

if TYPE_CHECKING:
    from ...images.folder_sizes import FolderSize

MOST_BESIDE = 24  # folders that are shown of each folder
MOST_PACKAGES = 300  # that a page lists
LONGEST_SEARCH = 100  # characters


@dataclass(frozen=True)
class PackageRow:
    """A package that is installed in an image."""

    name: str
    version: str
    architecture: str
    kind: str
    license: str


@dataclass(frozen=True)
class ContentsPage:
    """What is inside one image."""

    project: str
    name: str
    text: str  # that was looked for in the names of packages
    packages: tuple[PackageRow, ...]
    found: int  # packages that match
    installed: int  # packages in all
    no_packages: str  # why they are not known; "": they are
    folders: SizedFolder | None  # the root
    no_folders: str  # why they are not known; "": they are
    told_folders: bool  # by the build VM, before its clean-up


def contents_page(served: Served, arguments: Mapping[str, str], project: str, name: str) -> PageDocument:
    """Return what is inside an image; `q` is looked for in the names of packages. NotFound."""
    shown = find_shown(served, project, name)
    text = arguments.get("q", "").strip()[:LONGEST_SEARCH].lower()
    installed, no_packages = packages_of(served, shown.image, shown.build)
    matching = [package for package in installed if text in package.name.lower()]
    folders, no_folders = _folders(served, shown)
    page = ContentsPage(
        project=project,
        name=name,
        text=text,
        packages=tuple(
            PackageRow(each.name, each.version, each.architecture, each.kind, each.license)
            for each in matching[:MOST_PACKAGES]
        ),
        found=len(matching),
        installed=len(installed),
        no_packages=no_packages,
        folders=folders,
        no_folders=no_folders,
        told_folders=folders is not None and served.machine is None,
    )
    document: PageDocument = to_document(page)
    return document


def packages_of(served: Served, image: Image | None, build: Build | None) -> tuple[Sequence[Package], str]:
    """Return the packages of an image by name, or why they are not known."""
    if image is not None:
        try:
            found = served.backend.compute.packages(image.project, image.name)
        except GoldsmithError as error:
            return (), str(error)
        if found is not None:
            return found, ""
    if build is None:
        return (), "no build of ours has made it, so that nothing has told what is installed"
    told = _told(served, build)
    return (told.packages, "") if told is not None else ((), "its build has not told what is installed")


def _told(served: Served, build: Build) -> Inventory | None:
    """Return what the VM that has made an image has told of it."""
    store = served.backend.store
    return of_build(each_event(store, maker_of(build, store), kinds=(INVENTORY, OLD_REPORT)))


def _folders(served: Served, shown: ShownImage) -> tuple[SizedFolder | None, str]:
    if served.machine is None:
        if shown.build is None:
            return None, "no build of ours has made it, and on Google Cloud no function can read its disk"
        told = _told(served, shown.build)
        found = None if told is None else _tree(told.folders)
        return found, "" if found is not None else "its build has not told of them"
    if shown.image is None:
        return None, "the image has been deleted"
    try:
        return _sized(served.machine.folders(shown.image.name)), ""
    except GoldsmithError as error:
        return None, str(error)


def _tree(told: Sequence[MeasuredFolder]) -> SizedFolder | None:
    """Return the root of the folders that a VM has told; None without it. One whose parent is not told is left out."""
    below: dict[str, list[MeasuredFolder]] = {}
    for each in told:
        if each.path != "/":
            below.setdefault(each.path.rpartition("/")[0] or "/", []).append(each)

    def sized(folder: MeasuredFolder) -> SizedFolder:
        largest = sorted(below.get(folder.path, ()), key=lambda each: (-each.bytes, each.path))[:MOST_BESIDE]
        return SizedFolder(folder.path, folder.bytes, folder.files, tuple(sized(each) for each in largest))

    return next((sized(each) for each in told if each.path == "/"), None)


def _sized(folder: FolderSize) -> SizedFolder:
    return SizedFolder(folder.path, folder.bytes, folder.files, tuple(_sized(below) for below in folder.folders))
