"""Go's flag package: every form of a flag, its values, and a model of its rules for random command lines."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.spec.cloudbuild.go_flags import Kind, Parsed, go_bool, go_duration, go_int, parse_flags

FLAGS = {
    "s": Kind.TEXT,
    "long-name": Kind.TEXT,
    "b": Kind.SWITCH,
    "n": Kind.NUMBER,
    "d": Kind.DURATION,
    "m": Kind.PAIRS,
    "l": Kind.LIST,
}


def last(parsed: Parsed) -> dict[str, Any]:
    return {name: uses[-1].value for name, uses in parsed.uses.items()}


@pytest.mark.parametrize(
    ("line", "values", "rest"),
    [
        ("-s=x", {"s": "x"}, 1),
        ("--s=x", {"s": "x"}, 1),
        ("-s x", {"s": "x"}, 2),
        ("--s x", {"s": "x"}, 2),
        ("-s=", {"s": ""}, 1),
        ("-s=a=b", {"s": "a=b"}, 1),
        ("-s -b", {"s": "-b"}, 2),
        ("-s -- -b", {"s": "--", "b": True}, 3),
        ("--long-name=x -s=y -s=z", {"long-name": "x", "s": "z"}, 3),
        ("-b", {"b": True}, 1),
        ("-b=false", {"b": False}, 1),
        ("-b=T -b=0", {"b": False}, 2),
        ("-b false -s=x", {"b": True}, 1),
        ("-b -- -s=x", {"b": True}, 2),
        ("x -b", {}, 0),
        ("- -b", {}, 0),
        ("-b  -s=x", {"b": True}, 1),
        ("-n=0x10 -d 1h", {"n": 16, "d": Fraction(3600)}, 3),
        ("-m=a=1,b=2,a=3", {"m": {"a": "3", "b": "2"}}, 1),
        ("-l=a,,b", {"l": ("a", "", "b")}, 1),
    ],
)
def test_forms(line: str, values: dict[str, Any], rest: int) -> None:
    parsed = parse_flags(line.split(" "), 0, FLAGS)
    assert (last(parsed), parsed.rest, parsed.faults) == (values, rest, [])


def test_all_faults_of_a_line_are_found() -> None:
    parsed = parse_flags(["-x=1", "-y", "v", "-b=x", "--=1", "-n=1.5", "-m=a", "-s"], 0, FLAGS)
    assert [(fault.flag, fault.argument) for fault in parsed.faults] == [
        ("x", 0),
        ("y", 1),
        ("b", 3),
        ("", 4),
        ("n", 5),
        ("m", 6),
        ("s", 7),
    ]
    assert parsed.uses == {}


def test_number_of_items_is_bounded() -> None:
    half = ",".join(["a=1"] * 500)
    assert parse_flags([f"-l={half}", f"-l={half}"], 0, FLAGS).faults == []
    (fault,) = parse_flags([f"-l={half}", f"-l={half},x"], 0, FLAGS).faults
    assert (fault.argument, fault.text) == (1, "has more than 1000 items; write less")


@pytest.mark.parametrize("text", ["---s=1", "--=1", "-=1", "----", "--=", "---"])
def test_what_is_not_written_as_a_flag(text: str) -> None:
    (fault,) = parse_flags([text], 0, FLAGS).faults
    assert (fault.flag, fault.text) == ("", f"{text!r} is not written as a flag is; write -FLAG=VALUE")


def test_booleans() -> None:
    assert all(go_bool(text) for text in ("1", "t", "T", "TRUE", "true", "True"))
    assert not any(go_bool(text) for text in ("0", "f", "F", "FALSE", "false", "False"))
    for text in ("", "yes", "tRUE", "2"):
        with pytest.raises(ValueError, match="neither true nor false"):
            go_bool(text)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("-0", 0),
        ("+12", 12),
        ("010", 8),
        ("0o17", 15),
        ("0O1_7", 15),
        ("0_7", 7),
        ("0xFf", 255),
        ("-0b101", -5),
        ("1_000", 1000),
        ("0x_1", 1),
        (str((1 << 63) - 1), (1 << 63) - 1),
        (str(-(1 << 63)), -(1 << 63)),
    ],
)
def test_whole_numbers(text: str, number: int) -> None:
    assert go_int(text) == number


@pytest.mark.parametrize(
    "text", ["", "-", "1.0", "1e3", "08", "1__0", "_1", "1_", "0x", "٣", " 1", str(1 << 63), "9" * 5000]
)
def test_no_whole_numbers(text: str) -> None:
    with pytest.raises(ValueError, match=r"; write "):
        go_int(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", "0"),
        ("+0", "0"),
        ("1h30m", "5400"),
        ("1.5h", "5400"),
        (".5s", "1/2"),
        ("1.s", "1"),
        ("90s", "90"),
        ("1m1m", "120"),
        ("-1h", "-3600"),
        ("250ms", "1/4"),
        ("1us", "1/1000000"),
        ("1\u00b5s", "1/1000000"),
        ("1\u03bcs", "1/1000000"),
        ("1ns", "1/1000000000"),
    ],
)
def test_durations(text: str, seconds: str) -> None:
    assert go_duration(text) == Fraction(seconds)


@pytest.mark.parametrize(
    "text", ["", "-", "90", "1d", "1 h", "h", ".s", "1h 30m", "1H", "--1h", "1e3s", "3000000h", "9" * 5000 + "h"]
)
def test_no_durations(text: str) -> None:
    with pytest.raises(ValueError, match=r"; write "):
        go_duration(text)


WORDS = st.one_of(
    st.sampled_from(
        ["-s", "--s", "-s=1", "--b=T", "-b", "-b=x", "-n", "-n=7", "-n=x", "--", "-", "x", "", "--z", "-z=1"]
    ),
    st.text(alphabet="-=sbnz1", max_size=5),
)


def model(words: list[str]) -> tuple[dict[str, Any], int] | None:
    """Go's rules, as its documentation and source have them, for the flags s, b and n; None where it stops."""
    values: dict[str, Any] = {}
    place = 0
    while place < len(words):
        word = words[place]
        if not word.startswith("-") or word == "-":
            break
        place += 1
        if word == "--":
            break
        name, equals, value = word[1:].removeprefix("-").partition("=")
        if name not in ("s", "b", "n") or (name == "b" and equals and value not in ("1", "T")):
            return None
        if name == "b":
            values["b"] = True
            continue
        if not equals:
            if place == len(words):
                return None
            value, place = words[place], place + 1
        if name == "n" and not re.fullmatch("7|-?1+", value):
            return None
        values[name] = int(value) if name == "n" else value
    return values, place


@settings(max_examples=400)
@given(st.lists(WORDS, max_size=6))
def test_random_lines_follow_the_model(words: list[str]) -> None:
    parsed = parse_flags(words, 0, {name: FLAGS[name] for name in ("s", "b", "n")})
    expected = model(words)
    if expected is None:
        assert parsed.faults
    else:
        assert (last(parsed), parsed.rest, parsed.faults) == (*expected, [])
