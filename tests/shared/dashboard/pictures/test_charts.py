"""Charts: bars as long as their values, lines that end where nothing is known, and axes with round numbers."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.dashboard.pictures.charts import MOST_COLUMNS, Chart, Column, bar_chart, line_chart, ticks

SVG = "{http://www.w3.org/2000/svg}"
VALUES = st.none() | st.floats(0, 1e15, allow_subnormal=False)


def chart(*columns: tuple[float | None, ...], series: tuple[str, ...] = ("steps", "export")) -> Chart:
    named = tuple(Column(f"build {number}", values) for number, values in enumerate(columns))
    return Chart("times", "Build time", series, named, lambda value: f"{value:.0f} s")


@given(st.lists(st.tuples(VALUES, VALUES), max_size=150))
def test_any_values_stay_within_the_picture(columns: list[tuple[float | None, float | None]]) -> None:
    for drawn in (bar_chart(chart(*columns)), line_chart(chart(*columns))):
        for rect in ElementTree.fromstring(drawn).iter(f"{SVG}rect"):
            top, height = float(rect.get("y") or 0), float(rect.get("height") or 0)
            assert 11 <= top <= top + height <= 215
    assert bar_chart(chart(*columns)).count("<rect") <= 2 * MOST_COLUMNS


def test_bars_stand_on_each_other() -> None:
    read = ElementTree.fromstring(bar_chart(chart((30, 10), (20, None))))
    bars = [
        (each.get("class"), float(each.get("y") or 0), float(each.get("height") or 0))
        for each in read.iter(f"{SVG}rect")
    ]
    assert [name for name, _, _ in bars] == ["bar s0", "bar s1", "bar s0"]
    first, second, alone = bars
    assert first[2] == pytest.approx(3 * second[2], abs=0.3)
    assert second[1] + second[2] == pytest.approx(first[1], abs=0.2)
    assert alone[2] == pytest.approx(2 * second[2], abs=0.3)


def test_a_line_is_broken_where_nothing_is_known() -> None:
    read = ElementTree.fromstring(line_chart(chart((1,), (2,), (None,), (3,), series=("MB",))))
    assert len(list(read.iter(f"{SVG}path"))) == 2
    assert len(list(read.iter(f"{SVG}circle"))) == 3


def test_what_is_drawn_is_told_as_well() -> None:
    read = ElementTree.fromstring(bar_chart(chart((30, 10), (20, None))))
    assert "build 1: steps 20 s" in (read.find(f"{SVG}desc").text or "")  # type: ignore[union-attr]  # it has one
    assert "build 0: steps 30 s, export 10 s" in [each.text for each in read.iter(f"{SVG}title")]


@pytest.mark.parametrize(
    ("most", "names"),
    [
        (70.0, ["0", "20", "40", "60", "80"]),
        (400.0, ["0", "120", "240", "360", "480"]),
        (9000.0, ["0", "3600", "7200", "10800"]),
    ],
)
def test_an_axis_of_times_counts_in_minutes_and_hours(most: float, names: list[str]) -> None:
    known = Chart("c", "Time", ("a",), (Column("x", (most,)),), lambda value: f"{value:.0f}", units=(1.0, 60.0, 3600.0))
    read = ElementTree.fromstring(bar_chart(known))
    assert [each.text for each in read.iter(f"{SVG}text")][: len(names)] == names


@given(st.floats(1e-6, 1e15))
def test_axes_have_few_and_round_numbers(most: float) -> None:
    found = ticks(most)
    assert found[0] == 0
    assert found[-1] >= most * 0.999999
    assert found[-2] < most
    assert 3 <= len(found) <= 6


@pytest.mark.parametrize("nothing", [0.0, -1.0, float("inf"), float("nan")])
def test_no_values_have_an_axis_too(nothing: float) -> None:
    assert ticks(nothing) == [0.0, 1.0]
