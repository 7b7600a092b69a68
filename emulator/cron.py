"""When a schedule is due: the five fields of unix-cron, in UTC, as Cloud Scheduler takes them."""

from __future__ import annotations

from datetime import UTC, datetime

FIELDS = (("minute", 0, 59), ("hour", 0, 23), ("day of month", 1, 31), ("month", 1, 12), ("day of week", 0, 7))


class Cron:
    """`*`, `5`, `1-5`, `*/10`, `0-30/10` and lists of them with commas. ValueError for anything else."""

    def __init__(self, text: str) -> None:
        parts = text.split()
        if len(parts) != len(FIELDS):
            raise ValueError(f"schedule {text!r} has {len(parts)} fields; write {len(FIELDS)}, such as 0 3 * * *")
        self._minutes, self._hours, self._days, self._months, weekdays = (
            _values(part, *field) for part, field in zip(parts, FIELDS, strict=True)
        )
        self._weekdays = {day % 7 for day in weekdays}  # 7 is Sunday, as 0 is
        self._either_day = parts[2] != "*" and parts[4] != "*"

    def is_due(self, moment: float) -> bool:
        """Whether it is due in the minute of a moment, in Unix seconds."""
        time = datetime.fromtimestamp(moment, UTC)
        day, weekday = time.day in self._days, time.isoweekday() % 7 in self._weekdays
        on_this_day = day or weekday if self._either_day else day and weekday  # cron's oldest oddity
        return time.minute in self._minutes and time.hour in self._hours and time.month in self._months and on_this_day


def _values(text: str, name: str, least: int, most: int) -> set[int]:
    found: set[int] = set()
    for part in text.split(","):
        span, _, step = part.partition("/")
        first, _, last = (f"{least}-{most}" if span == "*" else span).partition("-")
        numbers = (first, last or (str(most) if step else first), step or "1")
        if not all(number.isdecimal() for number in numbers):
            raise ValueError(f"{part!r} is no {name}; write numbers from {least} to {most}, or *")
        start, end, width = map(int, numbers)
        if not least <= start <= end <= most or width < 1:
            raise ValueError(f"{part!r} is no {name}; write numbers from {least} to {most}, or *")
        found.update(range(start, end + 1, width))
    return found
