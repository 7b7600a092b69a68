"""goldsmith images promote, approve and approvals: images on their way into channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from shared.build.damage import Damaged
from shared.build.image.approval import (
    AskedPromotion,
    PromotionAnswer,
    audience_of,
    purpose_of,
    written_id,
)
from shared.errors import EnvironmentFault, InputError
from shared.host.programs import ProgramFailed, run_tool
from shared.host.secret_file import NoPlainFile, read_plain
from shared.runtime import opening

from ...exit_status import NOT_SUCCEEDED
from ...home import open_home
from ...places import Place, open_client_of
from ...screen.tables import print_json, print_table, when
from ...screen.text import complain, say
from ..images import local_name

if TYPE_CHECKING:
    from shared.runtime.opening import PromotedImage

LARGEST_TOKEN = 8192  # bytes
_NO_LOGIN = (
    "\na person's own login gives no such token: use --impersonate ACCOUNT, with a service account that is an approver "
    "and that only you may impersonate"
)
ANSWER_WITHIN = 60.0  # seconds until deprecate_images has recorded a word


@dataclass(frozen=True)
class MailProof:
    """How a person proves on Google Cloud who that is: by a service account, or a file with a token."""

    impersonate: str = ""
    token_file: Path | None = None


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
            when(each.asked),
            when(each.deadline),
            ", ".join(approval.by for approval in each.approvals) or "none yet",
        )
        for each in shown
    ]
    print_table(("IMAGE", "CHANNEL", "ASKED", "LAPSES", "APPROVED BY"), rows)


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
    owner, _, image = name.rpartition("/")
    key = written_id(owner or project, image, channel)
    client = open_client_of(project, bucket)
    asked = client.store.promotion(key)
    if asked is None:
        raise InputError(
            f"no promotion of image {name} to the channel {channel} waits; see: goldsmith images approvals"
        )
    if not asked.is_open:
        raise InputError(asked.text)
    token = _token(audience_of(project, purpose_of(asked, answer)), proof)
    known, recorded = client.answer(asked, answer, reason, token, ANSWER_WITHIN)
    _print_done(known, as_json=as_json)
    if recorded:
        return 0
    complain(f"it is not recorded within {ANSWER_WITHIN:.0f} s; the log of deprecate_images says why")
    return NOT_SUCCEEDED


def _token(audience: str, proof: MailProof) -> str:
    """Return an identity token for an audience. InputError, EnvironmentFault, which never show it."""
    if proof.token_file is not None:
        if proof.impersonate:
            raise InputError("--impersonate and --token-file are two ways to one token; give one")
        return _read_token(proof.token_file)
    command = ["gcloud", "auth", "print-identity-token", f"--audiences={audience}", "--quiet"]
    remedy = _NO_LOGIN
    if proof.impersonate:
        command += [f"--impersonate-service-account={proof.impersonate}", "--include-email"]
        remedy = ""
    try:
        return run_tool(command).strip()
    except ProgramFailed as error:
        raise EnvironmentFault(f"{error}{remedy}") from error


def _read_token(path: Path) -> str:
    try:
        data, _ = read_plain(path, LARGEST_TOKEN + 1)
        token = data.decode("ascii").strip()
    except NoPlainFile as error:
        raise InputError(f"--token-file: {path} is no plain file") from error
    except OSError as error:
        raise InputError(f"--token-file: {path}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise InputError(f"--token-file: {path} holds no identity token") from None
    if not token or len(data) > LARGEST_TOKEN:
        raise InputError(f"--token-file: {path} holds no identity token")
    return token


def _print_done(done: PromotedImage | AskedPromotion, *, as_json: bool) -> None:
    if as_json:
        print_json(asdict(done))
    elif isinstance(done, AskedPromotion):
        say(done.text)
    else:
        what = "is already" if done.already else "is"
        say(f"image {done.project}/{done.source} {what} in the channel {done.channel}, as {done.name}")
        say(f"family {done.family} leads to {done.leads_to}")
