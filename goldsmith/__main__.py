"""Runs the command and turns what went wrong into one message and an exit status.

0 done or unchanged · 1 the build did not succeed · 2 bad input, nothing created · 3 this machine lacks something ·
130 cancelled with Ctrl-C.
"""

from __future__ import annotations

import io
import os
import sys

from shared.errors import GoldsmithError

from .cli import app
from .exit_status import ENVIRONMENT, INTERRUPTED, of_error
from .screen.text import complain


def main() -> int:
    """Run the command line; give the exit status, or leave with it where the command line itself is wrong."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a locale without UTF-8 costs letters, not the build
    try:
        app(prog_name="goldsmith")
    except GoldsmithError as error:
        complain(str(error))
        return of_error(error)
    except OSError as error:  # of a file that no code of ours expects to be wrong
        complain(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        return ENVIRONMENT
    except KeyboardInterrupt:  # before the command line was read; typer takes those that come later
        return INTERRUPTED
    finally:
        _flush()
    return 0


def _flush() -> None:
    """Write what is left, or Python would at its end and complain; a reader that has gone (`| head`) is no fault."""
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            complain(f"standard output: {error.strerror}")


if __name__ == "__main__":
    sys.exit(main())
