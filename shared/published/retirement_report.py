"""One scheduled run of retirement, and its report: what was done with each image, what stays, and why.

The report is one object of the bucket, which the dashboard shows. It has the numbers of all, and so many images.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from dataclasses import asdict
from typing import Any

from ..backend import Backend
from .retirement import RetireDone, Retiring, retire_images

LOG = logging.getLogger(__name__)

SECONDS = 420.0  # in which something is begun, within the nine minutes that the function has
MOST_TOLD = 2000  # images in a report


def run_retirement(retiring: Retiring, backend: Backend, report: str) -> dict[str, Any]:
    """Retire images, write the report to a URI and return its numbers. GoldsmithError where nothing can be listed."""
    begun = backend.clock.now()
    numbers: Counter[str] = Counter()
    told: list[dict[str, Any]] = []
    for done in retire_images(retiring, backend, begun + SECONDS):
        numbers["fault" if done.fault else done.verdict.action] += 1
        if len(told) < MOST_TOLD:
            told.append(_told(done))
    summary = {"time": begun, "images": numbers.total(), **{name: numbers[name] for name in _NUMBERS}}
    rules = {family: asdict(rule) for family, rule in retiring.rules.items()}
    whole = {**summary, "rules": rules, "consumers": list(retiring.consumers), "told": told}
    backend.bucket.write(report, json.dumps(whole, indent=1).encode())
    LOG.info("images by rule: %s", ", ".join(f"{name} {number}" for name, number in summary.items() if name != "time"))
    return summary


_NUMBERS = ("keep", "obsolete", "wait", "delete", "fault")


def _told(done: RetireDone) -> dict[str, Any]:
    return {**asdict(done.verdict), "fault": done.fault}
