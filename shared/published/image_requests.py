"""Requests for images, which operators publish: {"revoke": {"image": "PROJECT/NAME", "reason": "..."}} and others."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..backend import Backend
from ..build.image.approval import AskedPromotion, PromotionAnswer
from ..build.limits import NO_LIMITS, Limits
from ..errors import DamagedDocument, InputError, Permanent, PoisonMessage
from ..image_users import ImageUsers
from .approval import PersonsWord, answer_promotion, ask_promotion
from .cascade import ask_for_rebuilds
from .distribution_request import DistributedImage, distribute_image
from .promotion import PromotedImage
from .revocation import RevokedImage, revoke_image
from .usage import Consumers, usage_lines, with_usage


@dataclass(frozen=True)
class ImageRequestForm:
    """What one kind of request says of an image."""

    keys: Mapping[str, type]
    required: frozenset[str]
    example: str


_SAID = ImageRequestForm(
    {"image": str, "channel": str, "reason": str, "token": str},
    frozenset(("image", "channel", "reason", "token")),
    '{"approve": {"image": "PROJECT/NAME", "channel": "CHANNEL", "reason": "why", "token": "..."}}, or refuse',
)
IMAGE_REQUESTS = {
    "revoke": ImageRequestForm(
        {"image": str, "reason": str, "alone": bool, "cascade": bool},
        frozenset(("image", "reason")),
        '{"revoke": {"image": "PROJECT/NAME", "reason": "what is wrong with it"}}, and alone: true, cascade: true if '
        "need be",
    ),
    "promote": ImageRequestForm(
        {"image": str, "to": str},
        frozenset(("image", "to")),
        '{"promote": {"image": "PROJECT/NAME", "to": "CHANNEL"}}',
    ),
    "approve": _SAID,
    "refuse": _SAID,
    "distribute": ImageRequestForm(
        {"image": str, "share": list, "copies": list},
        frozenset(("image",)),
        '{"distribute": {"image": "PROJECT/NAME", "share": ["group:..."], "copies": [{"project": "..."}]}}',
    ),
}
_ANSWERS: Mapping[str, PromotionAnswer] = {"approve": "approve", "refuse": "refuse"}
_PROJECT = re.compile(r"[a-z0-9:.-]{0,63}")


ImageAnswer = RevokedImage | PromotedImage | AskedPromotion | DistributedImage


def take_image_request(
    data: bytes,
    project: str,
    backend: Backend,
    limits: Limits = NO_LIMITS,
    *,
    message: str = "",
    users: ImageUsers | None = None,
) -> ImageAnswer:
    """Carry a request out, or go on with it. PoisonMessage for one that is wrong, refused or cannot be ended; Passing.

    An image without a project is one of `project`; `message` is the id of the message that brings the request. What
    uses a revoked image is told where `users` can list that.
    """
    kind, asked = _read(data)
    owner, _, name = asked["image"].rpartition("/")
    if not _PROJECT.fullmatch(owner):
        raise PoisonMessage(f"a request to {kind} an image of {owner[:100]!r}, which is no project")
    try:
        if kind == "promote":
            return ask_promotion(owner or project, name, asked["to"], backend, request=message)
        if (answer := _ANSWERS.get(kind)) is not None:
            word = PersonsWord(asked["reason"], asked["token"])
            return answer_promotion(owner or project, name, asked["channel"], answer, word, backend)
        if kind == "distribute":
            targets = asked.get("share", []), asked.get("copies", [])
            return distribute_image(owner or project, name, *targets, backend, limits)
        revoked = revoke_image(owner or project, name, asked["reason"], backend, alone=asked.get("alone", False))
        if asked.get("cascade", False):
            revoked = ask_for_rebuilds(revoked, backend)
        return revoked if users is None else revoked_with_users(revoked, project, limits, users, backend)
    except InputError as error:
        raise PoisonMessage(f"a request to {kind} an image is refused: {error}") from error
    except (Permanent, DamagedDocument) as error:
        raise PoisonMessage(f"a request to {kind} image {name} cannot be carried out to its end: {error}") from error


def revoked_with_users(
    revoked: RevokedImage, project: str, limits: Limits, users: ImageUsers, backend: Backend
) -> RevokedImage:
    """Return a revocation with what uses the image in the projects of a deployment, which is recorded, too."""
    consumers = Consumers(users, tuple(dict.fromkeys((project, revoked.project, *limits.consumers))))
    return with_usage(revoked, consumers, backend)


def shown_result(done: ImageAnswer) -> str:
    """Return what has come of a request, for the log."""
    if isinstance(done, DistributedImage):
        has, not_to = (", ".join(names) or "none" for names in (done.targets, done.refused))
        return f"image {done.name} of project {done.project} is distributed to: {has}; refused: {not_to}"
    if isinstance(done, AskedPromotion):
        return f"{done.text}; {done.needs}" if done.state == "waiting" else done.text
    if isinstance(done, PromotedImage):
        already = "already " if done.already else ""
        return (
            f"image {done.source} of project {done.project} is {already}in the channel {done.channel}, as {done.name}; "
            f"family {done.family} leads to {done.leads_to}"
        )
    copies = [f"{copy.name}, whose family {copy.family} leads to {copy.leads_to or 'no image'}" for copy in done.copies]
    listed = (done.descendants, done.builds, copies, done.rebuilt)
    built, under_way, taken_along, again = (", ".join(names) or "none" for names in listed)
    used = ["its users are not known"] if done.usage is None else usage_lines(done.usage)
    left = f"; not built again: {'; '.join(done.not_rebuilt)}" if done.not_rebuilt else ""
    return (
        f"image {done.name} of project {done.project} is revoked: {done.reason}; {_family(done)}"
        f"; copies: {taken_along}; built from it: {built}; under way: {under_way}; "
        f"built again: {again}{left}; {'; '.join(used) or 'nothing uses it'}"
    )


def _family(done: RevokedImage) -> str:
    return f"its family {done.family} leads to {done.leads_to or 'no image'}" if done.family else "it is in no family"


def _read(data: bytes) -> tuple[str, dict[str, Any]]:
    """Return the kind of a request, and what it says."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise PoisonMessage(f"a request for images that is not JSON: {error}") from error
    kind = next(iter(document), "") if isinstance(document, dict) and len(document) == 1 else ""
    form, asked = IMAGE_REQUESTS.get(kind), document[kind] if kind else None
    if form is None or not isinstance(asked, dict) or not form.required <= set(asked) <= set(form.keys):
        examples = form.example if form is not None else " or ".join(each.example for each in IMAGE_REQUESTS.values())
        raise PoisonMessage(f"a request for images of another form; write {examples}")
    for key, value in asked.items():
        if not isinstance(value, form.keys[key]):
            raise PoisonMessage(f"a request to {kind} an image whose {key} is no {form.keys[key].__name__}")
    return kind, asked
