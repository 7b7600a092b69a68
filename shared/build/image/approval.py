"""A promotion that people have to approve, as one document of the store. Pure.

    waiting ──enough approvals──► approved ──carried out──► promoted
       │                             └──────cannot be──────► failed
       └──an approver says no──► refused, or the deadline passes──► lapsed

There is one for each image and channel; another request for it after its end has the next number, which no approval of
the one before is good for.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from ...errors import InputError
from ...named_documents import read_kept_document, write_kept_document
from ...names import check_name, project_id
from .people import People, is_person, person_of, persons_of

PromotionState = Literal["waiting", "approved", "promoted", "failed", "refused", "lapsed"]
PromotionAnswer = Literal["approve", "refuse"]

NEEDED = 2  # approvers, each another person, of an image whose author is not known; its spec may ask for more


@dataclass(frozen=True)
class Approval:
    """The yes, or the no, of one person."""

    by: str  # the mail address that a token has proved; on one machine the name of the account
    time: float  # Unix seconds
    reason: str
    proof: str = ""  # the SHA-256 of the token in hex, or the id of a person's request; "" by a command of one machine


@dataclass(frozen=True)
class AskedPromotion:
    """A promotion to a channel with approvers."""

    project: str
    image: str
    image_id: str
    channel: str
    number: int  # of all that were asked for this image and channel
    asked: float  # Unix seconds
    deadline: float  # when it lapses, unless there are enough approvals by then
    request: str = ""  # the id of the message that asked for it; "" on one machine
    by: str = ""  # who has asked: on one machine the account, else the mail address; "" where that is not known
    author: str = ""  # the mail address of the person who has written the image's spec; "": not known
    approvals: tuple[Approval, ...] = ()
    refused: Approval | None = None
    state: PromotionState = "waiting"
    ended: float = 0.0  # Unix seconds; 0: it has not
    why: str = ""  # why it failed
    at_least: int = 0  # approvals that the image's spec asks for; 0: it does not say

    @property
    def id(self) -> str:
        """Return the id of its document."""
        return promotion_id(self.project, self.image, self.channel)

    @property
    def is_open(self) -> bool:
        """Return whether it has not ended."""
        return self.state in ("waiting", "approved")

    @property
    def needs(self) -> str:
        """Return who has to approve it, for people."""
        count = _count(self.author, self.at_least)
        if not self.author:
            return f"{count} approvers are needed"
        other = f"other than {self.author}"
        return f"one approver {other} is needed" if count == 1 else f"{count} approvers are needed, one of them {other}"

    @property
    def text(self) -> str:
        """Return it for people, as what is known of the promotion."""
        by = f", whose author is {self.author}," if self.author else ""
        what = f"the promotion of image {self.image} of project {self.project}{by} to the channel {self.channel}"
        yes = ", ".join(each.by for each in self.approvals)
        if self.state == "waiting":
            so_far = f", approved by {yes}" if yes else ""
            wanted = f"{self.at_least} approvals" if self.at_least > 1 else "approval"
            return f"{what} waits for {wanted} until {_shown(self.deadline)}{so_far}"
        if self.state == "refused" and self.refused is not None:
            return f"{what} was refused by {self.refused.by}: {self.refused.reason}"
        if self.state == "lapsed":
            return f"{what} has lapsed at {_shown(self.deadline)}; ask for it again"
        if self.state == "failed":
            return f"{what} was approved by {yes}, and cannot be carried out: {self.why}"
        return f"{what} was approved by {yes}" + (", and is being carried out" if self.state == "approved" else "")


def promotion_id(project: str, image: str, channel: str) -> str:
    """Return the id of the document for an image and a channel."""
    return f"{project}~{image}~{channel}"


def written_id(project: str, image: str, channel: str) -> str:
    """Return the id of the document for what a person has written. InputError for what can name none."""
    try:
        return promotion_id(project_id(project), check_name(image), check_name(channel))
    except ValueError as error:
        raise InputError(str(error)) from error


def purpose_of(asked: AskedPromotion, answer: PromotionAnswer) -> str:
    """Return what a token has to be for, so that it serves for nothing else."""
    return f"{answer}/{asked.project}/{asked.image}/{asked.image_id}/{asked.channel}/{asked.number}"


def audience_of(deployment: str, purpose: str) -> str:
    """Return the audience of a token for a purpose in a deployment, which its project names."""
    return f"goldsmith/{deployment}/{purpose}"


def proof_of(token: str) -> str:
    """Return what is kept of a token, by which it is known when it comes again."""
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()


def is_answered_by(asked: AskedPromotion, proof: str) -> bool:
    """Return whether the word that a token or a request has proved is recorded."""
    return any(each is not None and each.proof == proof for each in (*asked.approvals, asked.refused))


def answer_request(asked: AskedPromotion, answer: PromotionAnswer, reason: str, token: str) -> bytes:
    """Return the message to image-requests that says yes or no to a promotion."""
    image = f"{asked.project}/{asked.image}"
    return json.dumps({answer: {"image": image, "channel": asked.channel, "reason": reason, "token": token}}).encode()


def lacking(asked: AskedPromotion, approvers: Collection[str], people: People) -> int:
    """Return how many more people have to approve a promotion, of those who may do so still."""
    said = frozenset(each.by for each in asked.approvals) & frozenset(approvers)
    return _lacking(asked.author, said, people, asked.at_least)


def lacking_here(asked: AskedPromotion) -> int:
    """Return how many more accounts have to approve a promotion on one machine, where approvals are records."""
    return max(0, max(1, asked.at_least) - len({each.by for each in asked.approvals}))


def refuse_lonely(channel: str, approvers: Collection[str], author: str, at_least: int, people: People) -> None:
    """Raise InputError where a channel has too few approvers for what a person, or "", has written."""
    if not _lacking(author, approvers, people, at_least):
        return
    count, other = _count(author, at_least), f"other than its author, {author}," if author else ""
    if author and count == 1:
        needed = f"a person {other} has"
    else:
        needed = f"{'two' if count == NEEDED else count} people{f', one of them {other}' if author else ''} have"
    raise InputError(
        f"channel {channel} has too few approvers: {needed} to approve the promotion; name more of them in the "
        "deployment's channels"
    )


def _count(author: str, at_least: int) -> int:
    """One other person than the author is enough, unless the spec asks for more."""
    return max(at_least, 1 if author else NEEDED)


def _lacking(author: str, approvers: Collection[str], people: People, at_least: int) -> int:
    """An author that the people do not name any more is not known. A known one may be one of several."""
    persons = persons_of(approvers, people)
    if not is_person(author, people):
        return max(0, _count("", at_least) - len(persons))
    others = persons - {person_of(author, people)}
    return max(0, _count(author, at_least) - len(persons), 1 - len(others))


def write_promotion(asked: AskedPromotion) -> str:
    """Return a promotion's JSON."""
    return write_kept_document(asked)


def read_promotion_of(key: str, document: Any) -> AskedPromotion:
    """Read the promotion that is kept under an id from its JSON. StoreError, also for one that is another's."""
    return read_kept_document(AskedPromotion, "promotion", key, document)


def _shown(time: float) -> str:
    return f"{datetime.fromtimestamp(time, UTC):%Y-%m-%d %H:%M:%SZ}"
