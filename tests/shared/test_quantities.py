"""Durations and sizes: what is read, what is refused, and that writing and reading agree."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.quantities import format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("5m", 300), ("1h30m", 5400), ("7d", 604800), ("1d2h3m4s", 93784), ("0s", 0), ("1d4s", 86404)],
)
def test_duration_is_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "90", "s", "1.5h", "-5m", "5 m", "30m1h", "1h1h", "5M", "1w", "9" * 10 + "s", "٣s", "5m\n"]
)
def test_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration; write one such as 90s"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("5000B", 5000),
        ("600K", 600 << 10),
        ("500M", 500 << 20),
        ("10G", 10 << 30),
        ("10GB", 10 << 30),
        ("2GiB", 2 << 30),
        ("1T", 1 << 40),
        ("0B", 0),
    ],
)
def test_size_is_read(text: str, count: int) -> None:
    assert parse_size(text) == count


@pytest.mark.parametrize("text", ["", "10", "G", "1.5G", "-1G", "10 G", "10g", "10BB", "10P", "10G\n", "9" * 16 + "B"])
def test_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size; write a whole number and its unit"):
        parse_size(text)


@given(st.integers(min_value=0, max_value=10**12))
def test_duration_survives_the_round_trip(seconds: int) -> None:
    assert parse_duration(format_duration(seconds)) == seconds


@given(st.integers(min_value=0, max_value=10**14))
def test_size_survives_the_round_trip(count: int) -> None:
    assert parse_size(format_size(count)) == count


def test_largest_unit_that_loses_nothing_is_written() -> None:
    assert [format_size(count) for count in (0, 1, 1 << 20, 3 << 30, (1 << 30) + 1)] == [
        "0B",
        "1B",
        "1M",
        "3G",
        "1073741825B",
    ]
    assert format_duration(5400.9) == "1h30m"
