"""What templates call things: times, sizes and states, as people read them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from flask import Flask, request
from markupsafe import Markup

from .pages import areas_here
from .served import Served

TONES = {
    "succeeded": "good",
    "done": "good",
    "published": "good",
    "active": "good",
    "failed": "bad",
    "damaged": "bad",
    "timed_out": "bad",
    "revoked": "bad",
    "refused": "bad",
    "OBSOLETE": "bad",
    "cancelled": "still",
    "unchanged": "still",
    "waiting": "still",
    "queued": "wait",
    "held": "wait",
    "interrupted": "wait",
    "cut off": "wait",
    "kept": "wait",
    "DEPRECATED": "wait",
    "running": "live",
    "accepted": "live",
}
"""The colour of a word: good, bad, wait (a person has something to do), still, or live."""

_STATES = ("preparing", "provisioning", "exporting", "verifying", "publishing", "cleaning")
_STEPS = ((60.0, 1.0, "s"), (3600.0, 60.0, "min"), (86400.0, 3600.0, "h"), (float("inf"), 86400.0, "d"))


def add_words(app: Flask, served: Served) -> None:
    """Add the filters and globals of templates to an application."""
    now: Callable[[], float] = served.backend.clock.now
    app.jinja_env.filters.update(
        took=lasting,
        size=size_text,
        words=in_words,
        tone=tone_of,
        moment=lambda seconds: moment(seconds, now()),
        instant=instant,
    )
    app.context_processor(lambda: _globals(served))


def _globals(served: Served) -> dict[str, Any]:
    area = request.blueprint or ""
    return {"place": served.place, "areas": [each for each in areas_here() if each.title], "area": area}


def tone_of(word: str | None) -> str:
    """Return the colour of a state, an outcome or a status."""
    return "live" if word in _STATES else TONES.get(word or "", "still")


def in_words(word: str | None) -> str:
    """Return a name of code as people write it: timed out."""
    return (word or "").replace("_", " ")


def lasting(seconds: float | None) -> str:
    """Return a length of time in two units at most: 3 min 20 s."""
    if seconds is None:
        return ""
    if seconds < 9.95 and not (seconds >= 1 and seconds == int(seconds)):
        return f"{max(seconds, 0.0):.1f} s"
    whole = round(seconds)
    days, hours, minutes, rest = whole // 86400, whole // 3600 % 24, whole // 60 % 60, whole % 60
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")]
    first = next((index for index, (count, _) in enumerate(parts) if count), 3)
    return " ".join(f"{count} {unit}" for count, unit in parts[first : first + 2] if count)


def size_text(count: int | None) -> str:
    """Return bytes as people read them: 1.2 GB."""
    if count is None:
        return ""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if abs(value) < 999.5:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 99.5 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def instant(seconds: float | None) -> str:
    """Return a time in UTC: 2026-11-20 13:05:11Z; "" for none, and for one that no calendar has."""
    if not seconds:
        return ""
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%SZ}"
    except (OverflowError, ValueError, OSError):
        return ""


def moment(seconds: float | None, now: float) -> Markup:
    """Return a time relative to now, with the time itself for machines and for a pointer."""
    shown = instant(seconds)
    if seconds is None or not shown:
        return Markup("")
    iso = shown.replace(" ", "T")
    return Markup('<time datetime="{}" title="{}">{}</time>').format(iso, shown, _relative(seconds - now))


def _relative(ahead: float) -> str:
    away = abs(ahead)
    if away < 45:
        return "just now" if ahead <= 0 else "in a moment"
    unit, name = next((unit, name) for most, unit, name in _STEPS if away < most * 0.995)
    count = max(1, round(away / unit))
    return f"in {count} {name}" if ahead > 0 else f"{count} {name} ago"
