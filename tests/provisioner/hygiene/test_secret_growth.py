"""The time for a file is linear in its length, whatever its contents."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import pytest

from provisioner.hygiene.rules import HYGIENE_RULES
from provisioner.hygiene.secret_shapes import KEY_SHAPES, TOKENS, find_secret

SHORT, DOUBLINGS = 8 << 10, 4
LINEAR, SQUARE = 2**DOUBLINGS, 4**DOUBLINGS  # how many times as long the longest input may take, and must not
LEAST = 0.0005  # seconds: less is too short to be measured

HOSTILE = {
    "headers that begin keys": b"Aa: -----BEGIN PRIVATE KEY-----\n",
    "keys with the same header": b"-----BEGIN PRIVATE KEY-----\nAa: x\n",
    "headers with spaces": b"-----BEGIN PRIVATE KEY-----\n" + b"Aa: x         \n" * 5,
    "words before a key": b"-----BEGIN A A A A ",
    "keys without an end": b"-----BEGIN PRIVATE KEY-----",
    "keys and spaces": b"-----BEGIN PRIVATE KEY-----" + b" " * 19,
    "keys in JSON in JSON": b"-----BEGIN PRIVATE KEY-----" + b"\\\\\\\\n" * 19,
    "a registry's passwords": b'"auths""auth": "',
    "names without values": b"aws_secret_access_key ",
    "names with spaces": b"password" + b" " * 8,
    "values that are no secrets": b"token=a1" + b"a1B2" * 60 + b"\\ ",
    "values without an end": b'secret="',
    "URLs in URLs": b"://a:",
    "long users": b"://" + b"a" * 64,
    "long passwords": b"://a:" + b"b" * 200,
    "wireless keys": b"psk=",
    "first parts of a web token": b"eyJ" + b"a" * 400,
    "two parts of a web token": b" eyJ" + b"a" * 400 + b".eyJ" + b"a" * 4000,
    "many parts of a web token": b"eyJaaaaaaaaaa.",
    "comments of XML": b"<!--",
    "one letter": b"A",
    "spaces": b" ",
    "lines": b"\n",
    "quotes": b'"',
    "colons": b"a: ",
    "backslashes": b"\\",
}
PIECES = {
    **HOSTILE,
    **{
        f"letters of {letters!r}": letters for letters in (*(key[0] for key in KEY_SHAPES), *(one[0] for one in TOKENS))
    },
}


def cost(look: Callable[[bytes], object], piece: bytes, length: int) -> float:
    """Return the seconds of CPU time for a file that repeats `piece`: the smaller of two measurements."""
    data = (piece * (length // len(piece) + 1))[:length]
    took = []
    for _round in range(2):
        began = time.thread_time()
        look(data)
        took.append(time.thread_time() - began)
    return max(min(took), LEAST)


def growth(look: Callable[[bytes], object], piece: bytes) -> float:
    """Return by how many times the cost grows for a file that is 2**DOUBLINGS times as long."""
    return cost(look, piece, SHORT << DOUBLINGS) / cost(look, piece, SHORT)


@pytest.mark.parametrize("piece", PIECES)
def test_shapes_of_secrets_take_linear_time(piece: str) -> None:
    """Also with text before and behind: the repeated piece begins a match, or ends one."""
    assert growth(find_secret, PIECES[piece]) < 3 * LINEAR < SQUARE
    assert growth(lambda data: find_secret(b"-----BEGIN PRIVATE KEY-----" + data), PIECES[piece]) < 3 * LINEAR


@pytest.mark.parametrize("piece", HOSTILE)
def test_rules_on_contents_take_linear_time(piece: str) -> None:
    holders = [rule.holds for rule in HYGIENE_RULES if rule.holds is not None]
    assert growth(lambda data: [holds(data) for holds in holders], HOSTILE[piece]) < 3 * LINEAR


def test_the_measure_sees_what_is_superlinear() -> None:
    """The example is a search that starts again at each position and goes to the end."""
    assert growth(lambda data: re.search(rb"A*B", data[: len(data) // 4]), b"A") > 3 * LINEAR
