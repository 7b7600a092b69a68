"""deprecate_images: what follows a publication. The new image is distributed, and the family's older ones deprecated.

Never a newer one, never all at once. What is distributed hangs on nothing that is deprecated, nor the other way round.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..backend import Backend
from ..build.build import Build
from ..build.events import ImagesDeprecated
from ..build.orders import Order
from ..build.plan import ImagePlan
from ..engine.reasons import distribution_warning
from ..errors import CloudError, NotFound, Permanent, Transient
from ..ownership import find_image, is_revoked, may_retire, newest_good
from ..ports import Image
from ..published.distribution import DistributionResult, distribute
from .machines import planned

_TRIES = 20  # while others change the same document


def deprecate_images(build: Build, order: Order, backend: Backend) -> ImagesDeprecated:
    """Distribute the image, and deprecate each active image of the family that is older, but for the `keep` newest.

    Only images of ours are deprecated, and those of families that the deployment has adopted: others have their own
    owners. None in favour of one that was revoked: where that comes to light too late, the newest good one is active
    again.
    """
    plan = planned(build)
    ours = backend.compute.image(plan.image.project, plan.image.name)
    if ours is None:
        raise Permanent(f"image {plan.image.name} is gone from project {plan.image.project}")
    given = distribute(ours, plan.image, backend) if plan.image.is_distributed else DistributionResult()
    names: tuple[str, ...] = ()
    fault: CloudError | None = None
    if plan.image.deprecate_old is not None or not plan.image.is_distributed:
        try:
            names = _deprecate_older(ours, plan.image, backend)
        except CloudError as error:
            fault = error
    _raise_left(ours, given, fault)
    return ImagesDeprecated(
        build_id=build.id,
        event_id=order.fact_id("ImagesDeprecated"),
        time=backend.clock.now(),
        names=names,
        refused=tuple(map(distribution_warning, given.refused)),
    )


def _raise_left(ours: Image, given: DistributionResult, fault: CloudError | None) -> None:
    """Raise what is left of either part, with all that is known of the other: Permanent if nothing can be repeated."""
    if fault is None and not given.late:
        return
    told = [] if fault is None else [str(fault)]
    if given.late:
        told.append(f"image {ours.name} is not distributed yet: {'; '.join(given.late)}")
    told += map(distribution_warning, given.refused)
    text = "; ".join(told)
    raise Permanent(text) if isinstance(fault, Permanent) and not given.late else Transient(text)


def _deprecate_older(ours: Image, plan: ImagePlan, backend: Backend) -> tuple[str, ...]:
    """Return the names of the images that are deprecated in favour of ours."""
    policy = plan.deprecate_old
    if not plan.family or policy is None:  # an empty family would match every image of the project
        raise Permanent("output.deprecate_old needs output.family")
    if ours.family != plan.family:
        raise Permanent(f"image {ours.name} is not in family {plan.family} any more")
    family = backend.compute.images(plan.project, family=plan.family)
    older = [image for image in family if image.name != ours.name and image.created < ours.created]
    active = [image for image in older if image.deprecated is None and may_retire(image, backend)]
    active = [image for image in active if not is_revoked(image, backend)] if _leads(ours, family, backend) else []
    deletes_at = None if policy.ttl_seconds is None else backend.clock.now() + policy.ttl_seconds
    faults: list[CloudError] = []
    done = [image.name for image in older if image.replacement == ours.name]  # by an earlier delivery of this order
    for image in active[policy.keep :]:
        try:
            _record_replacement(image, ours.name, backend)
            backend.compute.deprecate_image(image.project, image.name, ours.name, deletes_at)
            done.append(image.name)
        except NotFound:
            continue  # deleted meanwhile: it is no image of the family any more
        except CloudError as error:
            faults.append(error)
    if is_revoked(ours, backend):
        _give_back(ours, older, backend)
    _raise(faults)
    return tuple(sorted(done))


def _record_replacement(image: Image, newer: str, backend: Backend) -> None:
    """Record in the document of an image, if it is ours, for which one it is about to be deprecated. Transient.

    A revocation goes back to it by that, when the newer one has been deleted long since.
    """
    for _ in range(_TRIES):
        known = find_image(image.project, image.name, backend)
        if known is None or known.id != image.id or known.replaced_by == newer:
            return
        if backend.store.save_image(replace(known, replaced_by=newer), known):
            return
    raise Transient(f"what is known of image {image.name} is being changed by others")


def _leads(ours: Image, family: Sequence[Image], backend: Backend) -> bool:
    """Return whether the family may lead to ours, so that older images give way to it; make it active where it has to.

    A newer image may have deprecated ours, and have been revoked before the store knew that ours is published: then the
    family has gone back to an older one.
    """
    if is_revoked(ours, backend):
        return False
    if ours.deprecated is None:
        return True
    newer = next((image for image in family if image.name == ours.replacement), None)
    good = newest_good(family, backend)
    if newer is None or not is_revoked(newer, backend) or good is None or good.name != ours.name:
        return False
    backend.compute.activate_image(ours)
    return True


def _give_back(ours: Image, older: list[Image], backend: Backend) -> None:
    """Make the newest good image active again, if it was deprecated in favour of ours."""
    now = [backend.compute.image(image.project, image.name) for image in older]
    good = newest_good([image for image in now if image is not None], backend)
    if good is not None and good.deprecated is not None and good.replacement == ours.name:
        backend.compute.activate_image(good)


def _raise(faults: list[CloudError]) -> None:
    if not faults:
        return
    text = "; ".join(str(fault) for fault in faults)
    raise Permanent(text) if all(isinstance(fault, Permanent) for fault in faults) else Transient(text)
