"""Take back a published image: it becomes OBSOLETE, and its family goes back to the newest good image before it.

    record in the store ── choose ── predecessor active again ── image OBSOLETE ── label ── record as done
                             └─────────── again, while others change either ──┘

Until the image is OBSOLETE the family leads to it, and afterwards to the predecessor: it is made OBSOLETE only while
that is active. A process that dies in between has recorded what it began, and the same call again goes on. Of two
revocations at once, each is recorded before it chooses, so neither goes back to the other's image.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

from ..backend import Backend
from ..build.build import ImageDocument, Revocation
from ..errors import Conflict, InputError, NotFound, Permanent, Transient
from ..names import LOCAL, REVOKED_LABEL, SOURCE_LABEL, as_label_value, check_name
from ..ownership import is_good, is_revoked, newest_good
from ..ports import Image

LOG = logging.getLogger(__name__)

REASON_LENGTH = 500  # characters
TRIES = 20  # while others change the family
_PAUSE = 1.0  # seconds, at most


@dataclass(frozen=True)
class RevokedImage:
    """What came of a revocation."""

    project: str
    name: str
    reason: str
    time: float  # Unix seconds
    family: str | None
    leads_to: str | None  # the image that the family leads to now
    leads_to_good: bool  # whether Goldsmith has published that one, and it is not revoked
    restored: bool  # whether that one was deprecated until now
    descendants: tuple[str, ...]  # images of the project that were built from this one, directly or not


def revoke_image(project: str, name: str, reason: str, backend: Backend, *, alone: bool = False) -> RevokedImage:
    """Revoke an image, or finish its revocation. InputError with nothing changed; Transient.

    `alone` allows that no good image is left in its family. A second call keeps the first one's reason and time.
    """
    reason = _checked_reason(reason)
    image, known = _find(project, name, backend)
    if known.revoked is None and not alone:
        _refuse_last(image, backend)
    known = _record(known, Revocation(reason, backend.clock.now()), backend)
    restored = False
    if known.revoked is None or not known.revoked.done or not image.is_obsolete:
        restored = _give_way(image, backend, alone=alone)
        known = _finish(image, known, backend)
    return _told(image, known, backend, restored=restored)


def _checked_reason(reason: str) -> str:
    reason = reason.strip()
    if not reason or len(reason) > REASON_LENGTH or not reason.isprintable():
        raise InputError(f"reason: write one line of 1 to {REASON_LENGTH} characters that says what is wrong with it")
    return reason


def _find(project: str, name: str, backend: Backend) -> tuple[Image, ImageDocument]:
    """Return an image of ours that is published, and what the store knows of it. InputError, DamagedDocument."""
    try:
        check_name(name)
    except ValueError as error:
        raise InputError(str(error)) from error
    image = backend.compute.image(project, name)
    if image is None:
        raise InputError(f"there is no image {name} in project {project}; a deleted one needs no revocation")
    known = backend.store.image(project, name)
    if known is None or known.id != image.id:
        remedy = "delete it" if project == LOCAL else f"deprecate it with: gcloud compute images deprecate {name}"
        raise InputError(f"image {name} of project {project} was not made by Goldsmith, or long ago; {remedy}")
    if known.state != "published":
        raise InputError(f"image {name} of project {project} is not published; end its build {known.build_id} instead")
    return image, known


def _refuse_last(image: Image, backend: Backend) -> None:
    """Raise InputError where the family leads to an image, and would to no good one without it."""
    if image.family is not None and image.deprecated is None and _predecessor(image, backend) is None:
        raise InputError(
            f"family {image.family} of project {image.project} has no other good image; build one first, or revoke "
            f"{image.name} all the same with --alone"
        )


def _predecessor(image: Image, backend: Backend) -> Image | None:
    """Return the newest good image of an image's family but for itself."""
    if image.family is None:
        return None
    family = backend.compute.images(image.project, family=image.family)
    return newest_good([each for each in family if each.name != image.name], backend)


def _record(known: ImageDocument, revocation: Revocation, backend: Backend) -> ImageDocument:
    """Write down that an image is revoked, unless it is; return what the store knows then. InputError, Transient."""
    for _ in range(TRIES):
        if known.revoked is not None:
            return known
        wanted = replace(known, revoked=revocation)
        if backend.store.save_image(wanted, known):
            return wanted
        now = backend.store.image(known.project, known.name)
        if now is None or now.id != known.id:
            raise InputError(f"image {known.name} of project {known.project} is gone meanwhile")
        known = now
    raise Transient(f"image {known.name} of project {known.project} is being changed by others; try again")


