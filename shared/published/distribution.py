"""Distribution of a published image: it is shared with members, and copied to other projects and locations.

Each target is tried by itself, and what came of it is written into the image's document at once, so that a redelivered
order does only what is left. A target that is refused for good keeps no other from its image. Nothing is given of an
image that is revoked: that is looked at before each target, and once a copy is made, which becomes OBSOLETE then. A
copy is recorded before it is begun, so that a revocation finds it also where its maker has died or was refused.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from ..backend import Backend
from ..build.build import Distributed, ImageDocument
from ..build.plan import ImageCopyPlan, ImagePlan
from ..errors import CloudError, GoldsmithError, Passing, Permanent, Transient
from ..names import COPY_LABEL
from ..ownership import is_revoked
from ..ports import Duplicate, Image

LOG = logging.getLogger(__name__)

LONGEST_REFUSAL = 500  # characters; the image's document holds one for each target
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
    is_copy: bool = False


def distribute(image: Image, plan: ImagePlan, backend: Backend, *, again: bool = False) -> DistributionResult:
    """Distribute an image to all targets of its plan that have not got it; with `again`, also where it was refused."""
    refused, late = [], []
    for target in _targets(plan):
        known = _known(image, backend)
        if known is None:
            refused.append(f"{target.name}: the image is not known as one of ours any more")
            continue
        done = next((each for each in known.distributed if each.target == target.name), None)
        if done is None or not (done.is_there or done.refused) or (again and done.refused):
            try:
                if target.is_copy:
                    _record(Distributed(target.name, backend.clock.now(), is_copy=True), image, backend)
                done = _record(_reach(target, image, backend), image, backend)
            except (Passing, CloudError) as error:
                late.append(f"{target.name}: {error}")
                continue
        if done.refused:
            refused.append(f"{target.name}: {done.refused}")
    return DistributionResult(tuple(refused), tuple(late))


def refuse_all(image: Image, plan: ImagePlan, why: str, backend: Backend) -> None:
    """Write down that no target of a plan gets an image; those that have it, or may soon, stay as they are."""
    for target in _targets(plan):
        known = _known(image, backend)
        done = next((each for each in known.distributed if each.target == target.name), None) if known else None
        if done is None or done.refused:
            _record(
                Distributed(target.name, backend.clock.now(), "", why[:LONGEST_REFUSAL], target.is_copy), image, backend
            )


def retract_copies(image: Image, backend: Backend) -> tuple[str, ...]:
    """Make the copies of a revoked image OBSOLETE; return those that could not be, with the reason."""
    left = []
    known = _known(image, backend)
    for each in known.distributed if known is not None else ():
        try:
            _retract(each, image, backend)
        except GoldsmithError as error:
            left.append(f"{each.target}: {error}")
    return tuple(left)


def _targets(plan: ImagePlan) -> Iterator[_Target]:
    for member in plan.share:
        yield _Target(member, _sharing_with(member))
    for copy in plan.copies:
        yield _Target(f"{copy.project}/{copy.name_for(plan)}", _copying(copy, plan), is_copy=True)


def _sharing_with(member: str) -> Callable[[Image, Backend], str]:
    def reach(image: Image, backend: Backend) -> str:
        backend.compute.share_image(image, member)
        return ""

    return reach


def _copying(copy: ImageCopyPlan, plan: ImagePlan) -> Callable[[Image, Backend], str]:
    """Return what makes a copy. It joins the family, unless that is one of the same project and leads to the image.

    Nor where there is a newer image by now: the family of the other project would lead to the copy, made last.
    """

    def reach(image: Image, backend: Backend) -> str:
        name, family = copy.name_for(plan), plan.family if copy.project != plan.project else None
        others = backend.compute.images(image.project, family=family) if family else ()
        if any(each.deprecated is None and each.created > image.created for each in others):
            family = None
        wanted = Duplicate(copy.project, name, image, copy.storage_location, copy.kms_key, family)
        return backend.compute.duplicate_image(wanted).id

    return reach


def _reach(target: _Target, image: Image, backend: Backend) -> Distributed:
    """Share the image with a target, or copy it there; a refusal is an answer, too. Passing."""
    done = Distributed(target.name, backend.clock.now(), is_copy=target.is_copy)
    try:
        if is_revoked(image, backend):
            raise Permanent(_REVOKED)
        done = replace(done, id=target.reach(image, backend))
    except Passing:
        raise
    except GoldsmithError as error:
        done = replace(done, refused=str(error)[:LONGEST_REFUSAL])
    if not (done.is_copy and is_revoked(image, backend)):
        return done
    try:
        _retract(done, image, backend)
    except Passing:
        raise
    except GoldsmithError as error:
        return replace(done, refused=f"{_REVOKED}, and its copy cannot be made OBSOLETE: {error}")
    return done


def _retract(done: Distributed, image: Image, backend: Backend) -> None:
    """Make a copy OBSOLETE; what is no copy, or another image by now, stays as it is."""
    if not (done.id or done.is_copy):
        return
    project, _, name = done.target.rpartition("/")
    found = backend.compute.image(project, name)
    if found is None or found.is_obsolete:
        return
    made_of = found.source_image, found.labels.get(COPY_LABEL)
    if found.id == done.id if done.id else made_of == (image.id, image.id):
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
