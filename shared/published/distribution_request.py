"""Distribute an image that is published already: an operator's request, which names members and copies.

It does what a spec's output.share and output.copies do after a publication. A target that was refused before is tried
again, since a person asks for it. The command that asks and the function that acts read the request by the same rules.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..backend import Backend
from ..build.build import Distributed, ImageDocument
from ..build.limits import Limits, check_distribution
from ..build.plan import ImageCopyPlan, ImagePlan
from ..errors import InputError, Transient
from ..names import LOCAL, check_name, cloud_project, image_user, kms_key, output_name, project_id
from ..ownership import find_image
from ..ports import Bus, Image, Message, Store
from ..topology import IMAGES_TOPIC
from .distribution import distribute, refuse_all, retract_copies

_LOCATION = re.compile(r"[a-z]{2,20}(?:-[a-z]{2,20}[0-9]{1,2})?")
_KEYS = ("project", "name", "storage_location", "kms_key")
MOST = 50  # targets of one request
MOST_IN_ALL = 500  # targets of one image, all of which its document holds


@dataclass(frozen=True)
class DistributedImage:
    """What came of a request."""

    project: str
    name: str
    targets: tuple[str, ...]  # all that have it now, by this request or before
    refused: tuple[str, ...]  # those that do not get it, and why


def distribute_image(
    project: str, name: str, share: Sequence[object], copies: Sequence[object], backend: Backend, limits: Limits
) -> DistributedImage:
    """Share and copy a published image. InputError with nothing changed; Transient for what is to be tried again."""
    _check_number(share, copies)
    _check_image(project, name)
    image = backend.compute.image(project, name) if project != LOCAL else None
    known = find_image(project, name, backend)
    if image is None or known is None or known.id != image.id:
        raise InputError(f"there is no image {name} in project {project} that Goldsmith has made")
    if known.revoked is not None:  # an earlier delivery may have begun a copy
        retract_copies(image, backend)
    if known.state != "published":
        raise InputError(f"image {name} of project {project} is not published, and is not distributed")
    plan = _wanted(project, name, image.family, share, copies)
    wanted = set(_targets(plan))
    if len(wanted | {each.target for each in known.distributed}) > MOST_IN_ALL:
        raise InputError(f"image {name} of project {project} has {len(known.distributed)} targets of {MOST_IN_ALL}")
    try:
        _refuse_bad(image, known)
        check_distribution(plan, limits)
    except InputError as error:  # the request as a whole; the command that asks reads it in the image's document
        refuse_all(image, plan, str(error), backend)
        raise
    done = distribute(image, plan, backend, again=True)
    if done.late:
        raise Transient(f"image {name} is not distributed yet: {'; '.join(done.late)}")
    now = find_image(project, name, backend)
    targets = [each.target for each in now.distributed if each.is_there] if now is not None else []
    return DistributedImage(project, name, tuple(targets), done.refused)


def _refuse_bad(image: Image, known: ImageDocument) -> None:
    """Raise InputError for an image that nobody is to get any more."""
    if known.revoked is not None or image.is_obsolete:
        state = "OBSOLETE" if known.revoked is None else "revoked"
        raise InputError(f"image {image.name} of project {image.project} is {state}, and is not distributed")


@dataclass(frozen=True)
class AskedDistribution:
    """A request that is on its way."""

    targets: tuple[str, ...]
    before: tuple[Distributed, ...]  # what was known of targets when it was made

    def settled(self, known: ImageDocument | None) -> tuple[Distributed, ...]:
        """Return what has come of the targets that are done with: they have the image, or were refused since then."""
        now = known.distributed if known is not None else ()
        done = [each for each in now if each.is_there or (each.refused and each not in self.before)]
        return tuple(each for each in done if each.target in self.targets)


def ask_to_distribute(
    project: str, name: str, share: Sequence[object], copies: Sequence[object], store: Store, bus: Bus
) -> AskedDistribution:
    """Publish a request, once what can be known of it here is right. InputError, DamagedDocument."""
    _check_number(share, copies)
    _check_image(project, name)
    plan = _wanted(project, name, None, share, copies)
    known = store.image(project, name)
    if known is None or known.state != "published":
        raise InputError(f"there is no image {name} in project {project} that Goldsmith has made and published")
    if known.revoked is not None:
        raise InputError(f"image {name} of project {project} was {known.revoked.text}, and is not distributed")
    asked = {"image": f"{project}/{name}", "share": list(share), "copies": list(copies)}
    bus.publish(Message(IMAGES_TOPIC, json.dumps({"distribute": asked}).encode(), {}))
    return AskedDistribution(_targets(plan), known.distributed)


def _check_number(share: Sequence[object], copies: Sequence[object]) -> None:
    if not 0 < len(share) + len(copies) <= MOST:
        raise InputError(f"name 1 to {MOST} targets, in share and copies")


def _check_image(project: str, name: str) -> None:
    _checked("image", project_id, project)
    _checked("image", check_name, name)


def _wanted(
    project: str, name: str, family: str | None, share: Sequence[object], copies: Sequence[object]
) -> ImagePlan:
    """Return an image as a request wants it. InputError."""
    members = tuple(_checked("share", image_user, each) for each in share)
    plan = ImagePlan(project, name, family, share=members, copies=tuple(_copy(each, project) for each in copies))
    plan.check_copies()
    return plan


def _targets(plan: ImagePlan) -> tuple[str, ...]:
    return (*plan.share, *(f"{copy.project}/{copy.name_for(plan)}" for copy in plan.copies))


def _copy(asked: object, project: str) -> ImageCopyPlan:
    """Read a copy, whose keys are those of output.copies. InputError."""
    if not isinstance(asked, Mapping) or not asked or not set(asked) <= set(_KEYS):
        raise InputError(f"copies: each is an object with some of {', '.join(_KEYS)}")
    read: dict[str, Any] = {"project": project}
    for key, check in (("project", cloud_project), ("name", output_name), ("kms_key", kms_key)):
        if key in asked:
            read[key] = _checked(f"copies: {key}", check, asked[key])
    location = asked.get("storage_location")
    if location is not None and not (isinstance(location, str) and _LOCATION.fullmatch(location)):
        raise InputError("copies: storage_location: write a region such as europe-west4, or eu, us or asia")
    if read["project"] == project and location is None:
        raise InputError(f"copies: project {project} has the image; name a storage_location for its copy")
    return ImageCopyPlan(storage_location=location, **read)


def _checked(key: str, check: Any, value: object) -> str:
    if not isinstance(value, str):
        raise InputError(f"{key}: is no text")
    try:
        read: str = check(value)
    except ValueError as error:
        raise InputError(f"{key}: {error}") from error
    return read
