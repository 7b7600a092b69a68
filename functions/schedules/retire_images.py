"""retire_images: by schedule, old images of the families that the deployment names go away, in two phases."""

from __future__ import annotations

import functions_framework

from .. import log
from ..handling import INSTANCE, HttpAnswer, HttpRequest, json_answer, refuse_method

AT_ONCE = 8  # images that are acted on at the same time


@functions_framework.http
def retire_images(request: HttpRequest) -> HttpAnswer:
    """Answer Cloud Scheduler's POST with how many images were looked at, marked and deleted, as JSON."""
    if request.method != "POST":
        return refuse_method(request, "POST")
    from shared.published.retirement import Retiring
    from shared.published.retirement_report import run_retirement
    from shared.topology import RETIREMENT_REPORT

    log.set_build("")
    backend = INSTANCE.backend()
    settings = backend.settings
    limits = settings.limits
    if not limits.retire_images:
        return json_answer({"images": 0})
    consumers = tuple(dict.fromkeys((settings.project, *limits.consumers)))
    retiring = Retiring(settings.project, limits.retire_images, consumers, backend.image_users, AT_ONCE)
    return json_answer(run_retirement(retiring, backend, f"gs://{settings.bucket}/{RETIREMENT_REPORT}"))
