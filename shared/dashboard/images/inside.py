"""What is inside an image: its packages and, on one machine, the sizes of its folders.

On one machine both are read from the disk. On Google Cloud functions cannot read disks: the packages are those that the
build VM has told, and folders are not known.
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
from ...sbom.inventory import of_build
from ..pictures.treemap import SizedFolder
from ..web.pages import PageDocument
from ..web.served import Served
from .found import find_shown

if TYPE_CHECKING:
    from ...images.folder_sizes import FolderSize

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


def contents_page(served: Served, arguments: Mapping[str, str], project: str, name: str) -> PageDocument:
    """Return what is inside an image; `q` is looked for in the names of packages. NotFound."""
    shown = find_shown(served, project, name)
    text = arguments.get("q", "").strip()[:LONGEST_SEARCH].lower()
    installed, no_packages = packages_of(served, shown.image, shown.build)
    matching = [package for package in installed if text in package.name.lower()]
    folders, no_folders = _folders(served, shown.image)
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
    store = served.backend.store
    told = of_build(each_event(store, maker_of(build, store), kinds=(INVENTORY, OLD_REPORT)))
    return (told.packages, "") if told is not None else ((), "its build has not told what is installed")


def _folders(served: Served, image: Image | None) -> tuple[SizedFolder | None, str]:
    if image is None:
        return None, "the image has been deleted"
    if served.machine is None:
        return None, "on Google Cloud no function can read the disk of an image"
    try:
        return _sized(served.machine.folders(image.name)), ""
    except GoldsmithError as error:
        return None, str(error)


def _sized(folder: FolderSize) -> SizedFolder:
    return SizedFolder(folder.path, folder.bytes, folder.files, tuple(_sized(below) for below in folder.folders))
