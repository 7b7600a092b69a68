"""Cloud Scheduler: calls functions and publishes requests, each minute as schedules say, or when a test wants it."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from shared.errors import Transient
from shared.ports import Message
from shared.topology import REQUESTS_TOPIC, SCHEDULES, Schedule, function

from .courier import ACKNOWLEDGED, post
from .cron import Cron
from .router import Token
from .topics import PubSub

LOG = logging.getLogger(__name__)

MINUTE = 60.0
AT_ONCE = 4


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
