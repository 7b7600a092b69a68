"""Command lines of disk-image-create as GNU getopt takes them apart.

Options may come before, between and after the elements; `--` ends them. Short ones may be joined (`-ux`, `-aamd64`),
long ones take `=`, and may be shortened as far as they stay unique. Where getopt stops at the first mistake, this goes
on, so that all of them are reported at once.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from ...names import nearest, quoted
from ..cloudbuild.native_draft import Origin
from ..document import Position
from .options import ONLY_SHOW, OPTIONS, PATH_KEY, ImageOrder, LineOption, OrderText

PROGRAMS = ("disk-image-create", "ramdisk-image-create")
_PATH_OPTION = LineOption(PATH_KEY, "--path")  # not of the original: a folder of elements
_BY_FLAG = {each.flag: each for each in (*OPTIONS.values(), _PATH_OPTION)}
_LONG = [flag for flag in (*_BY_FLAG, *ONLY_SHOW) if flag.startswith("--")]


def is_program(word: str) -> bool:
    """Return whether a word runs one of diskimage-builder's programs that make an image."""
    return word.rpartition("/")[2] in PROGRAMS


def placed_words(words: Sequence[str]) -> list[OrderText]:
    """Return words with the places that they have in one line."""
    found, column = [], 1
    for word in words:
        found.append(OrderText(word, Origin(Position(1, column), word)))
        column += len(shlex.quote(word)) + 1
    return found


def read_image_command(words: Sequence[OrderText]) -> ImageOrder:
    """Read a command, whose first word is the program. What is wrong is in its problems."""
    order = ImageOrder(words[0].place, is_ramdisk=words[0].text.endswith("ramdisk-image-create"))
    rest = list(words[1:])
    while rest:
        word = rest.pop(0)
        if word.text == "--":
            order.elements += rest
            break
        if word.text.startswith("--"):
            _long(order, word, rest)
        elif word.text.startswith("-") and word.text != "-":
            _short(order, word, rest)
        else:
            order.elements.append(word)
    return order


def _long(order: ImageOrder, word: OrderText, rest: list[OrderText]) -> None:
    name, equals, value = word.text.partition("=")
    place = word.place.position
    near = [flag for flag in _LONG if flag.startswith(name)]
    flag = name if name in _LONG else near[0] if len(near) == 1 else ""
    if not flag:
        what = f"may be {' or '.join(near)}; write it out" if near else f"is no option; {nearest(name, _LONG)}"
        order.fault(what, Origin(place, quoted(name)))
        return
    option = _BY_FLAG.get(flag)
    if equals and (option is None or not option.takes_value):
        order.fault("takes no value; write it alone", Origin(place, flag))
        return
    _use(order, flag, place, OrderText(value, Origin(place, flag)) if equals else None, rest)


def _short(order: ImageOrder, word: OrderText, rest: list[OrderText]) -> None:
    letters = word.text[1:]
    while letters:
        flag, letters = f"-{letters[0]}", letters[1:]
        place = word.place.position
        option = _BY_FLAG.get(flag)
        if option is None and flag not in ONLY_SHOW:
            known = [each for each in (*_BY_FLAG, *ONLY_SHOW) if not each.startswith("--")]
            order.fault(f"is no option; write one of: {', '.join(known)}", Origin(place, quoted(flag)))
            return
        joined = None
        if option is not None and option.takes_value and letters:
            joined, letters = OrderText(letters, Origin(place, flag)), ""
        _use(order, flag, place, joined, rest)


def _use(order: ImageOrder, flag: str, place: Position, value: OrderText | None, rest: list[OrderText]) -> None:
    """Enter one use of an option, whose value may be the next word."""
    option = _BY_FLAG.get(flag)
    if option is None:
        order.fault("only prints; leave it out, or run: goldsmith dib --help", Origin(place, flag))
        return
    if option.takes_value and value is None:
        if not rest:
            order.fault("needs a value; write it behind the option", Origin(place, flag))
            return
        value = OrderText(rest.pop(0).text, Origin(place, flag))
    found = value or OrderText("", Origin(place, flag))
    if option is _PATH_OPTION:
        order.path.append(found)
    elif option.kind == "list":
        before = [] if option.key == "types" else order.given.get(option.key, [])  # the last -t counts, and every -p
        order.given[option.key] = [*before, *(OrderText(item, found.place) for item in found.text.split(","))]
    else:
        order.given.setdefault(option.key, []).append(found)
