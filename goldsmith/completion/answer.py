"""What the script of a shell is answered, by what it sets `_GOLDSMITH_COMPLETE` to.

`source_SHELL` prints the script. `zsh` and `fish` come with the words of the line as arguments, the one at the cursor
last. `bash` comes with the line up to the cursor, as it is typed, and with what bash takes for the word there: that
begins behind `=` and `:`, and what bash puts in its place has to as well.

The first line of an answer is `files`, `folders` or `words`; a path's has the word's own beginning behind a tab. Each
other line is a word, for zsh and fish with a tab and what it means.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from typer.core import TyperGroup

from .scripts import SHELL_SCRIPTS
from .typed_line import WORDS, Offers, offers_at_cursor

COMPLETING = "_GOLDSMITH_COMPLETE"


def answer(program: TyperGroup, wish: str, words: Sequence[str]) -> str:
    """Return what is printed for a shell: a script, or what it may offer. "" for what no shell asks."""
    if wish.startswith("source_"):
        return SHELL_SCRIPTS.get(wish.removeprefix("source_"), "")
    if wish == "bash" and len(words) == 2:
        return _for_bash(program, *words)
    if wish in ("zsh", "fish") and words:
        found = offers_at_cursor(program, words[:-1], words[-1])
        return _lines(found, [f"{offer.word}\t{offer.about}".rstrip("\t") for offer in found.offers])
    return ""


def _for_bash(program: TyperGroup, typed: str, at_cursor: str) -> str:
    words = _split(typed)[1:]
    if not words:
        return ""
    found = offers_at_cursor(program, words[:-1], words[-1])
    behind = "" if at_cursor in ("=", ":") else at_cursor
    whole = not words[-1].endswith(behind)  # it has backslashes, and bash replaces all of it
    before = "" if whole else words[-1].removesuffix(behind)
    return _lines(found, [offer.word.removeprefix(before) for offer in found.offers])


def _lines(found: Offers, words: list[str]) -> str:
    first = found.kind if found.kind == WORDS else f"{found.kind}\t{found.prefix}"
    return "".join(f"{line}\n" for line in (first, *words))


def _split(typed: str) -> list[str]:
    """Return the words of a line of bash; the last one is the one at the cursor, empty behind a space."""
    reader = shlex.shlex(f"{typed}.", posix=True)  # the dot makes a word of what is at the cursor, whatever it is
    reader.whitespace_split = True
    reader.commenters = ""
    words: list[str] = []
    try:
        while (word := reader.get_token()) is not None:
            words.append(word)
    except ValueError:  # the quotes are open
        words.append(reader.token)
    return [*words[:-1], words[-1][:-1]]
