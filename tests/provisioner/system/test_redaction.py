"""No output shows a hidden text, however it is written and wherever a piece of output ends."""

from __future__ import annotations

import base64
import json
import subprocess
import tracemalloc
import urllib.parse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.system.redaction import HIDDEN, MOST_HELD, Redactor, held_names, hidden_forms, hold_any, sought_forms

VALUE = b"it's/a+b c\xc3\xa9?9\xff\xfe"
PEM = b"-----BEGIN PRIVATE KEY-----\n" + b"MIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n" * 3 + b"-----END PRIVATE KEY-----"


def redacted(value: bytes, *pieces: bytes) -> bytes:
    redactor = Redactor(hidden_forms(value))
    return b"".join([*map(redactor.feed, pieces), redactor.rest()])


def in_a_shell(program: str, value: bytes) -> bytes:
    """Return what a program prints that has the value in its environment."""
    done = subprocess.run(
        ["bash", "-c", program],
        env={b"PATH": b"/usr/bin:/bin", b"LC_ALL": b"C.UTF-8", b"VALUE": value},
        capture_output=True,
        check=True,
    )
    return done.stdout + done.stderr


PROGRAMS = [
    'printf "<%s>" "$VALUE"',
    'printf "<%s>" "$VALUE" | fold -w 3',
    'echo "$VALUE" | base64',
    'printf "ab%s" "$VALUE$VALUE" | base64 -w 7',
    'printf "user:%s" "$VALUE" | base64 | tr +/ -_',
    'set -x; : "$VALUE"',
    'LC_ALL=C; set -x; : "$VALUE"',
    'printf "%q" "$VALUE"',
    "declare -p VALUE",
    "dash -c 'export -p'",
    "python3 -c 'import os; print(os.environ, os.environb)'",
    "python3 -c 'import json, os; print(json.dumps(dict(os.environ)))'",
    'python3 -c \'import os, urllib.parse as u; v = os.environb[bytes.fromhex("56414c5545")]; '
    'print(u.quote(v), u.quote(v, safe=""), u.quote_plus(v))\'',
]


@pytest.mark.parametrize("value", [VALUE, PEM, b"tok-0123456789", b'a"b\\c\td%20x', b"a$b`c\"d!e{f}, g's"])
@pytest.mark.parametrize("program", PROGRAMS)
def test_programs_that_print_it_show_nothing(program: str, value: bytes) -> None:
    printed = in_a_shell(program, value)
    shown = redacted(value, printed)
    assert HIDDEN in shown
    for form in (
        value,
        base64.b64encode(value)[:12],
        urllib.parse.quote(value).encode(),
        json.dumps(value.decode("latin-1"))[1:-1].encode(),
    ):
        assert form not in shown.translate(None, b"\r\n"), shown


@given(st.binary(min_size=8, max_size=40), st.binary(max_size=30), st.integers(0, 2), st.data())
def test_pieces_do_not_matter(value: bytes, around: bytes, form: int, data: st.DataObject) -> None:
    if not value.strip(b"\r\n"):
        return
    written = [value, base64.b64encode(around + value + around), base64.encodebytes(value)][form]
    whole = around + written + around
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=5)))
    pieces = [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    shown = redacted(value, *pieces)
    assert shown == redacted(value, whole)
    assert (
        value.translate(None, b"\r\n") not in shown.replace(HIDDEN, b"\0").translate(None, b"\r\n") or HIDDEN in value
    )


@given(st.lists(st.sampled_from([b"a", b"b", b"ab", b"aab", b"\n", b"aabaab", b"x"]), max_size=30))
def test_texts_that_overlap_are_hidden_whole(pieces: list[bytes]) -> None:
    redactor = Redactor([b"aabaa", b"baab"])
    shown = b"".join([*map(redactor.feed, pieces), redactor.rest()]).translate(None, b"\n")
    assert shown == redactor.hide(b"".join(pieces)).translate(None, b"\n")
    assert b"aabaa" not in shown
    assert b"baab" not in shown


def test_a_line_of_a_key_is_hidden_by_itself() -> None:
    assert redacted(PEM, b"key: MIIEvQIBADANBgkqhkiG9w0BAQEFAASC.\n") == b"key: (hidden).\n"
    assert redacted(PEM, b"nothing of it\n") == b"nothing of it\n"


def test_what_waits_for_the_rest_of_a_text_is_bounded() -> None:
    redactor = Redactor([b"abc"])
    shown = b"".join(redactor.feed(piece) for piece in [b"a", *[b"\n" * 65536] * 20])
    assert len(shown) >= 20 * 65536 - MOST_HELD


def test_a_text_that_repeats_itself_takes_little_memory() -> None:
    redactor = Redactor(hidden_forms(b"aaaaaaaa"))
    tracemalloc.start()
    try:
        assert redactor.hide(b"a" * (1 << 18)) == HIDDEN
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_a_file_is_read_once_for_all_values() -> None:
    sought = {name: sought_forms(value) for name, value in (("A", b"value of a"), ("B", b"value of b"), ("C", PEM))}
    pieces = iter([b"x value", b" of b, and ", PEM[:40], PEM[40:]])
    assert held_names(pieces, sought) == ["B", "C"]
    assert held_names([], sought) == held_names([b"x"], {}) == []


def test_files_are_searched_across_pieces_and_line_breaks() -> None:
    forms = sought_forms(PEM)
    assert hold_any([b"x" * 10 + PEM[:40], PEM[40:] + b"y"], forms)
    assert hold_any([base64.encodebytes(b"." + PEM)], forms)
    assert hold_any([b"MIIEvQIBADANBgkqhki", b"G9w0BAQEFAASC"], forms)
    assert not hold_any([b"-----BEGIN PRIVATE KEY-----\n", b"other"], forms)
    assert not hold_any([b"MIIEvQIBADANBgkqhki", b"\0", b"G9w0BAQEFAASC"], forms)
