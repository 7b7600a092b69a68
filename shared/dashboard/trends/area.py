"""The page of trends, and its charts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from ..pictures.charts import Chart, Column, bar_chart, line_chart
from ..web.pages import DashboardArea, Page, Parameter
from ..web.schemas import TEXT
from ..web.shapes import schema_of
from ..web.words import instant, lasting, size_text
from .trends import OUTCOMES, TIMED_STATES, TrendsPage, trends_page

_TIMES = (1.0, 60.0, 3600.0, 86_400.0)
_OUTCOME_COLOURS = (2, 0, 3, 1, 7)  # of the stylesheet's classes, as OUTCOMES are


@dataclass(frozen=True)
class DrawnChart:
    """A chart of the page, with what its colours stand for."""

    title: str
    drawn: Markup
    legend: tuple[tuple[int, str], ...] = ()  # number of the colour, and the name


def trend_charts(document: Mapping[str, Any]) -> Sequence[DrawnChart]:
    """Return the charts of what trends_page() returns; those without any value are left out."""
    builds, days = document["builds"], document["days"]
    charts = [_phases(builds), _sizes(builds), _outcomes(days), _cost(builds)]
    return [chart for chart in charts if chart is not None]


def _phases(builds: Sequence[Mapping[str, Any]]) -> DrawnChart | None:
    known = [build for build in builds if build["phases"]]
    if not known:
        return None
    names = [state.value for state in TIMED_STATES]
    columns = tuple(_column(build, *(build["phases"].get(name) for name in names)) for build in known)
    chart = Chart("chart-phases", "Build time by phase", tuple(names), columns, lasting, units=_TIMES)
    return DrawnChart(chart.title, bar_chart(chart), tuple(enumerate(names)))


def _sizes(builds: Sequence[Mapping[str, Any]]) -> DrawnChart | None:
    made = [build for build in builds if build["image_bytes"] is not None]
    if not made:
        return None
    columns = tuple(_column(build, build["image_bytes"]) for build in made)
    chart = Chart(
        "chart-sizes", "Size of the image, as it is stored", ("image",), columns, lambda size: size_text(int(size))
    )
    return DrawnChart(chart.title, line_chart(chart))


def _outcomes(days: Sequence[Mapping[str, Any]]) -> DrawnChart | None:
    if not days:
        return None
    names = [outcome.value for outcome in OUTCOMES]
    columns = tuple(Column(day["day"], tuple(day["outcomes"].get(name) for name in names)) for day in days)
    shown = tuple(name.replace("_", " ") for name in names)
    chart = Chart("chart-outcomes", "Outcomes by day", shown, columns, _count, _OUTCOME_COLOURS)
    return DrawnChart(chart.title, bar_chart(chart), tuple(zip(_OUTCOME_COLOURS, shown, strict=True)))


def _cost(builds: Sequence[Mapping[str, Any]]) -> DrawnChart | None:
    known = [build for build in builds if build["dollars"] is not None]
    if not known:
        return None
    columns = tuple(_column(build, build["dollars"]) for build in known)
    chart = Chart("chart-cost", "Cost of each build, at list prices", ("cost",), columns, dollars_text, (4,))
    return DrawnChart(chart.title, bar_chart(chart))


def dollars_text(dollars: float | None) -> str:
    """Return dollars for people, with cents, and with more digits where those are few: $0.0132."""
    if dollars is None:
        return ""
    return f"${dollars:,.2f}" if dollars >= 1 or dollars == 0 else f"${dollars:.4f}".rstrip("0")


def _column(build: Mapping[str, Any], *values: float | None) -> Column:
    return Column(build["id"], values, instant(build["ended"])[:16])


def _count(number: float) -> str:
    return f"{number:g}"


TRENDS = DashboardArea(
    name="trends",
    title="Trends",
    pages=(
        Page(
            path="/trends",
            summary="Phases, outcomes, images and cost of the newest builds",
            query=trends_page,
            template="trends.html",
            schema=schema_of(TrendsPage),
            parameters=(Parameter("family", "the family whose builds alone are shown", TEXT),),
        ),
    ),
)
