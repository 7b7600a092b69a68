"""Builds: the list, and one build."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any
from urllib.parse import urlencode

from ...build.build import Build
from ...build.damage import Damaged, damaged_json
from ...build.events import to_json
from ...build.resources import kept_disk_json
from ...engine.script_table import nest_scripts, scripts_of
from ...errors import InputError, NotFound
from ...planning.line import Wait, waits_of
from ...published.retirement_report import NONE_YET
from ..web.pages import API_PATH, DashboardArea, Page, PageDocument, Parameter
from ..web.schemas import ANY_OBJECT, COUNT, FLAG, MAYBE_NUMBER, MAYBE_TEXT, TEXT, listing, record
from ..web.served import Served

LIMIT = 50
MOST = 500
SHOWN = ("id", "name", "state", "outcome", "reason", "warnings", "attempt", "created", "updated", "deadline", "image")


_OF_DAMAGED: PageDocument = {
    "warnings": [],
    "attempt": 0,
    "interrupted": False,
    "family": None,
    "steps": 0,
    "done": 0,
    "doing": "",
    "took": None,
}


def builds_page(served: Served, arguments: Mapping[str, str]) -> PageDocument:
    """Return a page of the builds, newest first."""
    shown, following, waits = _listed(served, arguments)
    rows = [_row(build, waits, served) for build in shown]
    return {"builds": rows, "next": f"{API_PATH}/builds?{following}" if following else None}


def one_build(served: Served, _arguments: Mapping[str, str], build_id: str) -> PageDocument:
    """Return one build. NotFound, DamagedDocument."""
    build = served.backend.store.load(build_id).build
    whole = nest_scripts(to_json(build), scripts_of(build, served.backend.store))
    return {"build": whole, **_row(build, _waits(served, [build]), served)}


def _row(build: Build | Damaged, waits: Mapping[str, Wait], served: Served) -> PageDocument:
    row = summary_of(build, waits)
    if isinstance(build, Damaged):
        return row | _OF_DAMAGED
    steps = build.all_steps
    return {
        **row,
        "interrupted": served.is_interrupted(build),
        "family": build.plan.image.family if build.plan is not None else None,
        "steps": len(steps),
        "done": sum(step.status == "done" for step in steps),
        "doing": next((step.name for step in steps if step.status == "running"), ""),
        "took": (build.updated if build.ended else max(served.backend.clock.now(), build.updated)) - build.created,
    }


def plain_builds(served: Served, arguments: Mapping[str, str]) -> PageDocument:
    """Return a page of the builds as programs have read it from the page's own address since the first release."""
    shown, following, waits = _listed(served, arguments)
    rows = [summary_of(build, waits) for build in shown]
    return {"builds": rows, "next": f"/builds?{following}" if following else None}


def _listed(served: Served, arguments: Mapping[str, str]) -> tuple[Sequence[Build | Damaged], str, Mapping[str, Wait]]:
    """Return a page of builds, the arguments of the following one, and what those in the queue wait for."""
    limit, before = _limit(arguments.get("limit", str(LIMIT))), arguments.get("before", "")
    found = served.backend.store.builds(limit=limit + 1, before=before)
    shown = found[:limit]
    following = urlencode({"limit": limit, "before": shown[-1].id}) if found[limit:] else ""
    return shown, following, _waits(served, shown)


def plain_build(served: Served, _arguments: Mapping[str, str], build_id: str) -> PageDocument:
    """Return one build as its document stands, with the scripts of elements below their steps."""
    store = served.backend.store
    build = store.load(build_id).build
    whole = nest_scripts(to_json(build), scripts_of(build, store))
    return whole | _wait(build.id, _waits(served, [build])) | _kept_disk(build)


def retirement(served: Served, _arguments: Mapping[str, str]) -> PageDocument:
    """Return the report of the last run of retire_images. NotFound."""
    if not served.retirement:
        raise NotFound(NONE_YET)
    try:
        report: PageDocument = json.loads(served.backend.bucket.read(served.retirement))
    except NotFound as error:
        raise NotFound(NONE_YET) from error
    return report


def summary_of(build: Build | Damaged, waits: Mapping[str, Wait]) -> PageDocument:
    """Return what a list says of a build."""
    document = damaged_json(build) if isinstance(build, Damaged) else to_json(build)
    return {key: document.get(key) for key in SHOWN} | _wait(build.id, waits) | _kept_disk(build)


def _waits(served: Served, builds: Any) -> Mapping[str, Wait]:
    return waits_of(builds, served.backend.store, served.backend.family_concurrency)


def _kept_disk(build: Build | Damaged) -> PageDocument:
    """Return the boot disk that is kept, as the key that no other build has."""
    kept = kept_disk_json(build) if isinstance(build, Build) else None
    return {"kept_disk": kept} if kept is not None else {}


def _wait(build_id: str, waits: Mapping[str, Wait]) -> PageDocument:
    """Return what a queued build waits for, as the key that no other one has."""
    return {"wait": asdict(waits[build_id])} if build_id in waits else {}


def _limit(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 6 and 1 <= int(text) <= MOST):
        raise InputError(f"limit: {text[:20]!r} is no number of builds; write 1 to {MOST}")
    return int(text)


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

_LIMIT = Parameter("limit", "builds of a page", {"type": "integer", "minimum": 1, "maximum": MOST, "default": LIMIT})
_BEFORE = Parameter("before", "the id of the build that the page follows", TEXT)
_BUILD = Parameter("build_id", "the build's id", TEXT, "path")

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
            template="builds.html",
            schema=record(builds=listing(_ROW), next=MAYBE_TEXT),
            parameters=(_LIMIT, _BEFORE),
        ),
        Page(
            path="/builds/<build_id>",
            summary="One build",
            query=one_build,
            plain=plain_build,
            template="build.html",
            schema={"allOf": [_ROW, record(build=ANY_OBJECT)]},
            parameters=(_BUILD,),
        ),
        Page(
            path="/retirement",
            summary="What the last run has done with old images",
            query=retirement,
            template="retirement.html",
            schema=ANY_OBJECT,
        ),
    ),
)
