"""What a plan needs of this machine, looked at before anything is made: the source, drivers, room, and the export."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from ..build import resources
from ..build.export_formats import EXPORT_FORMATS, space_needed
from ..build.image.python import OLDEST
from ..build.plan import Plan
from ..disks.disk import Disk
from ..disks.root_files import RootUnreadable
from ..errors import CloudError, EnvironmentFault, ImageFileError, InputError, NoSpace
from ..host.programs import find_tool
from ..images.catalogue import Catalogue
from ..images.contents import has_python


def check_source(catalogue: Catalogue, name: str) -> None:
    """Refuse an image that is OBSOLETE, as Compute Engine does: it may be about to be deleted. InputError.

    So is one without Python; one whose files cannot be read is left to its VM.
    """
    image = catalogue.get(name)
    if image is not None and image.is_obsolete:
        raise InputError(f"source: image {name} is {image.deprecated}, so that nothing is made of it; name another one")
    try:
        with Disk(catalogue.disk(name)) as opened:
            found = has_python(opened.root)
    except (ImageFileError, RootUnreadable):
        return
    if not found:
        raise InputError(
            f"source: image {name} has no python3, and the provisioner needs Python {OLDEST} or later; add it to the "
            "image, or name another one"
        )


def check_root(disk: Path, name: str) -> None:
    """Refuse an image whose files only a machine that runs it can change. InputError."""
    try:
        with Disk(disk) as opened:
            apart = opened.root.mounted_apart()
    except RootUnreadable as error:
        raise InputError(f"source: image {name}: {error}; write local.engine: vm") from error
    if apart:
        raise InputError(
            f"source: image {name}: {apart[0]} is a file system of its own, and the chroot engine mounts the root "
            "alone; write local.engine: vm"
        )


def check_gpu_drivers(plan: Plan, environment: Mapping[str, str]) -> None:
    """Check that the drivers of the GPUs of a plan can be had. InputError, EnvironmentFault."""
    from ..gpu_drivers import check_drivers, storage_of  # an HTTP client, which few builds need

    try:
        check_drivers(plan, storage_of(environment))
    except CloudError as error:
        raise EnvironmentFault(
            f"{error}; connect this machine to the Internet, or name an installer that the step's deps_dir brings"
        ) from error


def check_space(folder: Path, needed: int, what: str) -> None:
    """Check that a folder, which need not be there yet, has room for so many bytes. NoSpace."""
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise NoSpace(
            f"{folder}: {what} may need {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free; make room there, "
            "or choose another place"
        )


def make_folder(folder: Path) -> None:
    """Make a folder that a person has chosen. EnvironmentFault."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentFault(
            f"{folder}: cannot be made: {error.strerror}; choose another place for the archive"
        ) from error


def check_target(plan: Plan, data: int) -> None:
    """The folder of the export can be written to and has room, and nothing there would be replaced."""
    targets = resources.export_targets(plan)
    for path in map(Path, (*targets.values(), *resources.beside_archive(plan))):
        if path.exists():
            raise InputError(f"{path} exists already; remove it, or choose another folder or image name")
    for program in dict.fromkeys(program for known in targets for program in EXPORT_FORMATS[known].programs):
        find_tool(program)
    target = Path(next(iter(targets.values())))
    existing = next(parent for parent in (target.parent, *target.parent.parents) if parent.exists())
    if not existing.is_dir():
        raise EnvironmentFault(f"{existing} is not a folder; choose another place for the archive")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise EnvironmentFault(f"{existing}: you may not write there; choose another place for the archive")
    check_space(target.parent, sum(space_needed(known, data) for known in targets), "the export")


def check_trees(plan: Plan, source: Path) -> None:
    """Refuse formats of trees where the root file system of the source cannot be read. InputError."""
    trees = [known for known in resources.export_targets(plan) if EXPORT_FORMATS[known].of == "tree"]
    if trees:
        try:
            with Disk(source) as disk:
                _ = disk.root
        except RootUnreadable as error:
            raise InputError(f"output.formats: {', '.join(trees)} need the files of the image: {error}") from error
