"""expire_builds: each minute, time passes for every build that is not finished, and orphans are swept up.

So it does for promotions that wait for approval. What needs a person is written down for the dashboard.
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
    from shared.topology import UPKEEP_REPORT
    from shared.upkeep.expiry import expire_builds as expire
    from shared.upkeep.upkeep_report import tell_upkeep

    log.set_build("")
    backend = INSTANCE.backend()
    passed = expire(backend, backend.settings.project)
    lapsed = lapse_promotions(backend)
    tell_upkeep(passed, backend.backlogs, f"gs://{backend.settings.bucket}/{UPKEEP_REPORT}", backend)
    return json_answer({**asdict(passed), "lapsed": lapsed})
