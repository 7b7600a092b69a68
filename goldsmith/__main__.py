"""Runs the command and turns what went wrong into one message and an exit status.

0 done or unchanged · 1 the build did not succeed · 2 bad input, nothing created · 3 this machine lacks something ·
130 cancelled with Ctrl-C.
"""

from __future__ import annotations

import errno
import io
import os
import stat
import sys
from contextlib import suppress
from typing import TextIO

from shared.errors import GoldsmithError

from .cli.app import app
from .completion.answer import COMPLETING, answer
from .exit_status import ENVIRONMENT, INTERRUPTED, NOT_SUCCEEDED, WRONG_INPUT, of_error
from .screen.text import complain

_OF_A_PATH = (errno.ENAMETOOLONG, errno.ELOOP)  # what is wrong with a path itself, whatever there is on the disk


def main() -> int:
    """Run the command line; give the exit status, or leave with it where the command line itself is wrong."""
    _open_what_is_closed()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a locale without UTF-8 costs letters, not the build
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")  # what is typed in another encoding is refused as any answer is
    if COMPLETING in os.environ:
        return _complete()
    status = _run()
    written = _flush()
    return status or (0 if written else ENVIRONMENT)


def _run() -> int:
    """Run the command, and tell what went wrong; give the exit status."""
    try:
        app(prog_name="goldsmith")
    except SystemExit as end:  # as typer ends
        return end.code if isinstance(end.code, int) else 0
    except GoldsmithError as error:
        _tell(str(error))
        return of_error(error)
    except OSError as error:  # of a file that no code of ours expects to be wrong
        if error.errno == errno.EIO and _has_lost_terminal():
            return NOT_SUCCEEDED  # as where a reader has gone
        if error.errno == errno.ENOSPC and not error.filename:
            _lead_nowhere(sys.stdout)  # so that it is told once
            error.filename = "standard output"
        _tell(": ".join(str(part) for part in (error.filename, error.strerror) if part) or str(error))
        return WRONG_INPUT if error.errno in _OF_A_PATH else ENVIRONMENT
    except KeyboardInterrupt:  # before the command line was read; typer takes those that come later
        return INTERRUPTED
    return 0


def _open_what_is_closed() -> None:
    """Open the standard streams that the process was started without, or files would take their numbers."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
            setattr(sys, name, os.fdopen(opened, mode))


def _complete() -> int:
    """Answer a shell that completes a half-typed line, over which nothing may be printed, whatever goes wrong."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    with suppress(Exception):
        from typer.main import get_group

        sys.stdout.write(answer(get_group(app), os.environ[COMPLETING], sys.argv[1:]))
    _flushed(sys.stdout)
    return 0


def _has_lost_terminal() -> bool:
    """Return whether standard output is a device, and none that is a terminal any more."""
    return stat.S_ISCHR(os.fstat(sys.stdout.fileno()).st_mode) and not sys.stdout.isatty()


def _tell(text: str) -> None:
    """Complain, unless standard error has gone, as it does with a terminal: the exit status stays the same."""
    with suppress(GoldsmithError, BrokenPipeError):
        complain(text)


def _flush() -> bool:
    """Write what is left, or Python would at its end, with a status of its own; a reader that has gone is no fault.

    Return whether standard output has all.
    """
    fault = _flushed(sys.stdout)
    lost = fault is not None and not isinstance(fault, BrokenPipeError)
    if fault is not None and lost:
        _tell(f"standard output: {fault.strerror}")
    _flushed(sys.stderr)
    return not lost


def _flushed(stream: TextIO) -> OSError | None:
    """Flush a stream; where that cannot be, lead it nowhere, and return why."""
    try:
        stream.flush()
    except OSError as error:
        _lead_nowhere(stream)
        return error
    return None


def _lead_nowhere(stream: TextIO) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


if __name__ == "__main__":
    sys.exit(main())
