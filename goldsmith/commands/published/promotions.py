"""goldsmith images promote, approve and approvals: images on their way into channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from shared.build.damage import Damaged
from shared.build.image.approval import (
    AskedPromotion,
    PromotionAnswer,
    audience_of,
    purpose_of,
    written_id,
)
from shared.errors import InputError
from shared.runtime import opening

from ...exit_status import NOT_SUCCEEDED
from ...home import open_home
from ...places import Place, open_client_of
from ...screen.tables import print_json, print_table, relative
from ...screen.text import complain, say
from ..images import local_name, written_image
from .mail_proof import MailProof, identity_token

if TYPE_CHECKING:
    from shared.runtime.opening import PromotedImage

ANSWER_WITHIN = 60.0  # seconds until deprecate_images has recorded a word


def promote(name: str, channel: str, *, as_json: bool) -> None:
    """Copy an image into a channel, and print what the channel leads to now, or what the promotion waits for."""
    with open_home() as backend:
        done = opening.images_here(backend).promote(local_name(name), channel)
    _print_done(done, as_json=as_json)
    if isinstance(done, AskedPromotion) and not as_json:
        say(f"approve it: goldsmith images approve {name} --channel {channel} --reason TEXT")


def approve(
    name: str, channel: str, reason: str, proof: MailProof, place: Place, *, refuse: bool, as_json: bool
) -> int:
    """Say yes or no to a promotion, and print what came of it; return the exit status."""
    answer: PromotionAnswer = "refuse" if refuse else "approve"
    if place.project is not None:
        return _approve_in(place.project, place.bucket, name, channel, reason, proof, answer, as_json=as_json)
    if proof != MailProof():
        raise InputError("--impersonate and --token-file prove who you are to a project; name one with --project")
    with open_home() as backend:
        done = opening.images_here(backend).answer(local_name(name), channel, answer, reason)
    _print_done(done, as_json=as_json)
    return 0


def list_approvals(place: Place, *, as_json: bool) -> None:
    """Print the promotions that wait; those that cannot be read go to standard error."""
    if place.project is None:
        with open_home() as backend:
            found = opening.images_here(backend).asked_promotions()
    else:
        found = open_client_of(place.project, place.bucket).store.promotions()
    shown = list(_readable(found))
    if as_json:
        print_json([asdict(each) | _audiences(each, place) for each in shown])
        return
    rows = [
        (
            each.image if place.project in (None, each.project) else f"{each.project}/{each.image}",
            each.channel,
            relative(each.asked),
            relative(each.deadline),
            str(each.at_least or "-"),
            ", ".join(approval.by for approval in each.approvals) or "none yet",
        )
        for each in shown
    ]
    print_table(("IMAGE", "CHANNEL", "ASKED", "LAPSES", "SPEC ASKS", "APPROVED BY"), rows)


def _readable(found: Sequence[AskedPromotion | Damaged]) -> list[AskedPromotion]:
    for each in found:
        if isinstance(each, Damaged):
            complain(each.why)
    return [each for each in found if isinstance(each, AskedPromotion)]


def _audiences(asked: AskedPromotion, place: Place) -> dict[str, str]:
    """Return what tokens have to be for, where people have to prove who they are."""
    if place.project is None:
        return {}
    return {
        "approve_audience": audience_of(place.project, purpose_of(asked, "approve")),
        "refuse_audience": audience_of(place.project, purpose_of(asked, "refuse")),
    }


def _approve_in(
    project: str,
    bucket: str | None,
    name: str,
    channel: str,
    reason: str,
    proof: MailProof,
    answer: PromotionAnswer,
    *,
    as_json: bool,
) -> int:
    owner, image = written_image(name, project)
    key = written_id(owner, image, channel)
    client = open_client_of(project, bucket)
    asked = client.store.promotion(key)
    if asked is None:
        raise InputError(
            f"no promotion of image {name} to the channel {channel} waits; see: goldsmith images approvals"
        )
    if not asked.is_open:
        raise InputError(asked.text)
    token = identity_token(audience_of(project, purpose_of(asked, answer)), proof)
    known, recorded = client.answer(asked, answer, reason, token, ANSWER_WITHIN)
    _print_done(known, as_json=as_json)
    if recorded:
        return 0
    complain(f"it is not recorded within {ANSWER_WITHIN:.0f} s; the log of deprecate_images says why")
    return NOT_SUCCEEDED


def _print_done(done: PromotedImage | AskedPromotion, *, as_json: bool) -> None:
    if as_json:
        print_json(asdict(done))
    elif isinstance(done, AskedPromotion):
        say(done.text)
    else:
        what = "is already" if done.already else "is"
        say(f"image {done.project}/{done.source} {what} in the channel {done.channel}, as {done.name}")
        say(f"family {done.family} leads to {done.leads_to}")
