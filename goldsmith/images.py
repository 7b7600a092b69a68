"""goldsmith images: the catalogue of this machine."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from shared.build import Build
from shared.errors import AlreadyExists, InputError, NotFound
from shared.manifest import manifest
from shared.names import LOCAL
from shared.ports import Image
from shared.resources import archive_stem, manifest_of, results_stem, sbom_names

from .home import open_factory
from .progress import shown
from .tables import megabytes, print_json, print_table, when
from .text import complain, say

if TYPE_CHECKING:
    from shared.factory import LocalFactory


def list_images(family: str | None, *, as_json: bool) -> None:
    """Print images, newest first; damaged entries go to standard error."""
    with open_factory() as factory:
        found = factory.catalogue.list(family=family, damaged=complain)
    if as_json:
        print_json([asdict(image) for image in found])
        return
    print_table(("IMAGE", "FAMILY", "DISK", "DATA", "CREATED", "DEPRECATED"), [_row(image) for image in found])


def _row(image: Image) -> tuple[str, ...]:
    size, data = f"{image.disk_size_gb} GB", megabytes(image.archive_bytes)
    return (image.name, image.family or "", size, data, when(image.created), image.deprecated or "")


def show(name: str, *, as_json: bool) -> None:
    """Print one image and what is inside its disk."""
    with open_factory() as factory:
        image = _find(factory, name)
        contents = factory.describe(name)
    if as_json:
        print_json({"image": asdict(image), "contents": asdict(contents)})
        return
    lines = [
        ("image", f"{image.project}/{image.name}, id {image.id}"),
        ("family", image.family or "none"),
        ("created", when(image.created)),
        ("disk", f"{image.disk_size_gb} GB, {megabytes(image.archive_bytes)} of data, {image.architecture}"),
        ("labels", ", ".join(f"{key}={value}" for key, value in sorted(image.labels.items())) or "none"),
    ]
    if image.deprecated:
        lines.append(("deprecated", f"{image.deprecated}, replaced by {image.replacement}"))
    for key, value in lines:
        say(f"{key + ':':<12} {value}")
    say(str(contents))


def import_file(file: Path, name: str | None, family: str | None) -> None:
    """Take a file into the catalogue."""
    with shown() as progress, open_factory(progress) as factory:
        try:
            image = factory.import_image(file, name, family)
        except AlreadyExists as error:  # here it is the person's choice of a name
            raise InputError(str(error)) from error
        contents = factory.describe(image.name)
    say(f"image {image.project}/{image.name}\n{contents}")


def export(name: str, output: Path, compression: str) -> None:
    """Write an image's archive into a folder."""
    if compression not in ("fast", "best"):
        raise InputError(f"--compression {compression}: choose fast or best")
    with shown() as progress, open_factory(progress) as factory:
        _find(factory, name)
        target = output.absolute() / f"{name}.tar.gz"
        if target.exists():
            raise InputError(f"{target} exists already; remove it, or choose another folder")
        export_existing(factory, name, str(target), compression)
    say(f"archive {target}")


def export_existing(factory: LocalFactory, name: str, target: str | None, compression: str) -> None:
    """Write the archive of an image that is there already, unless the file is there too.

    The manifest goes with it where the build that made the image is known.
    """
    if target is None or Path(target).exists():
        return
    staged = str(Path(target).with_name(f".{Path(target).name}.{os.getpid()}"))
    try:
        archive = factory.compute.export_image(LOCAL, name, staged, compression, factory.progress)
        factory.bucket.publish(staged, target)
    finally:
        factory.bucket.delete(staged)
    made = factory.maker_of(name)
    if made is None or made.plan is None or made.image is None:
        return
    exported = replace(made, image=replace(made.image, archive=archive))
    packages = factory.compute.packages(LOCAL, name)
    sbom = _copy_sbom(factory, made, target)
    factory.bucket.write(manifest_of(target), manifest(exported, made.plan, packages, sbom))


def _copy_sbom(factory: LocalFactory, made: Build, target: str) -> list[str]:
    """Put the bill of materials that publication wrote beside an archive; give the paths of what there is."""
    copies = []
    stored = sbom_names(results_stem(made, factory.logs_of(made.id)))
    for source, copy in zip(stored, sbom_names(archive_stem(target)), strict=True):
        with suppress(NotFound):  # of an image from before there were any, or whose logs somebody has deleted
            factory.bucket.write(copy, factory.bucket.read(source))
            copies.append(copy)
    return copies


def bootstrap(system: str, release: str | None, packages: list[str], mirror: str | None) -> None:
    """Make an image of a distribution's packages; the catalogue has it afterwards, newest of its family."""
    with shown() as progress, open_factory(progress) as factory:
        image = factory.bootstrap(system, release, packages, mirror)
    say(f"image {image.project}/{image.name}, newest of family {image.family}")


def delete(names: list[str]) -> None:
    """Delete images; all are looked up before the first is deleted."""
    with open_factory() as factory:
        for name in names:
            _find(factory, name)
        for name in names:
            factory.catalogue.delete(name)
            say(f"deleted image {name}")


def _find(factory: LocalFactory, name: str) -> Image:
    image = factory.catalogue.get(name)
    if image is None:
        raise InputError(f"there is no image {name}; see: goldsmith images list")
    return image