def _give_way(image: Image, backend: Backend, *, alone: bool) -> bool:
    """Make an image OBSOLETE and its predecessor active; return whether that was deprecated. InputError, Transient."""
    restored = ""
    for _ in range(TRIES):
        seen = backend.compute.image(image.project, image.name)
        if seen is None or seen.id != image.id:
            return False  # deleted meanwhile
        before = _predecessor(seen, backend)
        if before is None and not alone:
            _refuse_left(seen)
        try:
            if before is not None and before.deprecated is not None:
                backend.compute.activate_image(before)
                restored = before.name
                if is_revoked(before, backend):  # since it was chosen
                    _make_obsolete_again(before, backend)
                    continue
            backend.compute.obsolete_image(seen, "" if before is None else before.name)
        except (Transient, NotFound) as error:
            LOG.info("image %s: %s", image.name, error)
            backend.clock.pause(_PAUSE)
            continue
        return before is not None and before.name == restored
    raise Transient(f"family {image.family} is being changed by others; revoke {image.name} again, which goes on")


def _refuse_left(seen: Image) -> None:
    """Raise InputError where all good images of a family have been revoked at once, and it still leads to this one."""
    if seen.family is not None and seen.deprecated is None:
        raise InputError(
            f"image {seen.name} is recorded as revoked, and no build starts from it any more, but family {seen.family} "
            "still leads to it, having no good image left; build one and revoke it again, or do that with --alone"
        )


def _make_obsolete_again(before: Image, backend: Backend) -> None:
    now = backend.compute.image(before.project, before.name)
    if now is not None:
        backend.compute.obsolete_image(now, "")


def _finish(image: Image, known: ImageDocument, backend: Backend) -> ImageDocument:
    """Label an image as revoked, and record that its revocation is done."""
    assert known.revoked is not None
    for _ in range(TRIES):
        seen = backend.compute.image(image.project, image.name)
        if seen is None or seen.id != image.id:
            break
        labels = {**seen.labels, REVOKED_LABEL: str(int(known.revoked.time))}
        try:
            backend.compute.label_image(seen, labels)
            break
        except (Transient, Conflict, NotFound):
            backend.clock.pause(_PAUSE)
        except Permanent as error:  # without a label the store still knows it
            LOG.warning("image %s cannot be labelled as revoked: %s", image.name, error)
            break
    for _ in range(TRIES):
        assert known.revoked is not None
        done = replace(known, revoked=replace(known.revoked, done=True))
        if known == done or backend.store.save_image(done, known):
            return done
        now = backend.store.image(known.project, known.name)
        if now is None or now.id != known.id or now.revoked is None:
            return done
        known = now
    raise Transient(f"image {image.name} is revoked, but that cannot be recorded as done; revoke it again")


def _told(image: Image, known: ImageDocument, backend: Backend, *, restored: bool) -> RevokedImage:
    assert known.revoked is not None
    leads_to = None
    if image.family is not None:
        family = backend.compute.images(image.project, family=image.family)
        active = [each for each in family if each.deprecated is None]
        leads_to = max(active, key=lambda each: (each.created, each.name), default=None)
    return RevokedImage(
        project=image.project,
        name=image.name,
        reason=known.revoked.reason,
        time=known.revoked.time,
        family=image.family,
        leads_to=None if leads_to is None else leads_to.name,
        leads_to_good=leads_to is not None and is_good(leads_to, backend),
        restored=restored and leads_to is not None,
        descendants=descendants_of(image, backend),
    )


def descendants_of(image: Image, backend: Backend) -> tuple[str, ...]:
    """Return the images of a project that were built from an image, or from one that was, by name."""
    others = backend.compute.images(image.project)
    found: dict[str, Image] = {}
    wanted = [image]
    while wanted:
        parent = wanted.pop()
        for each in others:
            if each.name not in found and each.id != image.id and _is_child(each, parent, backend):
                found[each.name] = each
                wanted.append(each)
    return tuple(sorted(found))


def _is_child(each: Image, parent: Image, backend: Backend) -> bool:
    """Return whether an image of ours was built from another. Its label may be left out, but not tell of another."""
    told = each.labels.get(SOURCE_LABEL)
    if told not in (None, as_label_value(parent.name)):
        return False
    known = backend.store.image(each.project, each.name)
    if known is None or known.id != each.id:
        return False
    return known.source_id == parent.id or (told is not None and not known.source_id)
