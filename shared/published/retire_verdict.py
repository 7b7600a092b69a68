"""Which images of a family go away by rule, and which stay and why. Pure; retirement.py acts on it.

published ──► OBSOLETE ──► a day, at least ──► a second look ──► deleted
    │ no new use is possible         │ used, or wanted after all
    └── kept, with the reason ◄──────┘
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from ..build.build import ImageDocument
from ..build.damage import Damaged
from ..build.image.retire_rules import RetireRule
from ..quantities import format_duration

SECOND_LOOK = 24 * 3600.0  # seconds between the mark OBSOLETE and the deletion, at least

RetireAction = Literal["keep", "obsolete", "wait", "delete"]


@dataclass(frozen=True)
class RetireVerdict:
    """What is to be done with an image, and why."""

    project: str
    name: str
    family: str
    action: RetireAction
    why: str
    blind: bool = False  # kept for the one reason that something could not be read


@dataclass(frozen=True)
class RetireFacts:
    """What is known of an image of a family that has a rule."""

    project: str
    name: str
    id: str
    family: str
    created: float  # Unix seconds
    is_obsolete: bool
    known: ImageDocument | Damaged | None  # in the store
    top: str = ""  # why it is among those that the family needs; "": it is not
    used: str = ""  # what uses it; "": nothing does
    blind: str = ""  # why it is not known what uses it; "": it is


def retire_verdict(facts: RetireFacts, rule: RetireRule, now: float) -> RetireVerdict:
    """Return what is to be done with an image."""
    action, why = _decide(facts, rule, now)
    blind = action == "keep" and bool(facts.blind) and why.startswith(facts.blind)
    return RetireVerdict(facts.project, facts.name, facts.family, action, why, blind)


def _decide(facts: RetireFacts, rule: RetireRule, now: float) -> tuple[RetireAction, str]:
    known = facts.known
    if why := not_ours(facts):
        return "keep", why
    if facts.top:
        return "keep", facts.top
    age = now - facts.created
    if age < rule.older_than:
        return "keep", f"it is younger than {format_duration(rule.older_than)}"
    assert isinstance(known, ImageDocument)
    retired = known.retired
    if retired is not None and retired.obsolete and (retired.left or not facts.is_obsolete):
        return "keep", f"it was made active again after Goldsmith had made it OBSOLETE at {_time(retired.obsolete)}"
    if facts.blind or facts.used:
        marked = retired is not None and retired.obsolete and facts.is_obsolete
        return "keep", (facts.blind or f"in use by {facts.used}") + ("; it stays OBSOLETE" if marked else "")
    if retired is None or not retired.obsolete:
        return "obsolete", f"it is {format_duration(age)} old, and nothing uses it"
    due = retired.obsolete + SECOND_LOOK
    if now < due:
        return "wait", f"OBSOLETE since {_time(retired.obsolete)}; deleted after {_time(due)} unless something uses it"
    return "delete", f"OBSOLETE since {_time(retired.obsolete)}, and nothing uses it"


def not_ours(facts: RetireFacts) -> str:
    """Return why an image is none that a build of ours has published; "" for one that is."""
    known = facts.known
    if isinstance(known, Damaged):
        return "what is known of it cannot be read"
    if known is None or known.id != facts.id:
        return "Goldsmith has no record that it made it"
    if known.state != "published":
        return f"its build {known.build_id} has not published it"
    return ""


def _time(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%SZ}"
