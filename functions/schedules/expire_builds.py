"""expire_builds: each minute, time passes for every build that is not finished, and orphans are swept up."""

from __future__ import annotations

from dataclasses import asdict

import functions_framework

from .. import log
from ..handling import INSTANCE, HttpAnswer, HttpRequest, json_answer, refuse_method


@functions_framework.http
def expire_builds(request: HttpRequest) -> HttpAnswer:
    """Answer Cloud Scheduler's POST with what was done, as JSON."""
    if request.method != "POST":
        return refuse_method(request, "POST")
    from shared.upkeep.expiry import expire_builds as expire

    log.set_build("")
    backend = INSTANCE.backend()
    return json_answer(asdict(expire(backend, backend.settings.project)))
