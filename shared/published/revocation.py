"""Take back a published image: it becomes OBSOLETE, and its family goes back to the newest good image before it.

    record in the store ── choose ── predecessor active again ── image OBSOLETE ── label ── record as done
                             └─────────── again, while others change either ──┘

Until the image is OBSOLETE the family leads to it, and afterwards to the predecessor: it is made OBSOLETE only while
that is active. A process that dies in between has recorded what it began, and the same call again goes on. Of two
revocations at once, each is recorded before it chooses, so neither goes back to the other's image.

The copies that promotions have made of the image are revoked with it, and each channel goes back to its newest good
copy. A promotion names its copy in the image's document before it makes it: the record finds it there, or refuses it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..backend import Backend
from ..build.build import Build, ChannelCopy, ImageDocument, ImageUsage, Revocation
from ..errors import (
    Conflict,
    DamagedDocument,
    GoldsmithError,
    InputError,
    NotFound,
    Permanent,
    Transient,
)
from ..names import LABEL_COUNT, LOCAL, REVOKED_LABEL, SOURCE_LABEL, as_label_value, check_name
from ..ownership import copy_of, find_image, is_good, is_revoked, newest_good
from ..ports import Image
from .distribution import retract_copies

LOG = logging.getLogger(__name__)

REASON_LENGTH = 500  # characters
TRIES = 20  # while others change the family
_PAUSE = 1.0  # seconds, at most


@dataclass(frozen=True)
class RevokedCopy:
    """A copy in a channel, which was revoked with its original."""

    name: str
    channel: str
    family: str
    leads_to: str | None  # the image that the channel leads to now


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
    builds: tuple[str, ...] = ()  # those under way that have started from this one or from those
    copies: tuple[RevokedCopy, ...] = ()
    copy_of: str = ""  # the image that it is a copy of itself, and that is not revoked by this
    rebuilt: tuple[str, ...] = ()  # the specs of `descendants` that are built again; see cascade.py
    usage: ImageUsage | None = None  # what uses it and its copies; see usage.py
    not_rebuilt: tuple[str, ...] = ()  # the descendants that are not, each with the reason


def revoke_image(project: str, name: str, reason: str, backend: Backend, *, alone: bool = False) -> RevokedImage:
    """Revoke an image, or finish its revocation. InputError with nothing changed; Transient.

    Permanent where it is recorded, and its family still leads to it: others have revoked the last good image meanwhile.
    `alone` allows that no good image is left in its family or channels. A second call keeps the first one's reason and
    time. DamagedDocument, when all else is done, for a copy of which nothing can be read.
    """
    reason = checked_reason(reason, "what is wrong with it")
    image, known = _find(project, name, backend)
    if known.revoked is None and not alone:
        for each in [image, *(copy for copy, _ in _copies(known, backend, []))]:
            _refuse_last(each, name, backend)
    known = record_revocation(known, Revocation(reason, backend.clock.now()), backend)
    faults: list[GoldsmithError] = []
    copies = _record_copies(known, backend, faults)
    restored = set()
    for each, document in [*copies, (image, known)]:
        try:
            restored.add(make_way(each, document, backend, alone=alone))
        except Permanent as error:
            faults.append(error)
    for each in [image, *(copy for copy, _ in copies)]:  # the same call again tries them again
        for left in retract_copies(each, backend):
            LOG.warning("image %s is revoked, and a copy of it is not OBSOLETE: %s", each.name, left)
    if faults:
        raise faults[0]
    told = _told(image, known, backend, restored=restored, copies=copies)
    return replace(told, copy_of="" if known.copy is None else known.copy.of)


def make_way(image: Image, known: ImageDocument, backend: Backend, *, alone: bool) -> str:
    """Let an image whose revocation is recorded give way; return the name of what is active again for it, or "".

    Permanent where no good image is left and `alone` is not said; Transient.
    """
    assert known.revoked is not None
    if known.revoked.done and image.is_obsolete:
        return ""
    restored = _give_way(image, backend, alone=alone)
    _finish(image, known, backend)
    return restored


def checked_reason(reason: str, what: str) -> str:
    """Return a person's reason without blanks around it. InputError for one that does not say `what` in one line."""
    reason = reason.strip()
    if not reason or len(reason) > REASON_LENGTH or not reason.isprintable():
        raise InputError(f"reason: write one line of 1 to {REASON_LENGTH} characters that says {what}")
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
        by_hand = f"gcloud compute images deprecate {name} --project {project} --state OBSOLETE"
        remedy = "delete it" if project == LOCAL else f"deprecate it with: {by_hand}"
        raise InputError(f"image {name} of project {project} was not made by Goldsmith, or long ago; {remedy}")
    if known.state != "published":
        raise InputError(f"image {name} of project {project} is not published; end its build {known.build_id} instead")
    return image, known


