"""Promote a published image to a channel: a copy of it joins the family FAMILY-CHANNEL, and nothing else changes.

    check ── name the copy in the image's document ── reserve the copy's name ── make it ── record it ── let it join
                     │ refused once it is revoked            │                       │           │          │
                     └───────────────────────────── looked at once more before and after it joins ──────────┘

Each write is conditional, and each step finds what an earlier process has done: the same promotion again goes on. A
revocation reads the names of the copies in the write that records it, so it finds each copy, or the promotion finds it;
whichever is later takes the copy back. A copy joins the family when all is recorded, so whatever a channel leads to is
known, verified and not revoked.

A channel with approvers takes nothing but what approval.py hands over once enough of them have said yes: the image with
the very id that they were asked about.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..backend import Backend
from ..build.build import ChannelCopy, ImageDocument, Revocation
from ..build.image.channels import Channel, channel_family
from ..errors import AlreadyExists, InputError, NotFound, Transient
from ..names import NAME_LENGTH, nearest, quoted
from ..ownership import revocation_of
from ..ports import CopyRequest, Image
from .image_check import check_image
from .revocation import is_in_channel, make_way, newest_active, record_made, record_revocation

_TRIES = 20  # while others change the same documents


@dataclass(frozen=True)
class PromotedImage:
    """What came of a promotion."""

    project: str
    name: str  # of the copy
    source: str  # the image that it is a copy of
    channel: str
    family: str
    leads_to: str | None  # the image that the channel leads to now: another one, where that was promoted meanwhile
    already: bool  # whether nothing was left to do


def promote_image(project: str, name: str, channel: str, backend: Backend, *, approved: str = "") -> PromotedImage:
    """Make the copy of an image in a channel, or go on with it. InputError, Transient, DamagedDocument.

    After an InputError the channel leads to where it led before. `approved` is the id of the image whose promotion the
    channel's approvers want.
    """
    if not approved and find_channel(channel, backend).approvers:
        raise InputError(f"channel {channel} has approvers, who have not been asked")
    known, wanted = find_promotable(project, name, channel, backend)
    if not approved and known.approvals.get(channel):
        raise InputError(
            f"the spec of image {name} asks for {known.approvals[channel]} approvals in the channel {channel}, which "
            "has no approvers; name some in the deployment's channels"
        )
    if approved and known.id != approved:
        raise InputError(f"image {name} of project {project} is another one than was approved; ask for its promotion")
    _claim(known, wanted, backend)
    mine = _reserve(wanted, backend)
    assert mine.copy is not None
    copy = _make(mine, mine.copy, backend)
    if copy.deprecated is not None:
        raise InputError(
            f"its copy {copy.name} is {copy.deprecated}, so that no channel leads to it; promote another one"
        )
    already = copy.family == mine.copy.family
    _join(copy, mine.copy, backend)
    leads_to = newest_active(project, mine.copy.family, backend)
    if already and leads_to is not None and leads_to.name != copy.name:
        raise InputError(
            f"image {name} is in the channel {channel} already, as {copy.name}, and family {mine.copy.family} leads to "
            f"{leads_to.name}, which was promoted later; revoke that one, or delete {copy.name} and promote again"
        )
    return PromotedImage(
        project, copy.name, name, channel, mine.copy.family, None if leads_to is None else leads_to.name, already
    )


def find_channel(name: str, backend: Backend) -> Channel:
    """Return a channel of the deployment. InputError."""
    channels = backend.channels()
    if not channels:
        raise InputError(
            f"there is no channel {quoted(name)}, since no channels are set up; docs/published-images.md says how"
        )
    if name not in channels:
        raise InputError(f"there is no channel {quoted(name)}; {nearest(name, channels)}")
    return channels[name]


def find_promotable(project: str, name: str, channel: str, backend: Backend) -> tuple[ImageDocument, ImageDocument]:
    """Return what is known of an image that may be promoted, and what will be of its copy.

    InputError, DamagedDocument.
    """
    find_channel(channel, backend)
    image, known = _find(project, name, backend)
    assert image.family is not None
    copy_name = _checked("name", channel_family(name, channel))
    family = _checked("family", channel_family(image.family, channel))
    wanted = ImageDocument(
        project,
        copy_name,
        known.build_id,
        known.content_digest,
        verified=True,
        source_id=known.source_id,
        author=known.author,
        approvals=known.approvals,
        copy=ChannelCopy(name, image.id, channel, family, backend.clock.now()),
    )
    _refuse_taken(wanted, backend)
    return known, wanted


def _checked(what: str, text: str) -> str:
    if len(text) > NAME_LENGTH:
        raise InputError(
            f"the {what} of the copy would be {text}, which has {len(text)} characters, and may have {NAME_LENGTH}; "
            f"choose a shorter {'output.name' if what == 'name' else 'output.family'} in the spec, and build again"
        )
    return text


def _find(project: str, name: str, backend: Backend) -> tuple[Image, ImageDocument]:
    """Return an image that may be promoted, and what the store knows of it. InputError, DamagedDocument."""
    verdict = check_image(project, name, backend, must_be_verified=True)
    image, known = backend.compute.image(project, name), backend.store.image(project, name)
    problems = list(verdict.problems)
    if not problems and (image is None or known is None or known.id != image.id):
        problems.append("what is recorded of it is of an earlier release; build it again")
    if known is not None and known.copy is not None:
        problems.append(f"it is a copy itself; promote {known.copy.of}")
    if image is not None and image.family is None:
        problems.append("it is in no family, so no family can be a channel of it; set output.family, and build again")
    if problems or image is None or known is None:
        raise InputError(f"image {name} of project {project} cannot be promoted: {'; '.join(problems)}")
    return image, known


def _refuse_taken(wanted: ImageDocument, backend: Backend) -> None:
    """Raise InputError where a channel's family leads to an image that no promotion has made."""
    assert wanted.copy is not None
    for each in backend.compute.images(wanted.project, family=wanted.copy.family):
        if each.deprecated is None and not is_in_channel(each, wanted.copy.channel, backend):
            raise InputError(
                f"family {wanted.copy.family} of project {wanted.project} has an image that no promotion has made: "
                f"{each.name}; delete it, deprecate it or choose another name for the channel"
            )


