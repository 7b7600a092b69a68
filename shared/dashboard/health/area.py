"""The page of health."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ...json_values import to_document
from ..web.pages import DashboardArea, Page, PageDocument
from ..web.served import Served
from ..web.shapes import schema_of
from .checks import all_checks
from .findings import HealthCheck


@dataclass(frozen=True)
class HealthPage:
    """All checks, and how many findings they have."""

    checks: tuple[HealthCheck, ...]
    findings: int
    unknown: int  # checks that cannot be made from here


def health_page(served: Served, _arguments: Mapping[str, str]) -> PageDocument:
    """Return what needs a person, as it was some seconds ago at most."""
    return served.health.get(lambda: _looked_for(served))


def _looked_for(served: Served) -> PageDocument:
    checks = tuple(sorted(all_checks(served), key=_urgency))
    page = HealthPage(checks, sum(each.count or 0 for each in checks), sum(each.count is None for each in checks))
    document: PageDocument = to_document(page)
    return document


def _urgency(check: HealthCheck) -> int:
    """Order checks: those that have found something, those that are not known, and the others, each as they were."""
    return 0 if check.count else 1 if check.count is None else 2


HEALTH = DashboardArea(
    name="health",
    title="Health",
    pages=(
        Page(
            path="/health",
            summary="What needs a person",
            query=health_page,
            template="health.html",
            schema=schema_of(HealthPage),
        ),
    ),
)
