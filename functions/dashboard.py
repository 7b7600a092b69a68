"""dashboard: what people may see of builds, as JSON; it changes nothing.

GET /builds?limit=50&before=BUILD    newest first; `next` is the address of the following page
GET /builds/BUILD                    one build, whole, with the scripts of elements below their steps
GET /retirement                      what the last run did with old images: which stay and why, which went

A queued build has its place in `wait`. One that failed in a step has in `kept_disk` the disk that is kept, and how to
boot it. A build that cannot be read is listed with the state "damaged"; to ask for it is answered with 500 and why.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any
from urllib.parse import urlencode

import functions_framework

from shared.build.build import Build
from shared.build.damage import Damaged, damaged_json
from shared.build.events import to_json
from shared.build.resources import kept_disk_json
from shared.engine.script_table import nest_scripts, scripts_of
from shared.errors import DamagedDocument, InputError, NotFound
from shared.planning.line import Wait, waits_of
from shared.ports import Store
from shared.topology import RETIREMENT_REPORT

from . import log
from .handling import INSTANCE, HttpAnswer, HttpRequest, json_answer, refuse_method

LIMIT = 50
MOST = 500
SHOWN = ("id", "name", "state", "outcome", "reason", "warnings", "attempt", "created", "updated", "deadline", "image")


@functions_framework.http
def dashboard(request: HttpRequest) -> HttpAnswer:
    """Answer a GET."""
    if request.method not in ("GET", "HEAD"):
        return refuse_method(request, "GET, HEAD")
    log.set_build("")
    store = INSTANCE.backend().store
    kind, _, build_id = request.path.strip("/").partition("/")
    try:
        if (kind, build_id) == ("retirement", ""):
            return json_answer(_retirement())
        if kind == "builds" and build_id:
            return json_answer(_whole(store.load(build_id).build, store))
        if kind in ("", "builds"):
            return json_answer(_page(store, request.args))
    except NotFound as error:
        return json_answer({"error": str(error)}, 404)
    except InputError as error:
        return json_answer({"error": str(error)}, 400)
    except DamagedDocument as error:
        return json_answer({"error": str(error)}, 500)
    return json_answer({"error": f"{request.path} is nothing here; look at /builds"}, 404)


def _retirement() -> dict[str, Any]:
    """Return the report of the last run of retire_images. NotFound."""
    from shared.published.retirement_report import NONE_YET

    backend = INSTANCE.backend()
    try:
        report: dict[str, Any] = json.loads(backend.bucket.read(f"gs://{backend.settings.bucket}/{RETIREMENT_REPORT}"))
    except NotFound as error:
        raise NotFound(NONE_YET) from error
    return report


def _page(store: Store, arguments: Any) -> dict[str, Any]:
    limit, before = _limit(arguments.get("limit", str(LIMIT))), arguments.get("before", "")
    found = store.builds(limit=limit + 1, before=before)
    shown = found[:limit]
    following = f"/builds?{urlencode({'limit': limit, 'before': shown[-1].id})}" if found[limit:] else None
    waits = waits_of(shown, store, INSTANCE.backend().family_concurrency)
    return {"builds": [_summary(build, waits) for build in shown], "next": following}


def _whole(build: Build, store: Store) -> dict[str, Any]:
    whole = nest_scripts(to_json(build), scripts_of(build, store))
    return whole | _wait(build.id, waits_of([build], store, INSTANCE.backend().family_concurrency)) | _kept_disk(build)


def _kept_disk(build: Build | Damaged) -> dict[str, Any]:
    """Return the boot disk that is kept, as the key that no other build has."""
    kept = kept_disk_json(build) if isinstance(build, Build) else None
    return {"kept_disk": kept} if kept is not None else {}


def _wait(build_id: str, waits: Mapping[str, Wait]) -> dict[str, Any]:
    """Return what a queued build waits for, as the key that no other one has."""
    return {"wait": asdict(waits[build_id])} if build_id in waits else {}


def _limit(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MOST:
        raise InputError(f"limit: {text[:20]!r} is no number of builds; write 1 to {MOST}")
    return int(text)


def _summary(build: Build | Damaged, waits: Mapping[str, Wait]) -> dict[str, Any]:
    document = damaged_json(build) if isinstance(build, Damaged) else to_json(build)
    return {key: document.get(key) for key in SHOWN} | _wait(build.id, waits) | _kept_disk(build)
