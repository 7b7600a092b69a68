"""What a person sees of what a request is about, as one text: it has to be the same when the request is taken."""

from __future__ import annotations

from ..backend import Backend
from ..build.build import Build
from ..build.image.approval import AskedPromotion, written_id
from ..build.trigger import Trigger, trigger_id
from ..errors import InputError
from ..ownership import find_image
from ..person_requests import PersonRequestKind


def seen_of_build(build: Build) -> str:
    """Return what a person sees of a build that is to be cancelled or retried."""
    return f"{build.state} {build.outcome or ''} {build.attempt} {build.kept_until:.0f} {build.disk_until:.0f}"


def seen_of_promotion(asked: AskedPromotion) -> str:
    """Return what a person sees of a promotion that waits."""
    return f"{asked.number} {asked.image_id} {asked.state}"


def seen_of_trigger(trigger: Trigger) -> str:
    """Return what a person sees of a spec whose triggers are paused."""
    return f"{trigger.paused:.3f} {trigger.digest}"


def seen_now(kind: PersonRequestKind, target: str, channel: str, backend: Backend) -> str:
    """Return what there is to be seen of a target now. InputError, NotFound, DamagedDocument."""
    if kind in ("cancel", "retry"):
        return seen_of_build(backend.store.load(target).build)
    if kind == "resume":
        return seen_of_trigger(paused_trigger(target, backend))
    project, name = image_of_target(target)
    if kind in ("approve", "refuse"):
        return seen_of_promotion(open_promotion(project, name, channel, backend))
    known = find_image(project, name, backend)
    if known is None or known.state != "published":
        raise InputError(f"there is no published image {target} of ours")
    revoked = f" {known.revoked.time:.0f}" if known.revoked is not None else ""
    return f"{known.id}{revoked}"


def image_of_target(target: str) -> tuple[str, str]:
    """Return project and name of PROJECT/IMAGE. InputError."""
    project, slash, name = target.rpartition("/")
    if not slash or not project or not name:
        raise InputError(f"{target[:100]!r} names no image; write PROJECT/IMAGE")
    return project, name


def open_promotion(project: str, name: str, channel: str, backend: Backend) -> AskedPromotion:
    """Return a promotion that waits. InputError where it does not; DamagedDocument."""
    asked = backend.store.promotion(written_id(project, name, channel))
    if asked is None:
        raise InputError(f"no promotion of image {name} of project {project} to the channel {channel} waits")
    if not asked.is_open:
        raise InputError(asked.text)
    return asked


def paused_trigger(spec: str, backend: Backend) -> Trigger:
    """Return the trigger of a spec, which is paused. InputError where it is not; DamagedDocument."""
    known = backend.store.trigger(trigger_id(spec))
    if known is None or not known.is_active:
        raise InputError(f"{spec[:200]} has no triggers")
    if not known.paused:
        raise InputError(f"the triggers of {spec[:200]} are not paused")
    return known
