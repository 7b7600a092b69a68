"""Promotions to channels with approvers: asked for, approved or refused by people, carried out, or lapsed.

    ask ── recorded as waiting ── yes ── yes: recorded as approved ── promote_image() ── recorded as promoted
                      └── no: refused          └─ each later delivery, or request, goes on from here
                      └── deadline: lapsed

Each record is a conditional write, so of a yes, a no and the deadline at once one is first. A yes is recorded with the
digest of its token, by which a redelivered one is known. Who may approve, and that it is still the image that people
were asked about, is looked at once more when it is carried out.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

from ..backend import Backend
from ..build.damage import Damaged, tell_damaged
from ..build.image.approval import (
    Approval,
    AskedPromotion,
    PromotionAnswer,
    is_answered_by,
    lacking,
    lacking_here,
    promotion_id,
    proof_of,
    purpose_of,
    refuse_lonely,
    written_id,
)
from ..build.image.people import is_person
from ..errors import InputError, Permanent, Transient
from ..ownership import copy_of
from .promotion import PromotedImage, find_channel, find_promotable, promote_image
from .revocation import checked_reason

LOG = logging.getLogger(__name__)

GIVEN_UP = 86_400.0  # seconds beyond its deadline after which an approved promotion is not waited for any longer
_TRIES = 20  # while others change the same document


@dataclass(frozen=True)
class PersonsWord:
    """What a person says of a promotion, and the proof of who that is."""

    reason: str
    token: str = ""  # proves a mail address; "" on one machine
    account: str = ""  # whose word it is, on one machine, or where a person's request has proved it
    request: str = ""  # the id of that request
    number: int = 0  # of the promotion that was shown; 0: a token says which


def ask_promotion(
    project: str, name: str, channel: str, backend: Backend, *, request: str = "", account: str = ""
) -> PromotedImage | AskedPromotion:
    """Promote an image, or write down that it waits for approval where the channel has approvers.

    The same request again changes nothing, and goes on with what has been approved. Raises as promote_image() does.
    """
    wanted = find_channel(channel, backend)
    if not wanted.approvers:
        return promote_image(project, name, channel, backend)
    image, copy = find_promotable(project, name, channel, backend)
    author = image.author if is_person(image.author, backend.people()) else ""
    at_least = image.approvals.get(channel, 0)
    if backend.identities is not None:
        refuse_lonely(channel, wanted.approvers, author, at_least, backend.people())
    for _ in range(_TRIES):
        now = backend.clock.now()
        known = _current(promotion_id(project, name, channel), backend)
        if known is not None and known.image_id == image.id:
            if known.is_open:
                return _carry_out(known, backend)
            if request and known.request == request:
                return known
            there = backend.compute.image(project, copy.name)
            promoted = None if there is None else copy_of(there, backend)
            if known.state == "promoted" and promoted is not None and promoted.id == image.id:
                return promote_image(project, name, channel, backend, approved=image.id)
        asked = AskedPromotion(
            project,
            name,
            image.id,
            channel,
            1 if known is None else known.number + 1,
            now,
            now + wanted.approve_within,
            request=request,
            by=account,
            author=author,
            at_least=at_least,
        )
        if backend.store.save_promotion(asked, known):
            return asked
    raise _busy(project, name, channel)


def answer_promotion(
    project: str, name: str, channel: str, answer: PromotionAnswer, word: PersonsWord, backend: Backend
) -> PromotedImage | AskedPromotion:
    """Record the yes or no of an approver, and carry the promotion out once there are enough of them.

    InputError where the word does not count, or what is approved cannot be promoted any more; Transient,
    DamagedDocument.
    """
    reason = checked_reason(word.reason, "why")
    proof = proof_of(word.token) if word.token else word.request
    key = written_id(project, name, channel)
    for _ in range(_TRIES):
        asked = _current(key, backend)
        if asked is None:
            raise InputError(f"no promotion of image {name} of project {project} to the channel {channel} waits")
        if proof and is_answered_by(asked, proof):
            return _carry_out(asked, backend) if asked.is_open else asked  # delivered once more
        if word.number not in (0, asked.number):
            raise InputError(f"it is another promotion than was shown: {asked.text}")
        if asked.state != "waiting" and not (asked.state == "approved" and answer == "approve"):
            raise InputError(asked.text)
        by = _approver(asked, answer, word, proof, backend)
        given = Approval(by, backend.clock.now(), reason, proof)
        if answer == "refuse":
            refused = replace(asked, refused=given, state="refused", ended=given.time)
            if backend.store.save_promotion(refused, asked):
                return refused
            continue
        if by in [each.by for each in asked.approvals]:
            return _carry_out(asked, backend)
        approved = replace(asked, approvals=(*asked.approvals, given))
        if backend.store.save_promotion(approved, asked):
            return _carry_out(approved, backend)
    raise _busy(project, name, channel)


def lapse_promotions(backend: Backend) -> tuple[str, ...]:
    """End the promotions whose deadline has passed, and tell of them; return their ids."""
    lapsed = []
    for each in backend.store.promotions():
        if isinstance(each, Damaged):
            tell_damaged(each)
        elif _has_lapsed(each, backend) and (ended := _lapsed(each, backend)) is not None:
            lapsed.append(ended.id)
    return tuple(lapsed)


def _current(key: str, backend: Backend) -> AskedPromotion | None:
    """Return a promotion; one that has lapsed has ended then. Transient."""
    for _ in range(_TRIES):
        known = backend.store.promotion(key)
        if known is None or not _has_lapsed(known, backend):
            return known
        if (ended := _lapsed(known, backend)) is not None:
            return ended
    raise Transient(f"the promotion {key} is being changed by others")


def _has_lapsed(asked: AskedPromotion, backend: Backend) -> bool:
    late = backend.clock.now() - asked.deadline
    return (asked.state == "waiting" and late >= 0) or (asked.state == "approved" and late >= GIVEN_UP)


def _lapsed(asked: AskedPromotion, backend: Backend) -> AskedPromotion | None:
    """Record that a promotion has lapsed; None where others have changed it since."""
    ended = replace(asked, state="lapsed", ended=backend.clock.now())
    if not backend.store.save_promotion(ended, asked):
        return None
    LOG.warning("%s", ended.text, extra={"metric": "promotion_lapsed"})
    return ended


def _approver(asked: AskedPromotion, answer: PromotionAnswer, word: PersonsWord, proof: str, backend: Backend) -> str:
    """Return who gives a word. InputError for a person who is no approver of the channel."""
    channel = find_channel(asked.channel, backend)
    if backend.identities is None:
        if not word.account:
            raise InputError("nothing here tells who says so; only this machine's own account can approve")
        return word.account
    if not channel.approvers:
        raise InputError(f"channel {asked.channel} has no approvers any more; promote the image without")
    if word.account and channel.approvers and word.account in channel.approvers:
        return word.account
    if not word.token:
        raise InputError("a token has to prove who says so; docs/published-images.md says how to get one")
    by = backend.identities.mail_of(word.token, purpose_of(asked, answer))
    if by not in channel.approvers:
        raise InputError(f"{by} is no approver of the channel {asked.channel}")
    return by


def _has_enough(asked: AskedPromotion, backend: Backend) -> bool:
    """Return whether enough people have approved who may do so now. InputError where the channel is gone."""
    channel = find_channel(asked.channel, backend)
    if backend.identities is None:
        return not lacking_here(asked)
    return not lacking(asked, channel.approvers, backend.people())


def _carry_out(asked: AskedPromotion, backend: Backend) -> PromotedImage | AskedPromotion:
    """Promote an image if enough people want it. InputError or Permanent, once recorded, where that cannot be."""
    for _ in range(_TRIES):
        enough = _has_enough(asked, backend)
        wanted = replace(asked, state="approved" if enough else "waiting")
        if wanted == asked or backend.store.save_promotion(wanted, asked):
            break
        now = _current(asked.id, backend)
        if now is None or now.number != asked.number or not now.is_open:
            return asked if now is None else now
        asked = now
    else:
        raise _busy(asked.project, asked.image, asked.channel)
    if not enough:
        return wanted
    try:
        done = promote_image(wanted.project, wanted.image, wanted.channel, backend, approved=wanted.image_id)
    except (InputError, Permanent) as error:
        _end(replace(wanted, state="failed", why=str(error)), backend)
        raise
    _end(replace(wanted, state="promoted"), backend)
    return done


def _end(ended: AskedPromotion, backend: Backend) -> None:
    """Record how an approved promotion has ended, unless it has ended otherwise; more approvals do not matter."""
    for _ in range(_TRIES):
        known = backend.store.promotion(ended.id)
        if known is None or known.number != ended.number or not known.is_open:
            return
        now = replace(known, state=ended.state, why=ended.why, ended=backend.clock.now())
        if backend.store.save_promotion(now, known):
            return
    raise _busy(ended.project, ended.image, ended.channel)


def _busy(project: str, name: str, channel: str) -> Transient:
    return Transient(
        f"the promotion of image {name} of project {project} to the channel {channel} is being changed by others"
    )
