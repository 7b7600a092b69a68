"""Live views: a build and the log of its VM, and the list, as server-sent events.

Events say what has changed, and a page reads itself anew; of the log they have the lines. The id of an event is where
its reader stands: of a build the newest recorded event, the VM and how much of its console was read; of the list a
digest of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote, unquote

from flask import Response, request

from ...engine.history import Followed, record_id
from ...errors import InputError
from ..web.served import Served
from ..web.streams import StreamEvent, event_stream, last_event_id
from .console import console_machines, current_machine, read_piece
from .listing import builds_page


def live_build(served: Served, build_id: str) -> Response:
    """Return the changes of a build, and the lines of its log, until it has ended. NotFound, DamagedDocument."""
    view = _BuildView(served, build_id, last_event_id())
    return event_stream(view.look, served.poll, served.stream_seconds)


class _BuildView:
    """What one reader has seen of a build."""

    def __init__(self, served: Served, build_id: str, last: str) -> None:
        event, machine, start = _position(last)
        self._served = served
        known = served.backend.store.recorded(build_id, (event,)) if event else ()
        self._event = event if known else ""  # it may be deleted by now, or one of another build of this id
        self._followed = Followed(served.backend.store, build_id, self._event)
        self._machine = machine if machine in self._machines() else current_machine(self._followed.build)
        self._start = start if machine == self._machine else 0
        self._told = ""

    def _machines(self) -> list[str]:
        return [each.name for each in console_machines(self._followed.build)]

    def look(self) -> tuple[list[StreamEvent], bool]:
        """Return what is new, and whether the build has ended and all of that is told."""
        page = self._followed.look()
        build = self._followed.build
        found: list[StreamEvent] = []
        if page:
            self._event = record_id(page[-1])
            found.append(("build", self._id, {"state": build.state, "outcome": build.outcome, "ended": build.ended}))
        lines = self._lines()
        found += lines
        if build.ended and not page and not lines:
            return [*found, ("end", self._id, {"state": build.state, "outcome": build.outcome, "ended": True})], True
        return found, False

    def _lines(self) -> list[StreamEvent]:
        build = self._followed.build
        newest = current_machine(build)
        if newest != self._machine and not build.ended:
            self._machine, self._start = newest, 0
        if not self._machine:
            return []
        piece = read_piece(self._served, build, self._machine, self._start)
        if not piece.data:
            return []
        self._start = piece.end
        lines = [[list(segment) for segment in line] for line in piece.lines]
        return [("log", self._id, {"machine": self._machine, "start": piece.start, "next": piece.end, "lines": lines})]

    @property
    def _id(self) -> str:
        return live_position(self._event, self._machine, self._start)


def live_position(event: str, machine: str, start: int) -> str:
    """Return the id of an event, or of a page that is then kept up to date."""
    return f"{quote(event, safe='')} {machine} {start}"


def _position(last: str) -> tuple[str, str, int]:
    """Read the id of an event: the newest recorded event, the VM, and the bytes of its console that were read."""
    if not last:
        return "", "", 0
    parts = last.split(" ")
    if len(parts) != 3 or not (parts[2].isascii() and parts[2].isdecimal() and len(parts[2]) < 13):
        raise InputError(f"last: {last[:40]!r} is not the id of an event of this stream; leave it out")
    return unquote(parts[0]), parts[1], int(parts[2])


def live_builds(served: Served) -> Response:
    """Return that a page of the list has changed, as often as it does. InputError, NotFound."""
    arguments: Mapping[str, str] = {name: value for name, value in request.args.items() if name != "last"}
    seen = last_event_id()

    def look() -> tuple[list[StreamEvent], bool]:
        nonlocal seen
        digest = builds_page(served, arguments)["digest"]
        if digest == seen:
            return [], False
        told: list[StreamEvent] = [("builds", digest, {"digest": digest})] if seen else []
        seen = digest
        return told, False

    return event_stream(look, served.list_poll, served.stream_seconds)
