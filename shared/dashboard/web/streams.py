"""Server-sent events: bounded in number and in time, and resumed by the id of the last one that was read.

A reader connects again by itself when a stream ends, and says by Last-Event-ID where it stands; what has happened
meanwhile comes first. Cloud Run ends every request after a while, and each stream holds a thread: so a stream ends on
its own before, and of too many at once a further one is refused with 503.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from flask import Request, Response, current_app, request

from ...errors import GoldsmithError
from .desk import header_values
from .pages import json_response
from .served import Served

LOG = logging.getLogger(__name__)

RETRY = 2000  # milliseconds after which a reader connects again
SILENCE = 10.0  # seconds without an event, after which a comment shows whether the reader is still there
LONGEST_ID = 400  # characters of Last-Event-ID

StreamEvent = tuple[str, str, Any]
"""The name of an event, its id, and its data, which becomes JSON."""


class StreamSlots:
    """How many streams an application may answer at once, and how many of them to one viewer. Thread-safe."""

    def __init__(self, most: int, each: int, viewer: Callable[[Request], str]) -> None:
        self._most = most
        self._each = each
        self._viewer = viewer
        self._lock = threading.Lock()
        self._taken: Counter[str] = Counter()

    def take(self, asked: Request) -> Callable[[], None] | None:
        """Take one for the viewer that asks; return what gives it back, or None where none is free."""
        viewer = self._viewer(asked)
        with self._lock:
            if self._taken.total() >= self._most or self._taken[viewer] >= self._each:
                return None
            self._taken[viewer] += 1
        return partial(self._give_back, viewer)

    def _give_back(self, viewer: str) -> None:
        with self._lock:
            self._taken[viewer] -= 1
            if not self._taken[viewer]:
                del self._taken[viewer]


def viewer_of(served: Served) -> Callable[[Request], str]:
    """Return what tells viewers apart: by the address that is proved, or else by where a request comes from.

    Cloud Run adds the address of its caller to X-Forwarded-For, behind what the caller has written there.
    """

    def viewer(asked: Request) -> str:
        try:
            by = "" if served.desk is None else served.desk.who(header_values(asked))
        except GoldsmithError:  # the pages say so
            by = ""
        return by or asked.headers.get("X-Forwarded-For", "").rpartition(",")[2].strip() or asked.remote_addr or ""

    return viewer


def last_event_id() -> str:
    """Return where the reader stands: what its browser says, or its address; "" where it begins."""
    return (request.headers.get("Last-Event-ID") or request.args.get("last", ""))[:LONGEST_ID]


def event_stream(look: Callable[[], tuple[list[StreamEvent], bool]], pause: float, seconds: float) -> Response:
    """Return an answer with the events that a caller finds at each look, until it says that nothing will follow."""
    slots: StreamSlots = current_app.extensions["goldsmith-streams"]
    give_back = slots.take(request)
    if give_back is None:
        answer = json_response({"error": "too many live views are open; this one is refreshed less often"}, 503)
        answer.headers["Retry-After"] = "15"
        return answer
    answer = Response(_events(look, pause, seconds), mimetype="text/event-stream")
    answer.headers["X-Accel-Buffering"] = "no"
    answer.call_on_close(give_back)
    return answer


def _events(look: Callable[[], tuple[list[StreamEvent], bool]], pause: float, seconds: float) -> Iterator[str]:
    begun = quiet = time.monotonic()
    yield f"retry: {RETRY}\n\n"
    while True:
        try:
            found, over = look()
        except GoldsmithError as error:  # the reader connects again, and is told it then if it is still so
            LOG.info("a live view ends: %s", error)
            return
        for name, number, data in found:
            quiet = time.monotonic()
            yield f"event: {name}\nid: {number}\ndata: {json.dumps(data)}\n\n"
        now = time.monotonic()
        if over or now - begun >= seconds:
            return
        if now - quiet >= SILENCE:
            quiet = now
            yield ": still here\n\n"
        time.sleep(pause)