def _copies(
    known: ImageDocument, backend: Backend, faults: list[GoldsmithError]
) -> list[tuple[Image | None, ImageDocument]]:
    """Return what is known of an image's copies; None in the place of one that is not made, or is gone."""
    found: list[tuple[Image | None, ImageDocument]] = []
    for name in known.copies:
        try:
            document = backend.store.image(known.project, name)
        except DamagedDocument as error:
            faults.append(error)
            continue
        if document is None or document.copy is None or document.copy.id != known.id:
            continue  # not begun, or of another image of that name
        image = backend.compute.image(known.project, name)
        if image is not None and (image.id if document.id else image.source_image) != (document.id or known.id):
            image = None  # another one of that name
        found.append((image, document))
    return found


def _record_copies(
    known: ImageDocument, backend: Backend, faults: list[GoldsmithError]
) -> list[tuple[Image, ImageDocument]]:
    """Record with each copy that it is revoked; return those that are there.

    One that is being made is found by its promotion, when that records what it has made.
    """
    assert known.revoked is not None
    revocation = replace(known.revoked, done=False)
    found = []
    for image, document in _copies(known, backend, faults):
        try:
            recorded = record_revocation(document, revocation, backend)
        except InputError:
            continue  # its promotion has given up
        if image is not None:
            found.append((image, record_made(recorded, image, backend)))
    return found


def record_made(known: ImageDocument, image: Image, backend: Backend) -> ImageDocument:
    """Record the id of a revoked copy whose promotion has ended before it could."""
    wanted = replace(known, state="published", id=image.id)
    return wanted if known.id or backend.store.save_image(wanted, known) else known


def _refuse_last(image: Image | None, name: str, backend: Backend) -> None:
    """Raise InputError where the family leads to an image, and would to no good one without it."""
    if image is None:
        return
    if image.family is not None and image.deprecated is None and _predecessor(image, backend) is None:
        raise InputError(
            f"family {image.family} of project {image.project} has no other good image; build one first, or revoke "
            f"{name} all the same with --alone"
        )


def _predecessor(image: Image, backend: Backend) -> Image | None:
    """Return the newest good image of an image's family but for itself; for a copy, of its channel's copies."""
    if image.family is None:
        return None
    family = backend.compute.images(image.project, family=image.family)
    others = [each for each in family if each.name != image.name]
    of_it = copy_of(image, backend)
    if of_it is None:
        return newest_good(others, backend)
    channel = of_it.channel
    return newest_good(others, backend, among=lambda each: is_in_channel(each, channel, backend))


def is_in_channel(image: Image, channel: str, backend: Backend) -> bool:
    """Return whether a promotion has made an image for a channel."""
    known = copy_of(image, backend)
    return known is not None and known.channel == channel


def record_revocation(known: ImageDocument, revocation: Revocation, backend: Backend) -> ImageDocument:
    """Write down that an image is revoked, unless it is; return what the store knows then. InputError, Transient."""
    for _ in range(TRIES):
        if known.revoked is not None:
            return known
        wanted = replace(known, revoked=revocation)
        if backend.store.save_image(wanted, known):
            return wanted
        now = backend.store.image(known.project, known.name)
        if now is None or now.copy != known.copy or (known.id and now.id != known.id):
            raise InputError(f"image {known.name} of project {known.project} is gone meanwhile")
        known = now
    raise Transient(f"image {known.name} of project {known.project} is being changed by others; try again")


