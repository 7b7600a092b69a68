"""Delete what carries our labels and belongs to no build at work: the net below every other clean-up."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, replace

from ..backend import Backend
from ..build.build import Build, ImageDocument
from ..build.damage import Damaged, tell_damaged
from ..errors import DamagedDocument, GoldsmithError, NotFound
from ..ownership import SWEEP, disk_owner, find_build
from ..ports import Resource

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class LeftResource:
    """An orphan that could not be deleted."""

    kind: str
    name: str
    project: str
    zone: str
    build_id: str
    why: str


@dataclass(frozen=True)
class Swept:
    """The outcome of one sweep."""

    deleted: list[Resource]
    left: list[LeftResource]


def sweep_project(project: str, backend: Backend) -> list[Resource]:
    """Delete the orphans of a project; return those that were deleted. The others are logged, and left."""
    return sweep_and_tell(project, backend).deleted


def sweep_and_tell(project: str, backend: Backend) -> Swept:
    """Delete the orphans of a project; return those that were deleted, and those that are left, which are logged."""
    deleted, left = [], []
    for resource in list(backend.compute.labelled(project)):
        try:
            if not is_orphan(resource, backend):
                continue
            backend.compute.delete(resource.kind, resource.name, project, resource.zone)
        except GoldsmithError as error:  # of any kind: the other orphans must not wait for it
            LOG.warning("orphan %s %s cannot be deleted: %s", resource.kind, resource.name, error)
            left.append(_left(resource, project, error))
            continue
        LOG.info("deleted orphan %s %s of build %s", resource.kind, resource.name, resource.build_id)
        deleted.append(resource)
    return Swept(deleted + sweep_kept(backend), left)


def _left(resource: Resource, project: str, why: GoldsmithError) -> LeftResource:
    return LeftResource(resource.kind, resource.name, project, resource.zone, resource.build_id, str(why))


def sweep_kept(backend: Backend) -> list[Resource]:
    """Delete the images that no build has taken up in time, in any project; only what has the id that is known.

        sweep      save(document is the sweep's, if it is still as it was listed) ── delete the image ── forget it
        request         create(build, if the image is still that of the build before) → NameTaken once it is the sweep's

    Of the two conditional writes one wins. A sweep that dies after its own is followed by one that goes on.
    """
    deleted = []
    for known in backend.store.kept_images(backend.clock.now()):
        if isinstance(known, Damaged):
            tell_damaged(known)
            continue
        try:
            ours = replace(known, build_id=SWEEP)
            if known != ours and not backend.store.save_image(ours, known):
                continue  # a build has taken it up
            image = backend.compute.image(known.project, known.name)
            if image is not None and image.id == known.id:
                backend.compute.delete("image", known.name, known.project, "", image_id=known.id)
                deleted.append(Resource("image", known.name, "", known.build_id, known.until))
            backend.store.save_image(replace(ours, state="gone", until=0.0), ours)
        except GoldsmithError as error:
            LOG.warning("image %s, which is not kept any longer, cannot be deleted: %s", known.name, error)
    return deleted


def let_go_of_earlier(build: Build, backend: Backend) -> None:
    """Delete what earlier builds of the same spec hold for a retry: each may be as large as a disk, and one is held.

    An image that is fit to be published, or that is kept to be looked at, stays for its time; so does one that was made
    later, whose build was not: a retry has the image of before. GoldsmithError.
    """
    made = build.image
    ours = backend.store.image(made.project, made.name) if made is not None else None
    if made is None or ours is None or (ours.build_id, ours.state) != (build.id, "held"):
        return
    newest = _created(ours, backend)
    for known in backend.store.kept_images(math.inf):
        if isinstance(known, Damaged) or known.state != "held" or known.build_id == build.id:
            continue
        holder = find_build(known.build_id, backend)
        same = holder is not None and holder.name == build.name and not holder.unfit
        if same and _created(known, backend) <= newest:
            backend.store.save_image(replace(known, until=backend.clock.now()), known)  # else it was taken over
    sweep_kept(backend)


def _created(known: ImageDocument, backend: Backend) -> float:
    """Return when an image was made; 0 for one that is gone."""
    image = backend.compute.image(known.project, known.name)
    return image.created if image is not None and image.id == known.id else 0.0


def is_orphan(resource: Resource, backend: Backend) -> bool:
    """Return whether nothing else will delete a resource.

    That is so when its build has finished; or when the build is unknown here, or cannot be read, and is out of time,
    unless a retry has the disk. A
    build that is being cleaned up still owns what it has made: its own clean-up keeps consoles first. One that keeps a
    disk owns that alone.
    """
    try:
        build = backend.store.load(resource.build_id).build
        if resource.kind == "disk":
            build = disk_owner(resource.name, build, backend)
    except (NotFound, DamagedDocument):
        return resource.expires <= backend.clock.now() and not _is_at_a_retry(resource, backend)
    owned = any((entry.kind, entry.name) == (resource.kind, resource.name) for entry in build.ledger)
    return build.finished or (build.ended and not owned)


def _is_at_a_retry(resource: Resource, backend: Backend) -> bool:
    """Return whether an unfinished retry has a disk whose label names a build that was set aside, or is damaged."""
    if resource.kind != "disk":
        return False
    unfinished = (each for each in backend.store.builds(unfinished=True) if isinstance(each, Build))
    return any(build.disk is not None and build.disk.name == resource.name for build in unfinished)
