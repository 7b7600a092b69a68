"""Output of guests: colours are kept, and nothing else that steers a terminal or turns the writing around."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.dashboard.builds.ansi import LONGEST_SHOWN, plain_text, terminal_lines


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"plain", [("plain", "")]),
        (b"\x1b[31mred\x1b[0m not", [("red", "ansi-red"), (" not", "")]),
        (
            b"\x1b[1;92mbold\x1b[22m green\x1b[39m none",
            [("bold", "ansi-bold ansi-green"), (" green", "ansi-green"), (" none", "")],
        ),
        (b"\x1b[38;5;1;31mx", [("x", "ansi-red")]),
        (b"\x1b[38;2;1;31;33mx", [("x", "")]),
        (b"\x1b[mx\x1b[2J\x1b[10;3Hy\x1b]0;title\x07z\x1b(Bw", [("x", ""), ("y", ""), ("z", ""), ("w", "")]),
        (b"10%\r60%\r100%\r", [("100%", "")]),
        ("a\u202eb\x00c\td\xa0e".encode(), [("a\ufffdb\ufffdc\td\xa0e", "")]),
        (b"\xff", [("\ufffd", "")]),
        (b"\x1b", []),
        (b"<b>&", [("<b>&", "")]),
    ],
)
def test_a_line(data: bytes, line: list[tuple[str, str]]) -> None:
    assert terminal_lines(data) == [line]


def test_lines_end_at_line_feeds_and_colours_with_their_line() -> None:
    assert terminal_lines(b"\x1b[31ma\r\n\nb") == [[("a", "ansi-red")], [], [("b", "")]]
    assert terminal_lines(b"") == []


def test_a_long_line_is_cut() -> None:
    [line] = terminal_lines(b"\x1b[31m" + b"x" * 5000)
    assert plain_text(line) == "x" * LONGEST_SHOWN + " …"


@given(st.binary(max_size=300))
def test_anything_becomes_harmless_text(data: bytes) -> None:
    for line in terminal_lines(data):
        for text, style in line:
            assert all(letter.isprintable() or letter in "\t\xa0" or letter.isspace() for letter in text)
            assert all(name.startswith("ansi-") for name in style.split())


def test_hostile_sequences_take_no_time() -> None:
    for data in (b"\x1b]" * 50_000, b"\x1b[" + b"0;" * 50_000 + b"m", b"\x1b[31m" * 50_000, b"\r" * 100_000):
        assert len(terminal_lines(data)) == 1
