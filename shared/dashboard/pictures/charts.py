"""Draw values over builds or days: bars of several parts, and lines. The vertical axis begins at zero."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from .svg import element, label, picture

WIDTH, HEIGHT = 560.0, 240.0
MOST_COLUMNS = 100
_LEFT, _RIGHT, _TOP, _BOTTOM = 64.0, 12.0, 12.0, 26.0
_TICKS = 4


@dataclass(frozen=True)
class Column:
    """The values at one place of the horizontal axis, one for each series."""

    name: str  # what is there, for people
    values: tuple[float | None, ...]  # None: not known
    place: str = ""  # what the axis has below the first and the last one; "": its name


@dataclass(frozen=True)
class Chart:
    """What is drawn: columns from left to right, the oldest first."""

    id: str  # within its page
    title: str
    series: tuple[str, ...]  # their names; class s0, s1 ... of the stylesheet
    columns: tuple[Column, ...]
    unit: Callable[[float], str]  # a value for people
    colours: tuple[int, ...] = ()  # numbers of those classes; (): one after the other
    units: tuple[float, ...] = (1.0,)  # in which the axis counts, in the largest one that fits twice

    def colour(self, index: int) -> str:
        """Return the class of a series."""
        return f"s{self.colours[index] if self.colours else index}"


def bar_chart(chart: Chart) -> Markup:
    """Return a picture in which the values of a column stand on each other."""
    columns = chart.columns[-MOST_COLUMNS:]
    top = _axis(chart, max((sum(value or 0.0 for value in column.values) for column in columns), default=0.0))
    width = _room() / max(len(columns), 1)
    drawn = []
    for number, column in enumerate(columns):
        reached = 0.0
        parts = [element("title", _told(chart, column))]
        for index, value in enumerate(column.values):
            if not value or value < 0:
                continue
            y, below = _y(reached + value, top), _y(reached, top)
            x, wide = _LEFT + number * width, min(width * 0.8, 40.0)
            x += (width - wide) / 2
            parts.append(element("rect", x=x, y=y, width=wide, height=below - y, class_=f"bar {chart.colour(index)}"))
            reached += value
        drawn.append(element("g", *parts))
    return _picture(chart, columns, top, drawn)


def line_chart(chart: Chart) -> Markup:
    """Return a picture with a line for each series; it is broken where a value is not known."""
    columns = chart.columns[-MOST_COLUMNS:]
    top = _axis(chart, max((value for column in columns for value in column.values if value is not None), default=0.0))
    width = _room() / max(len(columns), 1)
    drawn = []
    for index in range(len(chart.series)):
        for run in _runs([column.values[index] for column in columns]):
            points = [(_LEFT + (number + 0.5) * width, _y(value, top)) for number, value in run]
            path = "M" + " L".join(f"{x:.1f} {y:.1f}" for x, y in points)
            drawn.append(element("path", d=path, class_=f"trend {chart.colour(index)}"))
            for (number, _), (x, y) in zip(run, points, strict=True):
                told = element("title", _told(chart, columns[number]))
                drawn.append(element("circle", told, cx=x, cy=y, r=3.0, class_=f"dot {chart.colour(index)}"))
    return _picture(chart, columns, top, drawn)


def ticks(most: float) -> list[float]:
    """Return round values from 0 up to the first that is `most` or more; [0, 1] for nothing."""
    if not 0 < most < math.inf:
        return [0.0, 1.0]
    rough = most / _TICKS
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * unit for factor in (1.0, 2.0, 5.0, 10.0) if factor * unit >= rough * 0.999999)
    count = math.ceil(most / step - 1e-9)
    return [number * step for number in range(count + 1)]


def _axis(chart: Chart, most: float) -> list[float]:
    unit = max((each for each in chart.units if 2 * each <= most), default=1.0)
    return [tick * unit for tick in ticks(most / unit)]


def _room() -> float:
    return WIDTH - _LEFT - _RIGHT


def _y(value: float, axis: Sequence[float]) -> float:
    share = min(max(value / axis[-1], 0.0), 1.0)
    return HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM)


def _picture(chart: Chart, columns: Sequence[Column], axis: Sequence[float], drawn: Sequence[Markup]) -> Markup:
    grid = []
    for value in axis:
        y = _y(value, axis)
        grid.append(element("line", x1=_LEFT, y1=y, x2=WIDTH - _RIGHT, y2=y, class_="grid"))
        grid.append(label(chart.unit(value), _LEFT - 6, y + 4, _LEFT - 8, "label axis", "end"))
    ends = []
    if columns:
        ends.append(label(columns[0].place or columns[0].name, _LEFT, HEIGHT - 8, _room() / 2, "label axis"))
    if len(columns) > 1:
        ends.append(
            label(columns[-1].place or columns[-1].name, WIDTH - _RIGHT, HEIGHT - 8, _room() / 2, "label axis", "end")
        )
    newest = _told(chart, columns[-1]) if columns else "nothing yet"
    told = f"{len(columns)} columns, the newest: {newest}. The table has all of them."
    return picture(chart.id, chart.title, told, (WIDTH, HEIGHT), *grid, *drawn, *ends)


def _told(chart: Chart, column: Column) -> str:
    pairs = zip(chart.series, column.values, strict=True)
    values = ", ".join(f"{name} {chart.unit(value)}" for name, value in pairs if value is not None)
    return f"{column.name}: {values or 'not known'}"


def _runs(values: Sequence[float | None]) -> list[list[tuple[int, float]]]:
    """Return the values that follow each other without a gap, each with its place."""
    runs: list[list[tuple[int, float]]] = [[]]
    for number, value in enumerate(values):
        if value is not None:
            runs[-1].append((number, value))
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]