def _give_way(image: Image, backend: Backend, *, alone: bool) -> str:
    """Make an image OBSOLETE and its predecessor active; return the name of that if it was deprecated, or "".

    Permanent where no good image is left, Transient.
    """
    restored = ""
    for _ in range(TRIES):
        seen = backend.compute.image(image.project, image.name)
        if seen is None or seen.id != image.id:
            return ""  # deleted meanwhile
        before = _predecessor(seen, backend)
        if seen.deprecated == "DEPRECATED" and before is not None and before.deprecated is not None:
            before = None  # the family does not lead to `seen`, so it stays as it is
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
        except (Transient, Conflict, NotFound) as error:
            LOG.info("image %s: %s", image.name, error)
            backend.clock.pause(_PAUSE)
            continue
        return restored if before is not None and before.name == restored else ""
    raise Transient(f"family {image.family} is being changed by others; revoke {image.name} again, which goes on")


def _refuse_left(seen: Image) -> None:
    """Raise Permanent where all good images of a family have been revoked at once, and it still leads to this one."""
    if seen.family is not None and seen.deprecated is None:
        raise Permanent(
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
        if len(labels) > LABEL_COUNT:  # without a label the store still knows it
            LOG.warning("image %s has %d labels, so it gets none that says it is revoked", image.name, len(seen.labels))
            break
        try:
            backend.compute.label_image(seen, labels)
            break
        except (Transient, Conflict, NotFound):
            backend.clock.pause(_PAUSE)
        except Permanent as error:
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


def newest_active(project: str, family: str | None, backend: Backend) -> Image | None:
    """Return the image that a family leads to."""
    if family is None:
        return None
    active = [each for each in backend.compute.images(project, family=family) if each.deprecated is None]
    return max(active, key=lambda each: (each.created, each.name), default=None)


def _told(
    image: Image,
    known: ImageDocument,
    backend: Backend,
    *,
    restored: set[str],
    copies: Sequence[tuple[Image, ImageDocument]],
) -> RevokedImage:
    assert known.revoked is not None
    leads_to = newest_active(image.project, image.family, backend)
    revoked = [image, *(copy for copy, _ in copies)]
    descendants = _descendants(revoked, backend)
    return RevokedImage(
        project=image.project,
        name=image.name,
        reason=known.revoked.reason,
        time=known.revoked.time,
        family=image.family,
        leads_to=None if leads_to is None else leads_to.name,
        leads_to_good=leads_to is not None and is_good(leads_to, backend),
        restored=leads_to is not None and leads_to.name in restored,
        descendants=tuple(sorted(each.name for each in descendants)),
        builds=_builds_from([*revoked, *descendants], backend),
        copies=tuple(_told_copy(document, document.copy, backend) for _, document in copies if document.copy),
    )


def _told_copy(known: ImageDocument, of_it: ChannelCopy, backend: Backend) -> RevokedCopy:
    leads_to = newest_active(known.project, of_it.family, backend)
    return RevokedCopy(known.name, of_it.channel, of_it.family, None if leads_to is None else leads_to.name)


def descendants_of(image: Image, backend: Backend) -> tuple[str, ...]:
    """Return the names of the images of a project that were built from an image, or from one that was."""
    return tuple(sorted(each.name for each in _descendants([image], backend)))


def _descendants(images: Sequence[Image], backend: Backend) -> list[Image]:
    others = backend.compute.images(images[0].project)
    own = {each.id for each in images}
    found: dict[str, Image] = {}
    wanted = list(images)
    while wanted:
        parent = wanted.pop()
        for each in others:
            if each.name not in found and each.id not in own and _is_child(each, parent, backend):
                found[each.name] = each
                wanted.append(each)
    return list(found.values())


def _builds_from(images: Sequence[Image], backend: Backend) -> tuple[str, ...]:
    """Return the builds under way that have started, or wait to start, from one of these images."""
    ids = {(each.project, each.id) for each in images}
    found = [each for each in backend.store.builds(unfinished=True) if isinstance(each, Build)]
    plans = [(each.id, each.plan) for each in found if each.outcome is None and each.plan is not None]
    return tuple(sorted(name for name, plan in plans if (plan.source.project, plan.source.id) in ids))


def _is_child(each: Image, parent: Image, backend: Backend) -> bool:
    """Return whether an image of ours was built from another. Its label may be left out, but not tell of another."""
    told = each.labels.get(SOURCE_LABEL)
    if told not in (None, as_label_value(parent.name)):
        return False
    known = find_image(each.project, each.name, backend)
    if known is None or known.id != each.id:
        return False
    return known.source_id == parent.id or (told is not None and not known.source_id)
