"""Deletes what carries our labels and belongs to no build that still works: the net below every other clean-up."""

from __future__ import annotations

import logging

from .errors import DamagedDocument, GoldsmithError, NotFound
from .factory import Factory
from .ports import Resource

LOG = logging.getLogger(__name__)


def sweep(project: str, factory: Factory) -> list[Resource]:
    """Delete the orphans of a project; give those that were deleted. What cannot be deleted is logged, and left."""
    deleted = []
    for resource in list(factory.compute.labelled(project)):
        try:
            if not is_orphan(resource, factory):
                continue
            factory.compute.delete(resource.kind, resource.name, project, resource.zone)
        except GoldsmithError as error:  # whatever it is, the other orphans must not wait for it
            LOG.warning("orphan %s %s cannot be deleted: %s", resource.kind, resource.name, error)
            continue
        LOG.info("deleted orphan %s %s of build %s", resource.kind, resource.name, resource.build_id)
        deleted.append(resource)
    return deleted + _sweep_kept(factory)


def _sweep_kept(factory: Factory) -> list[Resource]:
    """Delete the images that no build has taken up in time, in whatever project; only what has the id that is known."""
    deleted = []
    for known in factory.store.kept_images(factory.clock.now()):
        try:
            image = factory.compute.image(known.project, known.name)
            if image is not None and image.id == known.id:
                factory.compute.delete("image", known.name, known.project, "")
                deleted.append(Resource("image", known.name, "", known.build_id, known.until))
            factory.store.forget_image(known)
        except GoldsmithError as error:
            LOG.warning("image %s, which is not kept any longer, cannot be deleted: %s", known.name, error)
    return deleted


def is_orphan(resource: Resource, factory: Factory) -> bool:
    """Return whether nothing else will delete a resource.

    That is so when its build has finished; or when the build is unknown here, or cannot be read, and is out of time. A
    build that is being cleaned up still owns what it has made: its own clean-up keeps consoles first.
    """
    try:
        build = factory.store.load(resource.build_id).build
    except (NotFound, DamagedDocument):
        return resource.expires <= factory.clock.now()
    return build.finished
