"""Texts that no output may show, however a program writes them: as they are, in base64, in a URL, in JSON, in a shell.

Line breaks do not matter: base64(1) and fold(1) put them anywhere. Output comes in pieces, and a text may begin in one
and end in another, so the end of a piece waits while it may be the beginning of a text.
"""

from __future__ import annotations

import re
from bisect import bisect_right

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Dict, List, Mapping, Tuple

HIDDEN = b"(hidden)"
BREAKS = b"\r\n"
LEAST_LINE = 8  # bytes of a line of a text that is hidden by itself
LEAST_VALUE, MOST_VALUE = 8, 65_536  # bytes: shorter ones are in any text by chance; Secret Manager has no longer ones
MOST_HELD = 1 << 20  # bytes of output that wait, line breaks among them
_BREAK = re.compile(rb"[\r\n]")
_KEPT_IN_URLS = ("", "/", "!'()*", "/!'()*")  # what programs leave as it is, beside letters, digits and -._~
_ESCAPED = dict(zip("\a\b\x1b\f\n\r\t\v\\'", (b"%c" % each for each in b"abEfnrtv\\'")))
_SPECIAL_IN_QUOTES, _SPECIAL_IN_SHELLS = re.compile(rb'[$`"\\]'), re.compile(rb"[\s!\"$&'()*,;<>?\[\\\]^`{|}]")
LEAST_PART = 4  # bytes
_LETTERS = re.compile(rb"[A-Za-z0-9]+")
_LINE_OF_KEY = re.compile(rb"[A-Za-z0-9+/=_-]{32,}")


def value_fault(value: bytes) -> str:
    """Return why a value cannot be a step's secret, and the remedy; "" where it can."""
    count = len(value.translate(None, BREAKS))
    if count < LEAST_VALUE and not value.isspace():
        beside = "" if count == len(value) else " beside its line breaks"
        return (
            f"has {count} bytes{beside}, and a value of less than {LEAST_VALUE} is found in any text by chance; "
            "use a longer one"
        )
    if len(value) > MOST_VALUE:
        return f"has more than {MOST_VALUE} bytes; keep what is secret apart from the rest"
    if b"\0" in value:
        return "has a NUL byte, which no variable can have; encode it, in base64 for instance"
    if value.isspace():
        return "has nothing but spaces; write the value"
    return ""


def without_line_end(value: bytes) -> bytes:
    """Return a value without the line break that editors and echo(1) put at its end."""
    value = value[:-1] if value.endswith(b"\n") else value
    return value[:-1] if value.endswith(b"\r") else value


