"""The list of builds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from urllib.parse import urlencode

from ...build.build import ANNOUNCED, Build, Outcome, State
from ...build.damage import Damaged, damaged_json
from ...build.resources import kept_disk_json
from ...build_search import BuildFilter
from ...errors import InputError
from ...planning.line import Wait, waits_of
from ..web.pages import API_PATH, PageDocument
from ..web.served import Served

LIMIT = 50
MOST_LISTED = 500
LONGEST_TEXT = 200  # characters of what is looked for
FILTERS = ("text", "state", "outcome", "name", "family", "since", "until")
ACTIVE = "active"  # all states in which a build is at work
IN_PROGRESS = tuple(each for each in State if each not in (State.QUEUED, *ANNOUNCED))
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
        "filter": {name: arguments.get(name, "") for name in FILTERS},
        "filtered": any(arguments.get(name) for name in FILTERS),
        "states": [str(each) for each in State],
        "outcomes": [str(each) for each in Outcome],
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
    wanted, store = build_filter(arguments), served.backend.store
    shown: Sequence[Build | Damaged]
    if wanted == BuildFilter():
        found = store.builds(limit=limit + 1, before=before)
        shown, after = found[:limit], found[limit - 1].id if found[limit:] else ""
    else:
        page = store.find_builds(wanted, limit=limit, before=before)
        shown, after = page.builds, page.after
    kept = {name: arguments[name] for name in FILTERS if arguments.get(name)}
    following = urlencode({**kept, "limit": limit, "before": after}) if after else ""
    return shown, following, waits_for(served, shown)


def build_filter(arguments: Mapping[str, str]) -> BuildFilter:
    """Read what is looked for. InputError."""
    texts = {name: arguments.get(name, "") for name in FILTERS}
    for name, text in texts.items():
        if len(text) > LONGEST_TEXT:
            raise InputError(f"{name}: {len(text)} characters; write at most {LONGEST_TEXT}")
    state, outcome = texts["state"], texts["outcome"]
    if state and state not in (ACTIVE, *State):
        raise InputError(f"state: {state[:40]!r} is no state; write {ACTIVE} or one of {', '.join(State)}")
    if outcome and outcome not in list(Outcome):
        raise InputError(f"outcome: {outcome[:40]!r} is no outcome; write one of {', '.join(Outcome)}")
    states = tuple(map(str, IN_PROGRESS)) if state == ACTIVE else tuple(filter(None, [state]))
    since, until = (_time(name, texts[name]) for name in ("since", "until"))
    return BuildFilter(states, outcome, texts["name"], texts["family"], since, until, texts["text"].strip())


def _time(name: str, text: str) -> float:
    """Return a day of UTC, or a number of seconds, in Unix seconds; 0 for none."""
    if not text:
        return 0.0
    if text.isascii() and text.isdecimal() and len(text) < 12:
        return float(text)
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()
    except ValueError as error:
        raise InputError(f"{name}: {text[:20]!r} is no day; write YYYY-MM-DD, or Unix seconds") from error


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
