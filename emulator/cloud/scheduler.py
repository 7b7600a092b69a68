"""Cloud Scheduler: calls functions and publishes requests, each minute as schedules say, or when a test wants it."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from shared.errors import Transient
from shared.ports import Message
from shared.topology import REQUESTS_TOPIC, SCHEDULES, Schedule, function

from ..pubsub.courier import ACKNOWLEDGED, post
from ..pubsub.router import Token
from ..pubsub.topics import PubSub

LOG = logging.getLogger(__name__)

MINUTE = 60.0
AT_ONCE = 4
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
        """Return whether it is due in the minute of a moment, in Unix seconds."""
        time = datetime.fromtimestamp(moment, UTC)
        day, weekday = time.day in self._days, time.isoweekday() % 7 in self._weekdays
        on_this_day = (
            day or weekday if self._either_day else day and weekday
        )  # as in cron: if both fields are set, either one is enough
        return time.minute in self._minutes and time.hour in self._hours and time.month in self._months and on_this_day


@dataclass(frozen=True)
class _Job:
    cron: Cron
    run: Callable[[], None]


class Scheduler:
    """Runs from start() to close(). Schedules of functions are topology.py's; rebuilds are added."""

    def __init__(self, pubsub: PubSub, urls: Mapping[str, str], token: Token) -> None:
        self._pubsub = pubsub
        self._urls = urls
        self._token = token
        self._jobs = {each.name: _Job(Cron(each.cron), self._calling(each)) for each in SCHEDULES}
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="schedule")
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._keep_time, name="scheduler", daemon=True)

    def start(self) -> None:
        """Let real minutes pass."""
        self._thread.start()

    def add_rebuild(self, name: str, cron: str, request: Mapping[str, Any]) -> None:
        """Publish a request to build-requests when `cron` says so. ValueError for a cron that is none."""
        message = Message(REQUESTS_TOPIC, json.dumps(request).encode(), {})

        def publish() -> None:
            self._pubsub.publish(message)

        self._jobs = {**self._jobs, name: _Job(Cron(cron), publish)}

    def step(self, name: str) -> None:
        """Do now, and to its end, what a schedule does. KeyError; Transient when the function does not succeed."""
        self._jobs[name].run()

    def close(self) -> None:
        """Begin nothing more; what is under way ends with its function."""
        self._closed.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _calling(self, schedule: Schedule) -> Callable[[], None]:
        def call() -> None:
            url = self._urls[schedule.function]
            headers = {"Authorization": f"Bearer {self._token(url)}", "User-Agent": "Google-Cloud-Scheduler"}
            status = post(f"{url}/", headers, b"", function(schedule.function).timeout)
            if status not in ACKNOWLEDGED:
                raise Transient(
                    f"schedule {schedule.name}: {schedule.function} answers {status or 'nothing'}; see its log"
                )

        return call

    def _keep_time(self) -> None:
        while True:
            now = time.time()
            due = now - now % MINUTE + MINUTE
            if self._closed.wait(due - now):
                return
            for name, job in self._jobs.items():
                if job.cron.is_due(due):
                    self._pool.submit(job.run).add_done_callback(lambda done, name=name: _note(name, done))  # type: ignore[misc]


def _note(name: str, done: Future[None]) -> None:
    if not done.cancelled() and (fault := done.exception()):
        LOG.warning("schedule %s: %s", name, fault)


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
