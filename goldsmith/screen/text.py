"""Text for a person's terminal: what a guest, a spec or a file name holds must not steer it."""

from __future__ import annotations

import errno
import re
import sys
import unicodedata
from typing import TextIO

from shared.errors import EnvironmentFault

_COLOUR = re.compile("\x1b\\[[0-9;:]{0,64}m")  # what programs that write to a terminal put around words
_COLOUR_OF_STEP = re.compile("[\x1b?]\\[[0-9;:]{0,64}m")  # the provisioner writes ? where a character is a control


def printable(text: str) -> str:
    """Return one line without what would move a terminal's cursor, change its colours or turn the writing around."""
    if text.isprintable():
        return text
    text = _COLOUR.sub("", text)
    return "".join(letter if _is_harmless(letter) else "\N{REPLACEMENT CHARACTER}" for letter in text)


def printable_lines(text: str) -> str:
    """Return several lines, each printable; only line feeds end one."""
    return "\n".join(printable(line.removesuffix("\r")) for line in text.split("\n"))


def last_state(line: str) -> str:
    """Return what a terminal would show of a line of a step, without its colours; progress bars are written over."""
    return _COLOUR_OF_STEP.sub("", line).rstrip("\r").rpartition("\r")[2]


def say(text: str, stream: TextIO | None = None) -> None:
    """Write lines to standard output, or to the stream that is given."""
    try:
        (stream or sys.stdout).write(printable_lines(text) + "\n")
    except BrokenPipeError:
        raise
    except OSError as error:
        if error.errno == errno.EIO:  # the terminal has gone: as a reader that has
            raise BrokenPipeError(errno.EPIPE, "the terminal has gone") from error
        raise EnvironmentFault(f"the output cannot be written: {error.strerror}") from error


def complain(text: str) -> None:
    """Write a note or an error to standard error, with the program's name before it."""
    say(f"goldsmith: {text}", sys.stderr)


def _is_harmless(letter: str) -> bool:
    return letter == "\t" or letter.isprintable() or unicodedata.category(letter) == "Zs"
