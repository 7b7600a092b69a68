"""What a program has written to a terminal, as text with classes of style.

A guest may write anything. Of its escape sequences colours and weights are understood, and all others are left out;
a letter that would turn the writing around, or that is none, becomes U+FFFD. Nothing here is markup.
"""

from __future__ import annotations

import re
import unicodedata

StyledText = tuple[str, str]
"""Some text, and the classes that it is shown with."""

COLOURS = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")
WEIGHTS = {1: "ansi-bold", 2: "ansi-dim"}
LONGEST_SHOWN = 2000  # characters that are shown

_ESCAPE = re.compile(
    r"\x1b\[(?P<style>[0-9;]{0,40})m"
    r"|\x1b\[[0-?]{0,40}[ -/]{0,4}[@-~]"
    r"|\x1b\][^\x07\x1b]{0,400}(?:\x07|\x1b\\)?"
    r"|\x1b[ -/]{0,4}[0-~]?"
)


def terminal_lines(data: bytes) -> list[list[StyledText]]:
    """Return the lines of some output. Colours end with their line; a last line that has not ended is one too."""
    text = data.decode("utf-8", "replace")
    lines = text.split("\n")
    if lines and not lines[-1]:
        lines.pop()
    return [_segments(_overwritten(line)) for line in lines]


def plain_text(line: list[StyledText]) -> str:
    """Return a line without its styles."""
    return "".join(text for text, _ in line)


def _overwritten(line: str) -> str:
    """Return what is left of a line in which a carriage return writes over what was before it, as progress bars do."""
    parts = [part for part in line.rstrip("\r").split("\r") if part]
    return parts[-1] if parts else ""


def _segments(line: str) -> list[StyledText]:
    found: list[StyledText] = []
    style, position, room = "", 0, LONGEST_SHOWN
    for escape in _ESCAPE.finditer(line):
        room -= _add(found, line[position : escape.start()][:room], style)
        position = escape.end()
        if escape["style"] is not None:
            style = _styled(style, escape["style"])
    if _add(found, line[position:][:room], style) < len(line) - position:
        found.append((" …", "ansi-dim"))
    return found


def _add(found: list[StyledText], text: str, style: str) -> int:
    if text:
        found.append((_shown(text), style))
    return len(text)


def _styled(style: str, codes: str) -> str:
    """Return the classes after a sequence of codes."""
    classes = style.split()
    numbers = [int(code or 0) for code in codes.split(";")[:16]]
    while numbers:
        number = numbers.pop(0)
        if number in (38, 48):  # a colour by number, or by its parts
            del numbers[: 2 if numbers[:1] == [5] else 4]
        elif number == 0:
            classes = []
        else:
            classes = _with(classes, number)
    return " ".join(classes)


def _with(classes: list[str], number: int) -> list[str]:
    weights = [each for each in classes if each in WEIGHTS.values()]
    colours = [each for each in classes if each not in weights]
    if number in (*WEIGHTS, 22):
        return [*colours, *([WEIGHTS[number]] if number in WEIGHTS else [])]
    if 30 <= number <= 37 or 90 <= number <= 97 or number == 39:
        return [*weights, *([] if number == 39 else [f"ansi-{COLOURS[number % 10]}"])]
    return classes


def _shown(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(letter if _is_harmless(letter) else "\N{REPLACEMENT CHARACTER}" for letter in text)


def _is_harmless(letter: str) -> bool:
    return letter == "\t" or letter.isprintable() or unicodedata.category(letter) == "Zs"
