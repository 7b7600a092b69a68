"""Which images are ours: those that the store knows by their own ids. Labels can be set by others, and are for people.

The release before wrote no documents of images. Of its images the build that made them is asked, as long as there is
one: it holds the image's id as well.
"""

from __future__ import annotations

from provisioner.protocol import BUILD

from .build import Build, Outcome
from .errors import DamagedDocument, NotFound
from .factory import Factory
from .names import BUILD_LABEL
from .ports import Image
from .resources import boot_disk_name

ALL_FAMILIES = "*"


def may_retire(image: Image, factory: Factory) -> bool:
    """Return whether an image may be deprecated: one of ours, or of a family that the deployment has adopted."""
    adopted = ALL_FAMILIES in factory.adopted_families or image.family in factory.adopted_families
    return adopted or content_of(image, factory) is not None


def content_of(image: Image, factory: Factory) -> str | None:
    """Return the content digest of an image that is ours and published; None for any other."""
    known = factory.store.image(image.project, image.name)
    if known is not None and known.id == image.id:
        return known.content_digest if known.state == "published" else None
    build = find_build(image.labels.get(BUILD_LABEL, ""), factory)
    if build is None or build.plan is None or build.image is None or build.outcome is not Outcome.SUCCEEDED:
        return None
    made = (build.image.project, build.image.name, build.image.id)
    return build.plan.content_digest if made == (image.project, image.name, image.id) else None


def is_made_by(image: Image, build: Build, factory: Factory) -> bool:
    """Return whether a build has made, or has taken up, an image that is found under a name of its own."""
    known = factory.store.image(image.project, image.name)
    if known is not None and known.id == image.id:
        return known.build_id == build.id
    disk = boot_disk_name(build.id, 1, BUILD)
    return image.labels.get(BUILD_LABEL) == build.id and image.source_disk in (disk, None)


def find_build(build_id: str, factory: Factory) -> Build | None:
    """Return a build, or None when there is none, or none that can be read."""
    if not build_id:
        return None
    try:
        return factory.store.load(build_id).build
    except (NotFound, DamagedDocument):
        return None
