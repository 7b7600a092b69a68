"""Times and paces in words, for people; programs get Unix seconds and ISO 8601."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

_UNITS = ((86400.0, "day"), (3600.0, "hour"), (60.0, "minute"), (1.0, "second"))
TIMES = frozenset(
    (
        *("accepted", "asked", "begun", "committed", "created", "deadline", "deletes_at", "disk_asked", "disk_until"),
        *("ended", "expires", "finished", "kept_until", "last_seen", "made", "obsolete", "paused", "removed"),
        *("requested", "since", "time", "turn", "until", "updated", "used", "wake_at", "withdrawing"),
    )
)
"""Keys of documents for programs whose floating-point values are Unix seconds."""
NOW = 1.0  # seconds within which something is now
FIRST_PACE = 1.0  # seconds of work before which its pace is a guess
LONGEST = 1e12  # seconds; no calendar has more


def took(seconds: float) -> str:
    """Return a length of time: 4.2 s, 1 min 23 s, 2 h 05 min, 3 d 4 h."""
    seconds = min(max(seconds, 0.0), LONGEST)
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def ago(then: float, now: float) -> str:
    """Return when something was, or will be: 3 minutes ago, in 2 hours, now; never for what no calendar has."""
    away = now - then
    if not -LONGEST < away < LONGEST:
        return "never"
    if abs(away) < NOW:
        return "now"
    size, unit = next((size, unit) for size, unit in _UNITS if abs(away) >= size)
    count = int(abs(away) // size)
    words = f"{count} {unit}{'' if count == 1 else 's'}"
    return f"{words} ago" if away > 0 else f"in {words}"


def iso(seconds: float) -> str | None:
    """Return a time as ISO 8601 has it, in UTC: 2026-11-20T13:05:11.250Z. None for what no calendar has."""
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except (OverflowError, ValueError, OSError):
        return None


def with_iso_times(document: Any) -> Any:
    """Return a JSON document, in which each object with times in Unix seconds has them in ISO 8601 as well.

    They are in one more object, `iso_times`, by the same names. What is 0, as of what has not happened, has none.
    """
    if isinstance(document, list | tuple):
        return [with_iso_times(each) for each in document]
    if not isinstance(document, Mapping):
        return document
    values = {key: with_iso_times(value) for key, value in document.items()}
    times = {key: iso(value) for key, value in document.items() if key in TIMES and _is_time(value)}
    return {**values, "iso_times": times} if times else values


def _is_time(value: object) -> bool:
    return isinstance(value, float) and value >= 1.0 and iso(value) is not None


class Pace:
    """How fast one piece of long work goes, told in words."""

    def __init__(self, done: int, now: float) -> None:
        """Begin with what was done before, as of a file of which a part is there already."""
        self._first, self._begun = done, now

    def words(self, done: int, total: int, now: float) -> str:
        """Return percentage, sizes, and once it has gone on for a second its rate and how long it still takes."""
        parts = [
            f"{min(done, total) * 100 // total:3d} %",
            f"{_size(done, total)} of {_size(total, total)} {_unit(total)}",
        ]
        rate = self._rate(done, now)
        if rate > 0 and done < total:
            parts += [f"{_size(rate, rate)} {_unit(rate)}/s", f"{took((total - done) / rate)} left"]
        return "  ".join(parts)

    def _rate(self, done: int, now: float) -> float:
        """Return bytes a second since the beginning; 0 while that is a guess."""
        spent = now - self._begun
        return max(0.0, (done - self._first) / spent) if spent >= FIRST_PACE else 0.0


def _unit(count: float) -> str:
    return "GB" if count >= 1e9 else "MB" if count >= 1e6 else "kB"


def _size(count: float, like: float) -> str:
    """Return a size in the unit of another one, such as the whole of which it is a part."""
    return f"{count / {'GB': 1e9, 'MB': 1e6, 'kB': 1e3}[_unit(like)]:.1f}"
