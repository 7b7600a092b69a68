"""Find out which images are ours: those whose own ids the store knows. Others can set labels, which are for people.

The release before wrote no documents of images. For its images, the build that made them is read, as long as there is
one: it has the image's id as well.
"""

from __future__ import annotations

from provisioner.protocol import BUILD

from .backend import Backend
from .build.build import Build, ImageDocument, Outcome
from .build.damage import Damaged, tell_damaged
from .build.resources import boot_disk_name, root_disk_name
from .errors import DamagedDocument, NotFound
from .names import BUILD_LABEL
from .ports import Image

ALL_FAMILIES = "*"
SWEEP = "sweep"  # stands for the build of an image that is being deleted; ids of builds are longer


def may_retire(image: Image, backend: Backend) -> bool:
    """Return whether an image may be deprecated: one of ours, or of a family that the deployment has adopted."""
    adopted = ALL_FAMILIES in backend.adopted_families or image.family in backend.adopted_families
    return adopted or content_of(image, backend) is not None


def content_of(image: Image, backend: Backend) -> str | None:
    """Return the content digest of an image that is ours and published; None for any other."""
    known = find_image(image.project, image.name, backend)
    if known is not None and known.id == image.id:
        return known.content_digest if known.state == "published" else None
    build = find_build(image.labels.get(BUILD_LABEL, ""), backend)
    if build is None or build.plan is None or build.image is None or build.outcome is not Outcome.SUCCEEDED:
        return None
    made = (build.image.project, build.image.name, build.image.id)
    return build.plan.content_digest if made == (image.project, image.name, image.id) else None


def is_made_by(image: Image, build: Build, backend: Backend) -> bool:
    """Return whether a build has made, or has taken up, an image that is found under a name of its own."""
    known = find_image(image.project, image.name, backend)
    if known is not None and known.id == image.id:
        return known.build_id == build.id
    disks = [None, boot_disk_name(build.id, 1, BUILD)]
    if build.plan is not None and build.plan.origin is not None:  # a verifying VM may have begun a later attempt since
        disks += [root_disk_name(build.id, attempt) for attempt in range(1, build.attempt + 1)]
    return image.labels.get(BUILD_LABEL) == build.id and image.source_disk in disks


def find_image(project: str, name: str, backend: Backend) -> ImageDocument | None:
    """Return what the store knows of an image; None when that is nothing, or cannot be read, which is logged."""
    try:
        return backend.store.image(project, name)
    except DamagedDocument as error:
        tell_damaged(Damaged(f"{project}/{name}", str(error)))
        return None


def find_build(build_id: str, backend: Backend) -> Build | None:
    """Return a build, or None when there is none, or none that can be read."""
    try:
        return known_build(build_id, backend)
    except DamagedDocument:
        return None


def known_build(build_id: str, backend: Backend) -> Build | None:
    """Return a build, or None when there is none. DamagedDocument for one that cannot be read: it may be at work."""
    if not build_id:
        return None
    try:
        return backend.store.load(build_id).build
    except NotFound:
        return None
