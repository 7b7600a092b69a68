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
from collections.abc import Callable, Iterator
from typing import Any

from flask import Response, current_app, request

from ...errors import GoldsmithError
from .pages import json_response

LOG = logging.getLogger(__name__)

RETRY = 2000  # milliseconds after which a reader connects again
SILENCE = 10.0  # seconds without an event, after which a comment shows whether the reader is still there
LONGEST_ID = 400  # characters of Last-Event-ID

StreamEvent = tuple[str, str, Any]
"""The name of an event, its id, and its data, which becomes JSON."""


class StreamSlots:
    """How many streams an application may answer at once."""

    def __init__(self, most: int) -> None:
        self._free = threading.BoundedSemaphore(most)

    def take(self) -> bool:
        """Return whether there was a free one, which the caller has now."""
        return self._free.acquire(blocking=False)

    def release(self) -> None:
        """Return a slot that was taken."""
        self._free.release()


def last_event_id() -> str:
    """Return where the reader stands: what its browser says, or its address; "" where it begins."""
    return (request.headers.get("Last-Event-ID") or request.args.get("last", ""))[:LONGEST_ID]


def event_stream(look: Callable[[], tuple[list[StreamEvent], bool]], pause: float, seconds: float) -> Response:
    """Return an answer with the events that a caller finds at each look, until it says that nothing will follow."""
    slots: StreamSlots = current_app.extensions["goldsmith-streams"]
    if not slots.take():
        answer = json_response({"error": "too many live views are open; this one is refreshed less often"}, 503)
        answer.headers["Retry-After"] = "15"
        return answer
    answer = Response(_events(look, pause, seconds), mimetype="text/event-stream")
    answer.headers["X-Accel-Buffering"] = "no"
    answer.call_on_close(slots.release)
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
