"""Frames of the connection between a terminal and the shell of a machine that is held: kind, length, payload.

    terminal ── OPEN, INPUT, RESIZED, HANG_UP ──►           ── the same, CONTEXT_PIECE, ANSWER ──►
                                             the build                                    the machine
             ◄── OUTPUT, TOLD ──                         ◄── READY, OUTPUT, ENDED, ASKED ──

Both sides import this file, as they do protocol.py. Neither trusts the other: a frame that is too long ends the
connection.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import List, Tuple

OPEN = b"o"  # JSON: rows, columns, term, secrets; starts the shell
INPUT = b"i"  # what a person types
RESIZED = b"s"  # JSON: rows, columns
HANG_UP = b"h"  # the terminal is gone: ends the shell and all that it has started
CONTEXT_PIECE = b"c"  # a piece of the context's archive, in order
ANSWER = b"a"  # JSON: step and digest, after all pieces of the context; or problem
READY = b"R"  # the machine is held from now on, and takes OPEN
OUTPUT = b"O"  # what the shell shows
ENDED = b"E"  # the shell has ended
ASKED = b"A"  # one of WORDS, which a person has written in the shell
TOLD = b"T"  # a line for the person, of the build itself; it is the last one

RETRY, CONTINUE, ABORT = "retry", "continue", "abort"
WORDS = (RETRY, CONTINUE, ABORT)

PIECE_BYTES = 32768  # bytes of a long text in one frame
LONGEST = 1 << 20  # bytes of a payload
_HEAD = 5


class BadFrame(ValueError):
    """A frame that is longer than any honest one."""


def frame(kind: bytes, payload: bytes = b"") -> bytes:
    """Return one frame."""
    return kind + len(payload).to_bytes(4, "big") + payload


class FrameReader:
    """Cuts what arrives into frames."""

    def __init__(self) -> None:
        self._data = b""

    def feed(self, data: bytes) -> List[Tuple[bytes, bytes]]:
        """Return the frames that are whole now: kind and payload of each. BadFrame."""
        self._data += data
        found = []
        while len(self._data) >= _HEAD:
            length = int.from_bytes(self._data[1:_HEAD], "big")
            if length > LONGEST:
                raise BadFrame(f"a frame of {length} bytes")
            if len(self._data) < _HEAD + length:
                break
            found.append((self._data[:1], self._data[_HEAD : _HEAD + length]))
            self._data = self._data[_HEAD + length :]
        return found