def whole_forms(value: bytes) -> List[bytes]:
    """Return all that would give a whole value away, without line breaks, the longest first."""
    from base64 import b64encode
    from json import dumps
    from urllib.parse import quote, quote_plus

    text = value.decode("utf-8", "surrogateescape")
    found = {value, *_in_shells(value), repr(text)[1:-1].encode("utf-8", "surrogateescape"), repr(value)[2:-1].encode()}
    found.update(dumps(text, ensure_ascii=safe)[1:-1].encode("utf-8", "surrogateescape") for safe in (True, False))
    for kept in _KEPT_IN_URLS:
        for quoted in (quote(value, safe=kept).encode(), quote_plus(value, safe=kept).encode()):
            found |= {quoted, re.sub(rb"%..", lambda match: match[0].lower(), quoted)}
    for before in range(3):  # bytes of a longer text that is encoded, modulo three
        encoded = b64encode(bytes(before) + value)
        core = encoded[-(-before * 8 // 6) : (before + len(value)) * 8 // 6]
        found |= {core, core.translate(bytes.maketrans(b"+/", b"-_"))}
    squeezed = {form.translate(None, BREAKS) for form in found}
    return sorted(squeezed - {b""}, key=len, reverse=True)


def _in_shells(value: bytes) -> List[bytes]:
    """Return a value as shells quote it: within '...' and "...", with backslashes, and within $'...' in two locales."""
    text = value.decode("utf-8", "surrogateescape")
    escaped = [special.sub(rb"\\\g<0>", value) for special in (_SPECIAL_IN_QUOTES, _SPECIAL_IN_SHELLS)]
    quoted = [value.replace(b"'", each) for each in (b"'\\''", b"'\"'\"'")]
    return [*quoted, *escaped, _in_ansi_c(text), _in_ansi_c(text, ascii_only=True)]


def _in_ansi_c(text: str, *, ascii_only: bool = False) -> bytes:
    """Return a text as `set -x` of bash prints it within $'...'."""
    shown = []
    for letter in text:
        byte = letter.encode("utf-8", "surrogateescape")
        if letter in _ESCAPED:
            byte = b"\\" + _ESCAPED[letter]
        elif not letter.isprintable() or (ascii_only and letter > "~"):
            byte = b"".join(b"\\%03o" % each for each in byte)
        shown.append(byte)
    return b"".join(shown)


def hidden_forms(value: bytes) -> List[bytes]:
    """Return all that output must not show of a value: its forms, and each of its lines."""
    lines = {line.strip() for line in value.splitlines()}
    return [*whole_forms(value), *sorted(line for line in lines if len(line) >= LEAST_LINE)]


def sought_forms(value: bytes) -> List[bytes]:
    """Return all by which files hold a value: its forms, and lines as of a key, which are in no file by chance."""
    lines = {line.strip() for line in value.splitlines()}
    return [*whole_forms(value), *sorted(line for line in lines if _LINE_OF_KEY.fullmatch(line))]


def hold_any(pieces: Iterable[bytes], forms: Sequence[bytes]) -> bool:
    """Return whether the pieces of some data, in a row, hold one of the forms, whatever line breaks are in it."""
    return bool(held_names(pieces, {"": forms}))


def held_names(pieces: Iterable[bytes], sought: Mapping[str, Sequence[bytes]]) -> List[str]:
    """Return the names of those of some texts that the pieces hold in one of their forms. Each piece is taken once."""
    left = {name: _by_common_part(forms) for name, forms in sought.items()}
    longest = max((len(form) for forms in sought.values() for form in forms), default=1)
    before = b""
    found: List[str] = []
    for piece in pieces:
        data = before + piece.translate(None, BREAKS)
        for name in [name for name, parts in left.items() if _holds_one(data, parts)]:
            del left[name]
            found.append(name)
        if not left:
            break
        before = data[max(0, len(data) - longest + 1) :]
    return found


def _by_common_part(forms: Sequence[bytes]) -> Dict[bytes, List[bytes]]:
    """Return forms by a part that several have in common: data that lack it hold none of them."""
    found: Dict[bytes, List[bytes]] = {}
    for form in sorted(forms, key=len):
        own = max(_LETTERS.findall(form), key=len, default=b"")
        part = next((known for known in found if known in form), own if len(own) >= LEAST_PART else form)
        found.setdefault(part, []).append(form)
    return found


def _holds_one(data: bytes, parts: Mapping[bytes, Sequence[bytes]]) -> bool:
    return any(part in data and any(form in data for form in forms) for part, forms in parts.items())


class Redactor:
    """Replaces texts in a stream."""

    def __init__(self, texts: Iterable[bytes]) -> None:
        """Take the texts; line breaks in them do not matter either."""
        squeezed = {text.translate(None, BREAKS) for text in texts}
        self._texts = sorted(squeezed - {b""}, key=len, reverse=True)
        self._held = b""

    def hide(self, data: bytes) -> bytes:
        """Return data that is whole without the texts."""
        return _Piece(data, self._texts).hidden(len(data))

    def feed(self, data: bytes) -> bytes:
        """Return what can be shown now, the next piece of output taken."""
        piece = _Piece(self._held + data, self._texts)
        end = piece.settled()
        if len(piece.data) - end > MOST_HELD:
            end = len(piece.data)
        self._held = piece.data[end:]
        return piece.hidden(end)

    def rest(self) -> bytes:
        """Return what has waited, at the end of the output."""
        held, self._held = self._held, b""
        return self.hide(held)


class _Piece:
    """A piece of output, where texts are found as if it had no line breaks."""

    def __init__(self, data: bytes, texts: Sequence[bytes]) -> None:
        self.data = data
        self._texts = texts
        self._squeezed = data.translate(None, BREAKS)
        breaks = [match.start() for match in _BREAK.finditer(data)] if len(self._squeezed) < len(data) else []
        self._breaks = [place - index for index, place in enumerate(breaks)]  # of the text before each
        self._spans = self._find()

    def settled(self) -> int:
        """Return where the part ends that no later piece can change."""
        end = min(map(self._begins, self._texts), default=len(self._squeezed))
        start = self._place(end) if end < len(self._squeezed) else len(self.data)
        for first, last in self._spans:
            if first < start < last:
                return first
        return start

    def hidden(self, end: int) -> bytes:
        """Return the data up to an end without the texts."""
        parts: List[bytes] = []
        at = 0
        for first, last in self._spans:
            if first >= end:
                break
            parts += [self.data[at:first], HIDDEN]
            at = last
        return b"".join([*parts, self.data[at:end]])

    def _place(self, at: int) -> int:
        """Return where a byte of the squeezed data is in the data."""
        return at + bisect_right(self._breaks, at)

    def _find(self) -> List[Tuple[int, int]]:
        """Return the places of all texts, in order, those that overlap or meet as one."""
        found: List[Tuple[int, int]] = []
        for text in self._texts:
            at = self._squeezed.find(text)
            while at >= 0:
                first, end = at, at + len(text)
                at = self._squeezed.find(text, at + 1)
                while 0 <= at < end:  # of the same text: a run of one letter may have it a million times
                    end = at + len(text)
                    at = self._squeezed.find(text, at + 1)
                found.append((first, end))
        merged: List[Tuple[int, int]] = []
        for first, last in sorted(found):
            if merged and first < merged[-1][1]:
                merged[-1] = merged[-1][0], max(last, merged[-1][1])
            else:
                merged.append((first, last))
        return [(self._place(first), self._place(last - 1) + 1) for first, last in merged]

    def _begins(self, text: bytes) -> int:
        """Return where the end of the squeezed data is the beginning of a text, the longest one; else its length."""
        data = self._squeezed
        at = data.find(text[:1], max(0, len(data) - len(text) + 1))
        while at >= 0:
            if text.startswith(data[at:]):
                return at
            at = data.find(text[:1], at + 1)
        return len(data)
