"""expire_builds: each minute, time passes for every build that is not finished, and orphans are swept up.

So it does for promotions that wait for approval.
"""

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
    from shared.published.approval import lapse_promotions
    from shared.upkeep.expiry import expire_builds as expire

    log.set_build("")
    backend = INSTANCE.backend()
    passed = expire(backend, backend.settings.project)
    return json_answer({**asdict(passed), "lapsed": lapse_promotions(backend)})
