"""The area of builds: its pages, its live views, and what they answer."""

from __future__ import annotations

import json
from collections.abc import Mapping

from ...build.build import Outcome, State
from ...build.events import to_json
from ...engine.script_table import nest_scripts, scripts_of
from ...errors import NotFound
from ...published.retirement_report import NONE_YET
from ..web.pages import DashboardArea, Operation, Page, PageDocument, Parameter, Schema
from ..web.schemas import ANY_OBJECT, COUNT, FLAG, MAYBE_NUMBER, MAYBE_TEXT, TEXT, listing, record
from ..web.served import Served
from .console import log_page, whole_log
from .detail import one_build
from .listing import ACTIVE, LIMIT, MOST_LISTED, builds_page, kept_disk_key, plain_builds, wait_key, waits_for
from .live import live_build, live_builds


def plain_build(served: Served, _arguments: Mapping[str, str], build_id: str) -> PageDocument:
    """Return one build as its document stands, with the scripts of elements below their steps."""
    store = served.backend.store
    build = store.load(build_id).build
    whole = nest_scripts(to_json(build), scripts_of(build, store))
    return whole | wait_key(build.id, waits_for(served, [build])) | kept_disk_key(build)


def retirement(served: Served, _arguments: Mapping[str, str]) -> PageDocument:
    """Return the report of the last run of retire_images. NotFound."""
    if not served.retirement:
        raise NotFound(NONE_YET)
    try:
        report: PageDocument = json.loads(served.backend.bucket.read(served.retirement))
    except NotFound as error:
        raise NotFound(NONE_YET) from error
    return report


_ROW = record(
    ("wait", "kept_disk"),
    id=TEXT,
    name=MAYBE_TEXT,
    state=TEXT,
    outcome=MAYBE_TEXT,
    reason=MAYBE_TEXT,
    warnings=listing(TEXT),
    attempt=COUNT,
    created=MAYBE_NUMBER,
    updated=MAYBE_NUMBER,
    deadline=MAYBE_NUMBER,
    image={"type": ["object", "null"]},
    interrupted=FLAG,
    family=MAYBE_TEXT,
    steps=COUNT,
    done=COUNT,
    doing=TEXT,
    took=MAYBE_NUMBER,
    wait=record(place=COUNT, running=COUNT, maker=TEXT, of_family=COUNT),
    kept_disk=ANY_OBJECT,
)

_LIMIT = Parameter(
    "limit", "builds of a page", {"type": "integer", "minimum": 1, "maximum": MOST_LISTED, "default": LIMIT}
)
_BEFORE = Parameter("before", "the id of the build that the page follows", TEXT)
_BUILD = Parameter("build_id", "the build's id", TEXT, "path")

_DAY = "as YYYY-MM-DD in UTC, or in Unix seconds"
_FILTERS = (
    Parameter("text", "in the id, the spec's name, the image, its family or the reason", TEXT),
    Parameter(
        "state", "a state, or `active` for all in which a build is at work", {"enum": ["", ACTIVE, *map(str, State)]}
    ),
    Parameter("outcome", "how it ended", {"enum": ["", *map(str, Outcome)]}),
    Parameter("name", "the spec's name", TEXT),
    Parameter("family", "the family of its image", TEXT),
    Parameter("since", f"requested then or later, {_DAY}", TEXT),
    Parameter("until", f"requested before, {_DAY}", TEXT),
)
_MACHINE = Parameter("machine", "the name of one of its VMs", TEXT)
_START = Parameter(
    "start", "bytes of the console that are left out; without it, its end", {"type": "integer", "minimum": 0}
)
_LAST = Parameter("last", "where a reader stands, if it sends no Last-Event-ID", TEXT)

_LINES = listing(listing({"type": "array", "items": TEXT, "minItems": 2, "maxItems": 2}))
_LOG: dict[str, Schema] = {
    "machine": TEXT,
    "machines": listing(record(name=TEXT, title=TEXT)),
    "start": COUNT,
    "next": COUNT,
    "lines": _LINES,
    "problem": TEXT,
}
_DETAIL = record(
    build=ANY_OBJECT,
    ended=FLAG,
    failure={"type": ["object", "null"]},
    remedies=listing(record(text=TEXT, commands=listing(TEXT))),
    timeline={"type": ["object", "null"]},
    cached=COUNT,
    log=record(**_LOG),
    ledger=listing(ANY_OBJECT),
    events=listing(record(id=TEXT, time=MAYBE_NUMBER, kind=TEXT, text=TEXT)),
    more_events=FLAG,
    position=TEXT,
)
_EVENTS: dict[int, tuple[str, Schema]] = {200: ("text/event-stream", {}), 503: ("application/json", record(error=TEXT))}

AREA = DashboardArea(
    name="builds",
    title="Builds",
    pages=(
        Page(
            path="/builds",
            also=("/",),
            summary="Builds, newest first",
            query=builds_page,
            plain=plain_builds,
            template="builds/builds.html",
            schema=record(
                builds=listing(_ROW),
                next=MAYBE_TEXT,
                digest=TEXT,
                filter=ANY_OBJECT,
                filtered=FLAG,
                states=listing(TEXT),
                outcomes=listing(TEXT),
            ),
            parameters=(_LIMIT, _BEFORE, *_FILTERS),
        ),
        Page(
            path="/builds/<build_id>",
            summary="One build",
            query=one_build,
            plain=plain_build,
            template="builds/build.html",
            schema={"allOf": [_ROW, _DETAIL]},
            parameters=(_BUILD, _MACHINE, _START),
        ),
        Page(
            path="/builds/<build_id>/log",
            summary="The console of a VM of a build",
            query=log_page,
            template="builds/log.html",
            schema=record(**_LOG, id=TEXT, ended=FLAG),
            parameters=(_BUILD, _MACHINE, _START),
        ),
        Page(
            path="/retirement",
            summary="What the last run has done with old images",
            query=retirement,
            template="builds/retirement.html",
            schema=ANY_OBJECT,
        ),
    ),
    operations=(
        Operation(
            path="/api/builds/<build_id>/log.txt",
            summary="The whole console of a VM of a build, as plain text",
            view=whole_log,
            answers={200: ("text/plain", TEXT)},
            parameters=(_BUILD, _MACHINE),
        ),
        Operation(
            path="/api/live/builds",
            summary="Server-sent events: a page of the list has changed",
            view=live_builds,
            answers=_EVENTS,
            parameters=(_LIMIT, _BEFORE, *_FILTERS, _LAST),
        ),
        Operation(
            path="/api/live/builds/<build_id>",
            summary="Server-sent events: a build has changed, and lines of its log",
            view=live_build,
            answers=_EVENTS,
            parameters=(_BUILD, _LAST),
        ),
    ),
)
