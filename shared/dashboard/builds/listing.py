"""The list of builds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from urllib.parse import urlencode

from ...build.build import Build
from ...build.damage import Damaged, damaged_json
from ...build.resources import kept_disk_json
from ...errors import InputError
from ...planning.line import Wait, waits_of
from ..web.pages import API_PATH, PageDocument
from ..web.served import Served

LIMIT = 50
MOST_LISTED = 500
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
    rows = [listed_build(build, waits, served) for build in shown]
    return {
        "builds": rows,
        "next": f"{API_PATH}/builds?{following}" if following else None,
        "digest": _digest(rows),
    }


def _digest(rows: Sequence[PageDocument]) -> str:
    """Return a digest of what a list shows, but for what time alone changes."""
    lasting = [{**row, "took": None} for row in rows]
    return hashlib.sha256(json.dumps(lasting, sort_keys=True).encode()).hexdigest()[:32]


def listed_build(build: Build | Damaged, waits: Mapping[str, Wait], served: Served) -> PageDocument:
    """Return what the list shows of a build."""
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
    return shown, following, waits_for(served, shown)


def summary_of(build: Build | Damaged, waits: Mapping[str, Wait]) -> PageDocument:
    """Return what a list says of a build."""
    if isinstance(build, Damaged):
        return dict.fromkeys(SHOWN) | damaged_json(build)
    image = {"image": asdict(build.image) if build.image is not None else None}
    return {key: getattr(build, key) for key in SHOWN} | image | wait_key(build.id, waits) | kept_disk_key(build)


def waits_for(served: Served, builds: Iterable[Build | Damaged]) -> Mapping[str, Wait]:
    """Return what those that are queued wait for, by id."""
    return waits_of(builds, served.backend.store, served.backend.family_concurrency)


def kept_disk_key(build: Build | Damaged) -> PageDocument:
    """Return the boot disk that is kept, as the key that no other build has."""
    kept = kept_disk_json(build) if isinstance(build, Build) else None
    return {"kept_disk": kept} if kept is not None else {}


def wait_key(build_id: str, waits: Mapping[str, Wait]) -> PageDocument:
    """Return what a queued build waits for, as the key that no other one has."""
    return {"wait": asdict(waits[build_id])} if build_id in waits else {}


def _limit(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 6 and 1 <= int(text) <= MOST_LISTED):
        raise InputError(f"limit: {text[:20]!r} is no number of builds; write 1 to {MOST_LISTED}")
    return int(text)
