"""The difference between two images: of their settings and packages, and on one machine of all that is on their disks.

`goldsmith images diff` reads both disks, and so does the page on one machine. On Google Cloud functions cannot read
disks: what the builds have recorded is compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ...errors import GoldsmithError
from ...images.diff.result import FileChange, ImageDiff, PackageChange
from ...json_values import to_document
from ..web.pages import Page, PageDocument, Parameter
from ..web.schemas import TEXT
from ..web.served import Served
from ..web.shapes import schema_of
from .found import ShownImage, find_shown
from .inside import packages_of
from .listed import newest_images

MOST_FILES = 500  # changed files that are in an answer
MOST_CHOICES = 200  # images that are offered


@dataclass(frozen=True)
class Setting:
    """A value that is not the same of both images; None where one has none."""

    name: str
    before: str | None
    after: str | None


@dataclass(frozen=True)
class ChangedFile:
    """A file that is not the same in both images."""

    partition: str
    path: str
    change: str  # added, removed or changed
    type: str
    size: int
    differences: str  # for people


@dataclass(frozen=True)
class DiskDifference:
    """What differs on the disks of two images."""

    settings: tuple[Setting, ...]  # of the disk, of os-release, of the kernels' command lines and of sysctl
    files: tuple[ChangedFile, ...]
    more: int  # files that are not listed
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Difference:
    """What differs between two images."""

    settings: tuple[Setting, ...]
    packages: tuple[PackageChange, ...]
    no_packages: str  # why they are not compared; "": they are
    disk: DiskDifference | None
    no_disk: str  # why the disks are not compared; "": they are

    @property
    def is_empty(self) -> bool:
        """Return whether nothing that was compared differs."""
        on_disk = self.disk is not None and bool(self.disk.settings or self.disk.files)
        return not (self.settings or self.packages or on_disk)


@dataclass(frozen=True)
class DifferencePage:
    """Two images, and what differs between them."""

    a: str
    b: str
    choices: tuple[str, ...]
    difference: Difference | None  # None: two images have still to be named
    same: bool


def difference_page(served: Served, arguments: Mapping[str, str]) -> PageDocument:
    """Return what differs between the images `a` and `b`, each NAME or PROJECT/NAME. NotFound."""
    asked = [arguments.get(side, "").strip() for side in ("a", "b")]
    images, _ = newest_images(served.backend.compute.every_image(served.project), MOST_CHOICES)
    page = DifferencePage(asked[0], asked[1], tuple(image.name for image in images), None, same=False)
    if all(asked):
        before, after = (_named(served, name) for name in asked)
        found = _difference(served, before, after)
        page = replace(page, difference=found, same=found.is_empty)
    document: PageDocument = to_document(page)
    return document


def _named(served: Served, asked: str) -> ShownImage:
    project, _, name = asked.rpartition("/")
    return find_shown(served, project or served.project, name)


def _difference(served: Served, before: ShownImage, after: ShownImage) -> Difference:
    disk, no_disk = _disks(served, before, after)
    if disk is not None:
        changes, no_packages = disk.packages, ""
    else:
        from ...images.diff.compare import package_changes

        (old, why), (new, why_new) = (packages_of(served, each.image, each.build) for each in (before, after))
        no_packages = why or why_new
        changes = () if no_packages else list(package_changes(old, new))
    return Difference(
        settings=_changed(_settings(before), _settings(after)),
        packages=tuple(changes),
        no_packages=no_packages,
        disk=None if disk is None else _of_disks(disk),
        no_disk=no_disk,
    )


def _disks(served: Served, before: ShownImage, after: ShownImage) -> tuple[ImageDiff | None, str]:
    if served.machine is None:
        return (
            None,
            "on Google Cloud no function can read the disk of an image; `goldsmith images diff` compares exports",
        )
    gone = [each.name for each in (before, after) if each.image is None]
    if gone:
        return None, f"{' and '.join(gone)} has been deleted"
    try:
        return served.machine.difference(before.name, after.name), ""
    except GoldsmithError as error:
        return None, str(error)


def _settings(shown: ShownImage) -> Mapping[str, str]:
    """Return what is known of an image beside its contents."""
    found: dict[str, str] = {}
    image, plan = shown.image, shown.build.plan if shown.build is not None else None
    if image is not None:
        found |= {
            "family": image.family or "",
            "description": image.description,
            "architecture": image.architecture,
            "disk size": f"{image.disk_size_gb} GB",
            "licenses": ", ".join(image.licenses),
        }
        found |= {f"label {key}": value for key, value in image.labels.items() if not key.startswith("goldsmith-")}
    if plan is not None:
        found |= {
            "spec": plan.name,
            "source": f"{plan.source.project}/{plan.source.name}",
            "content digest": plan.content_digest,
            "guest OS features": ", ".join(plan.image.guest_os_features),
            "verified": "no" if plan.verify_steps is None else "yes",
        }
        for number, step in enumerate(plan.steps, 1):
            found[f"step {number}"] = f"{step.name}: {step.action}"
    return {key: value for key, value in found.items() if value}


def _changed(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[Setting, ...]:
    names = dict.fromkeys([*before, *after])
    pairs = [(name, before.get(name), after.get(name)) for name in names]
    return tuple(Setting(name, old, new) for name, old, new in pairs if old != new)


def _of_disks(found: ImageDiff) -> DiskDifference:
    settings: list[Setting] = []
    if found.disk_bytes[0] != found.disk_bytes[1]:
        settings.append(Setting("disk bytes", f"{found.disk_bytes[0]:,}", f"{found.disk_bytes[1]:,}"))
    if found.table[0] != found.table[1]:
        settings.append(Setting("partition table", *found.table))
    if found.boot_code:
        settings.append(Setting("boot code for a BIOS", "", "another one"))
    for partition in found.partitions:
        before, after = partition.before or {}, partition.after or {}
        if partition.change != "same":
            fields = partition.fields or ["number"]
            old, new = (", ".join(f"{name} {side.get(name)}" for name in fields) for side in (before, after))
            title = f"partition {partition.number} {partition.name}".rstrip()
            settings.append(Setting(title, old if before else None, new if after else None))
    settings += [Setting(f"os-release {key}", *values) for key, values in found.os_release.items()]
    for kernel in found.kernels:
        name = f"kernel command line, {kernel.kernel}"
        settings.append(Setting(name, " ".join(kernel.removed) or None, " ".join(kernel.added) or None))
    settings += [Setting(f"sysctl {key}", *values) for key, values in found.sysctl.items()]
    for inside in found.contents:
        if inside.different_bytes:
            title = f"bytes of partition {inside.number} {inside.name}".rstrip()
            settings.append(Setting(title, None, f"about {inside.different_bytes:,} differ; {inside.note}"))
    files = [(inside, change) for inside in found.contents for change in inside.files]
    return DiskDifference(
        settings=tuple(settings),
        files=tuple(_file(f"{inside.number} {inside.name}".rstrip(), change) for inside, change in files[:MOST_FILES]),
        more=max(0, len(files) - MOST_FILES),
        notes=tuple(found.notes),
    )


def _file(partition: str, change: FileChange) -> ChangedFile:
    told = [f"{name} {before} → {after}" for name, (before, after) in change.differences.items()]
    if change.contents and "size" not in change.differences:
        told.append("other contents")
    if change.target is not None:
        told.append(f"→ {change.target}")
    return ChangedFile(partition, change.path, change.change, change.type, change.size, "; ".join(told))


DIFFERENCE = Page(
    path="/diff",
    summary="The difference between two images",
    query=difference_page,
    template="difference.html",
    schema=schema_of(DifferencePage),
    parameters=(
        Parameter("a", "one image: NAME, or PROJECT/NAME", TEXT),
        Parameter("b", "the other one", TEXT),
    ),
)
