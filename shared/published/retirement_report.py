"""One scheduled run of retirement, and its report: what was done with each image, what stays, and why.

The report is one object of the bucket, which the dashboard shows. It has the numbers of all, and so many images.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from ..backend import Backend
from ..build.image.retire_rules import RetireRule
from ..errors import NotFound, StoreError
from ..json_values import reader
from .retirement import RetireDone, Retiring, retire_images

LOG = logging.getLogger(__name__)

SECONDS = 420.0  # in which something is begun, within the nine minutes that the function has
MOST_TOLD = 2000  # images in a report
NONE_YET = "no image goes away by rule: retire_images of the deployment is empty, or has not run"


@dataclass(frozen=True)
class RetirementReport:
    """What a run has done, as its report tells it."""

    time: float  # Unix seconds, when it began
    images: int
    rules: dict[str, RetireRule]
    consumers: tuple[str, ...]
    told: tuple[RetireDone, ...]  # of so many images


def read_report(report: str, backend: Backend) -> RetirementReport:
    """Return the report of the last run. NotFound without one; StoreError for one that cannot be read."""
    try:
        data = backend.bucket.read(report)
    except NotFound as error:
        raise NotFound(NONE_YET) from error
    try:
        document = json.loads(data)
        told = [{"verdict": each, "fault": each["fault"]} for each in document["told"]]
        found: RetirementReport = reader(RetirementReport)({**document, "told": told})
    except (ValueError, RecursionError, TypeError, KeyError) as error:
        raise StoreError(
            f"{report} cannot be read: {error!s:.200}; the next run of retire_images writes it anew"
        ) from error
    return found


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
