"""The images of the project that a dashboard shows, read once for a page: by family, and with what the store knows."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from heapq import nsmallest

from ...build.build import Build, ImageDocument
from ...build.damage import Damaged, readable_builds
from ...ports import Image, Store
from ..web.served import Served

MOST_FAMILIES = 500
RECENT_BUILDS = 100  # in which the last build of a family is looked for
_CHUNK = 100  # documents of images that are read at once


@dataclass(frozen=True)
class ImageRow:
    """An image in a list."""

    project: str
    name: str
    family: str | None
    created: float  # Unix seconds
    state: str  # active, DEPRECATED, OBSOLETE, DELETED or revoked
    is_ours: bool  # whether a build of Goldsmith has published it
    verified: bool | None  # None: not known
    revoked: str  # why; "": it was not
    replacement: str | None
    deletes_at: float | None  # Unix seconds
    build_id: str  # "" for one that no build of ours has made
    copy_of: str  # the image that it is a copy of, in a channel; ""
    disk_size_gb: int
    archive_bytes: int


@dataclass(frozen=True)
class BuildRow:
    """A build, as the page of a family names it."""

    id: str
    state: str
    outcome: str | None
    created: float
    updated: float


def newest_images(
    images: Iterable[Image], most: int, family: str | None = None, text: str = ""
) -> tuple[Sequence[Image], int]:
    """Return the newest of some images, and how many there are: those of a family, with a text in their name."""
    count = 0

    def wanted() -> Iterable[Image]:
        nonlocal count
        for image in images:
            if family in (None, image.family) and text in image.name:
                count += 1
                yield image

    found = nsmallest(most, wanted(), key=lambda image: (-image.created, image.name))
    return found, count


def documents_of(images: Sequence[Image], store: Store) -> Mapping[tuple[str, str], ImageDocument]:
    """Return what the store knows of images, by project and name; what cannot be read, or is of another, lacks."""
    found: dict[tuple[str, str], ImageDocument] = {}
    for project in {image.project for image in images}:
        ids = {image.name: image.id for image in images if image.project == project}
        names = sorted(ids)
        for begin in range(0, len(names), _CHUNK):
            known = store.known_images(project, names[begin : begin + _CHUNK])
            found |= {
                (project, name): each
                for name, each in known.items()
                if isinstance(each, ImageDocument) and each.id == ids[name]
            }
    return found


def image_row(image: Image, known: ImageDocument | None, original: ImageDocument | None = None) -> ImageRow:
    """Return an image in a list. `original` is what is known of the one that it is a copy of."""
    revoked = known.revoked if known is not None else None
    if revoked is None and known is not None and known.copy is not None and original is not None:
        revoked = original.revoked if original.id == known.copy.id else None
    return ImageRow(
        project=image.project,
        name=image.name,
        family=image.family,
        created=image.created,
        state="revoked" if revoked is not None else image.deprecated or "active",
        is_ours=known is not None and known.state == "published",
        verified=None if known is None else known.verified,
        revoked="" if revoked is None else revoked.reason,
        replacement=image.replacement,
        deletes_at=image.deletes_at,
        build_id="" if known is None else known.build_id,
        copy_of="" if known is None or known.copy is None else known.copy.of,
        disk_size_gb=image.disk_size_gb,
        archive_bytes=image.archive_bytes,
    )


def image_rows(images: Sequence[Image], store: Store) -> tuple[ImageRow, ...]:
    """Return images in a list, with what the store knows of each."""
    known = documents_of(images, store)
    copied = {(each.project, each.copy.of) for each in known.values() if each.copy is not None}
    originals: dict[tuple[str, str], ImageDocument] = {}
    for project in {project for project, _ in copied}:
        names = sorted(name for of, name in copied if of == project)[:_CHUNK]
        found = store.known_images(project, names)
        originals |= {(project, name): each for name, each in found.items() if isinstance(each, ImageDocument)}
    rows = []
    for image in images:
        own = known.get((image.project, image.name))
        original = originals.get((image.project, own.copy.of)) if own is not None and own.copy is not None else None
        rows.append(image_row(image, own, original))
    return tuple(rows)


def recent_builds(served: Served) -> Sequence[Build]:
    """Return the newest builds that can be read."""
    return readable_builds(served.backend.store.builds(limit=RECENT_BUILDS))


def build_family(build: Build) -> str | None:
    """Return the family of the image that a build makes."""
    return None if build.plan is None else build.plan.image.family


def build_row(build: Build) -> BuildRow:
    """Return a build as the page of a family names it."""
    return BuildRow(build.id, build.state, build.outcome, build.created, build.updated)


def damaged_lines(found: Collection[object]) -> tuple[str, ...]:
    """Return why documents cannot be read, with the remedy: a line for each of those that are damaged."""
    return tuple(each.why for each in found if isinstance(each, Damaged))
