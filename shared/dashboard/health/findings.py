"""What a check of health is, and what it has found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

MOST_FINDINGS = 50  # findings of a check that are listed


@dataclass(frozen=True)
class HealthFinding:
    """One thing that needs a person."""

    what: str
    why: str
    command: str = ""  # that mends it, or shows more; ""
    href: str = ""  # its page; "" where it has none


@dataclass(frozen=True)
class HealthCheck:
    """What was looked for, and what was found."""

    id: str
    title: str
    count: int | None = 0  # None: it is not known from here
    findings: tuple[HealthFinding, ...] = ()  # the first ones
    unknown: str = ""  # why it is not known, or not all of it
    command: str = ""  # that tells where it is not known, or mends all findings; ""
    meaning: str = ""  # what such a finding is, and what comes of it
    seen: float | None = None  # Unix seconds, when it was looked for; None: just now
    more: int = 0  # findings that are not listed


def with_findings(check: HealthCheck, found: Sequence[HealthFinding], count: int | None = None) -> HealthCheck:
    """Return a check with what was found, of which there are `count`, or as many as are given."""
    whole = len(found) if count is None else count
    listed = tuple(found[:MOST_FINDINGS])
    command = check.command if whole else ""
    return replace(check, count=whole, findings=listed, more=max(0, whole - len(listed)), command=command)


def unknown_check(check: HealthCheck, why: str) -> HealthCheck:
    """Return a check that could not be made."""
    return replace(check, count=None, findings=(), unknown=why, more=0)
