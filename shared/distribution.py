"""Distribution of a published image: it is shared with members, and copied to other projects and locations.

Each target is tried by itself, and what came of it is written into the image's document at once, so that a redelivered
order does only what is left. A target that is refused for good keeps no other from its image. Nothing is given of an
image that is revoked: that is looked at before each target, and once a copy is recorded, which becomes OBSOLETE then.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .backend import Backend
from .build.build import Distributed, ImageDocument
from .build.plan import ImageCopyPlan, ImagePlan
from .errors import CloudError, GoldsmithError, Passing, Permanent, Transient
from .ownership import is_revoked
from .ports import Duplicate, Image

LOG = logging.getLogger(__name__)

_TRIES = 20  # to write a document while others do
_PAUSE = 1.0  # seconds, at most, between two of them
_REVOKED = "the image was revoked meanwhile"


@dataclass(frozen=True)
class DistributionResult:
    """What came of all targets: those that are refused for good, with the reason, and those to be tried again."""

    refused: tuple[str, ...] = ()
    late: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Target:
    name: str  # the member, or PROJECT/NAME
    reach: Callable[[Image, Backend], str]  # returns the id of a copy


def distribute(image: Image, plan: ImagePlan, backend: Backend, *, again: bool = False) -> DistributionResult:
    """Distribute an image to all targets of its plan that have not got it; with `again`, also where it was refused."""
    refused, late = [], []
    for target in _targets(plan):
        known = _known(image, backend)
        if known is None:
            refused.append(f"{target.name}: the image is not known as one of ours any more")
            continue
        done = next((each for each in known.distributed if each.target == target.name), None)
        if done is None or (again and done.refused):
            try:
                done = _record(_reach(target, image, backend), image, backend)
                if done.id and is_revoked(image, backend):  # a revocation sees what is recorded before it
                    _retract(done, backend)
            except (Passing, CloudError) as error:
                late.append(f"{target.name}: {error}")
                continue
        if done.refused:
            refused.append(f"{target.name}: {done.refused}")
    return DistributionResult(tuple(refused), tuple(late))


def retract_copies(image: Image, backend: Backend) -> tuple[str, ...]:
    """Make the copies of a revoked image OBSOLETE; return those that could not be, with the reason."""
    left = []
    known = _known(image, backend)
    for each in known.distributed if known is not None else ():
        try:
            _retract(each, backend)
        except GoldsmithError as error:
            left.append(f"{each.target}: {error}")
    return tuple(left)


def _targets(plan: ImagePlan) -> Iterator[_Target]:
    for member in plan.share:
        yield _Target(member, _sharing_with(member))
    for copy in plan.copies:
        yield _Target(f"{copy.project}/{copy.name_for(plan)}", _copying(copy, plan))


def _sharing_with(member: str) -> Callable[[Image, Backend], str]:
    def reach(image: Image, backend: Backend) -> str:
        backend.compute.share_image(image, member)
        return ""

    return reach


def _copying(copy: ImageCopyPlan, plan: ImagePlan) -> Callable[[Image, Backend], str]:
    """Return what makes a copy. It joins the family, unless that is one of the same project and leads to the image."""
    family = plan.family if copy.project != plan.project else None

    def reach(image: Image, backend: Backend) -> str:
        name = copy.name_for(plan)
        wanted = Duplicate(copy.project, name, image, copy.storage_location, copy.kms_key, family)
        return backend.compute.duplicate_image(wanted).id

    return reach


def _reach(target: _Target, image: Image, backend: Backend) -> Distributed:
    """Share the image with a target, or copy it there; a refusal is an answer, too. Passing."""
    try:
        if is_revoked(image, backend):
            raise Permanent(_REVOKED)
        return Distributed(target.name, backend.clock.now(), target.reach(image, backend))
    except Passing:
        raise
    except GoldsmithError as error:
        return Distributed(target.name, backend.clock.now(), refused=str(error))


def _retract(done: Distributed, backend: Backend) -> None:
    """Make a copy OBSOLETE; what is no copy, or another image by now, stays as it is."""
    project, _, name = done.target.rpartition("/")
    found = backend.compute.image(project, name) if done.id else None
    if found is not None and found.id == done.id and not found.is_obsolete:
        backend.compute.obsolete_image(found, "")


def _known(image: Image, backend: Backend) -> ImageDocument | None:
    known = backend.store.image(image.project, image.name)
    return known if known is not None and known.id == image.id else None


def _record(done: Distributed, image: Image, backend: Backend) -> Distributed:
    """Write down what came of a target. Transient."""
    for _ in range(_TRIES):
        known = _known(image, backend)
        if known is None or backend.store.save_image(known.with_distributed(done), known):
            return done
        backend.clock.pause(_PAUSE)
    raise Transient(f"image {image.name} of project {image.project} is being changed by others; it is tried again")