def _claim(known: ImageDocument, wanted: ImageDocument, backend: Backend) -> None:
    """Name the copy in the document of its original, unless that is revoked. InputError, Transient."""
    for _ in range(_TRIES):
        if known.revoked is not None:
            raise InputError(f"image {known.name} of project {known.project} was {known.revoked.text}")
        named = replace(known, copies=(*known.copies, wanted.name))
        if wanted.name in known.copies or backend.store.save_image(named, known):
            return
        now = backend.store.image(known.project, known.name)
        if now is None or now.id != known.id:
            raise InputError(f"image {known.name} of project {known.project} is gone meanwhile")
        known = now
    raise _busy(known)


def _reserve(wanted: ImageDocument, backend: Backend) -> ImageDocument:
    """Return the copy's document, which is written where there is none. InputError, Transient."""
    for _ in range(_TRIES):
        known, found = (
            backend.store.image(wanted.project, wanted.name),
            backend.compute.image(wanted.project, wanted.name),
        )
        if known is not None and _is_same(known, wanted):
            if known.revoked is not None:
                raise InputError(f"its copy {known.name} was {known.revoked.text}; build another image to promote")
            if not known.id or (found is not None and found.id == known.id):
                return known
        if found is not None:
            assert wanted.copy is not None
            raise InputError(
                f"image {wanted.name} of project {wanted.project} exists, and no promotion of this "
                f"{wanted.copy.of} has made it; delete it, or choose another name for the channel"
            )
        if known is not None and known.copy is None and known.state != "published":
            raise InputError(
                f"the name {wanted.name} is taken by build {known.build_id}; wait for its end, or choose another name "
                "for the channel"
            )
        if backend.store.save_image(wanted, known):  # what is known there is of an image that was deleted
            return wanted
    raise _busy(wanted)


def _is_same(known: ImageDocument, wanted: ImageDocument) -> bool:
    """Return whether a document is that of a copy of the same image in the same channel."""
    if known.copy is None or wanted.copy is None:
        return False
    return (known.copy.id, known.copy.channel) == (wanted.copy.id, wanted.copy.channel)


def _make(mine: ImageDocument, of_it: ChannelCopy, backend: Backend) -> Image:
    """Make the copy, and record it. InputError, Transient."""
    request = CopyRequest(mine.project, mine.name, of_it.of, of_it.id, of_it.time)
    try:
        _refuse_revoked(mine, None, backend)
        made = backend.compute.copy_image(request)
    except NotFound as error:
        raise InputError(f"image {of_it.of} of project {mine.project} is gone meanwhile") from error
    except AlreadyExists as error:
        raise InputError(str(error)) from error
    known = mine
    for _ in range(_TRIES):
        wanted = replace(known, state="published", id=made.id)
        if known == wanted or backend.store.save_image(wanted, known):
            return made
        now = backend.store.image(mine.project, mine.name)
        if now is None or not _is_same(now, mine) or now.id not in ("", made.id):
            raise InputError(f"image {mine.name} of project {mine.project} was deleted or replaced meanwhile")
        known = now
    raise _busy(mine)


def _join(copy: Image, of_it: ChannelCopy, backend: Backend) -> None:
    """Put a copy into its channel, and take it back where a revocation was faster. InputError, Transient."""
    for _ in range(2):
        known = backend.store.image(copy.project, copy.name)
        if known is None or known.id != copy.id:
            raise InputError(f"image {copy.name} of project {copy.project} was deleted or replaced meanwhile")
        _refuse_revoked(known, copy, backend)
        if copy.family == of_it.family:
            return
        try:
            backend.compute.set_family(copy.project, copy.name, of_it.family)
        except NotFound as error:
            raise InputError(f"image {copy.name} of project {copy.project} was deleted meanwhile") from error
        copy = replace(copy, family=of_it.family)


def _refuse_revoked(mine: ImageDocument, copy: Image | None, backend: Backend) -> None:
    """Raise InputError where the original, or its copy, was revoked since; the copy is taken back before."""
    assert mine.copy is not None
    of_original = _of_original(mine, mine.copy, backend)
    revoked = of_original or mine.revoked
    if revoked is None:
        return
    if copy is None:  # perhaps made, and not recorded
        copy = backend.compute.image(mine.project, mine.name)
    if copy is None:
        if not mine.id:
            backend.store.save_image(replace(mine, state="gone"), mine)  # else others have written it
    elif mine.id == copy.id or copy.source_image == mine.copy.id:
        recorded = record_revocation(mine, replace(revoked, done=False), backend)
        make_way(copy, record_made(recorded, copy, backend), backend, alone=True)
    what = f"image {mine.copy.of}" if of_original else f"its copy {mine.name}"
    raise InputError(f"{what} of project {mine.project} was {revoked.text}; build another image to promote")


def _of_original(mine: ImageDocument, of_it: ChannelCopy, backend: Backend) -> Revocation | None:
    return revocation_of(Image(mine.project, of_it.of, of_it.id, 0.0), backend)


def _busy(known: ImageDocument) -> Transient:
    return Transient(f"image {known.name} of project {known.project} is being changed by others; promote it again")
