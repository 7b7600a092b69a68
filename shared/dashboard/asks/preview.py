"""What a person is shown before anything is asked for: what it is about, and what would come of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...build.image.approval import lacking, lacking_here
from ...errors import InputError
from ...ownership import find_build, find_image
from ...people.targets import image_of_target, open_promotion, paused_trigger, seen_now
from ...person_requests import PersonRequestKind
from ..web.served import Served

ASK_TITLES: Mapping[PersonRequestKind, str] = {
    "cancel": "Cancel a build",
    "retry": "Retry a build",
    "resume": "Resume triggers",
    "revoke": "Revoke an image",
    "promote": "Promote an image",
    "approve": "Approve a promotion",
    "refuse": "Refuse a promotion",
}
EFFECTS: Mapping[PersonRequestKind, str] = {
    "cancel": "The build ends as cancelled. Its VM and its disks are deleted, and no image of it is published; what it "
    "keeps for a retry is given up.",
    "retry": "A new build goes on with the phase in which this one has failed, with the image or disk that it keeps. "
    "It is held to the limits as they are now.",
    "resume": "The triggers ask for builds again. What has happened meanwhile is one cause.",
    "revoke": "The image becomes OBSOLETE and is not deleted. Its family and channels lead to the newest good image "
    "before it, and no build starts from it any more. There is no way back.",
    "promote": "A copy of the image joins the channel's family, which then leads to it: at once, or when the approvers "
    "of the channel have said yes.",
    "approve": "Your yes is recorded with your address and your reason. When there are enough, the image comes into "
    "the channel at once.",
    "refuse": "Your no is recorded with your address and your reason, and the promotion ends.",
}
VERBS: Mapping[PersonRequestKind, str] = {
    "cancel": "Cancel the build",
    "retry": "Retry the build",
    "resume": "Resume the triggers",
    "revoke": "Revoke the image",
    "promote": "Promote the image",
    "approve": "Approve",
    "refuse": "Refuse",
}


@dataclass(frozen=True)
class Preview:
    """What is shown of a target."""

    seen: str
    facts: tuple[tuple[str, Any], ...]  # numbers are times, in Unix seconds
    choices: tuple[str, ...] = ()  # channels of which one has to be chosen first


def preview_of(kind: PersonRequestKind, target: str, channel: str, served: Served) -> Preview:
    """Return what is shown. NotFound, InputError where there is nothing that can be asked for; DamagedDocument."""
    if kind == "promote" and not channel:
        return Preview("", _facts_of_image(target, served), _channels(served))
    seen = seen_now(kind, target, channel, served.backend)
    if kind in ("cancel", "retry"):
        return Preview(seen, _facts_of_build(kind, target, served))
    if kind == "resume":
        known = paused_trigger(target, served.backend)
        facts = (("Spec", known.spec), ("Paused", known.paused), ("Failed in a row", str(known.failures)))
        return Preview(seen, (*facts, ("Author", known.author or "not known")))
    if kind in ("approve", "refuse"):
        return Preview(seen, _facts_of_promotion(target, channel, served))
    where = (("Channel", channel),) if kind == "promote" else ()
    return Preview(seen, (*_facts_of_image(target, served), *where))


def _channels(served: Served) -> tuple[str, ...]:
    found = tuple(served.backend.channels())
    if not found:
        raise InputError("there are no channels here; docs/published-images.md says how they are set up")
    return found


def _facts_of_build(kind: PersonRequestKind, target: str, served: Served) -> tuple[tuple[str, Any], ...]:
    build = find_build(target, served.backend)
    if build is None:
        raise InputError(f"there is no build {target[:100]}")
    if kind == "cancel" and build.finished and not build.kept_until:
        raise InputError(f"build {build.id} is finished already: {build.outcome}")
    if kind == "retry":
        from ...planning.retries import check_retry

        check_retry(build, None)
    plan = build.plan
    return (
        ("Build", build.id),
        ("State", f"{build.state}{f', {build.outcome}' if build.outcome else ''}"),
        ("Attempt", str(build.attempt)),
        ("Requested", build.created),
        *((("Reason", build.reason),) if build.reason else ()),
        *((("Image", f"{plan.image.project}/{plan.image.name}"),) if plan is not None else ()),
        *((("Author", plan.author),) if plan is not None and plan.author else ()),
    )


def _facts_of_image(target: str, served: Served) -> tuple[tuple[str, Any], ...]:
    known = find_image(*image_of_target(target), served.backend)
    if known is None:
        raise InputError(f"there is no published image {target[:200]} of ours")
    revoked = (("Revoked", known.revoked.text),) if known.revoked is not None else ()
    return (
        ("Image", f"{known.project}/{known.name}"),
        ("Id", known.id),
        ("Build", known.build_id),
        ("Verified", "yes" if known.verified else "no"),
        ("Author", known.author or "not known"),
        ("Copies in channels", ", ".join(known.copies) or "none"),
        *((("Approvals that the spec asks for", _by_channel(known.approvals)),) if known.approvals else ()),
        *revoked,
    )


def _by_channel(approvals: Mapping[str, int]) -> str:
    return ", ".join(f"{count} in {channel}" for channel, count in approvals.items())


def _facts_of_promotion(target: str, channel: str, served: Served) -> tuple[tuple[str, Any], ...]:
    backend = served.backend
    asked = open_promotion(*image_of_target(target), channel, backend)
    found = backend.channels().get(channel)
    missing = lacking(asked, found.approvers, backend.people()) if found is not None else 0
    if backend.identities is None:
        missing = lacking_here(asked)
    said = "; ".join(f"{each.by}: {each.reason}" for each in asked.approvals)
    return (
        ("Image", f"{asked.project}/{asked.image}"),
        ("Id", asked.image_id),
        ("Channel", asked.channel),
        ("Author", asked.author or "not known"),
        ("Asked for", asked.asked),
        *((("Asked by", asked.by),) if asked.by else ()),
        ("Approved by", said or "nobody yet"),
        *((("Approvals that the spec asks for", str(asked.at_least)),) if asked.at_least else ()),
        ("Approvals missing", str(missing)),
        ("Lapses", asked.deadline),
    )
