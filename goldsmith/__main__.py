"""Runs the command and turns what went wrong into one message and an exit status.

0 done or unchanged · 1 the build did not succeed · 2 bad input, nothing created · 3 this machine lacks something ·
130 cancelled with Ctrl-C.
"""

from __future__ import annotations

import os
import sys

from shared.errors import EnvironmentFault, GoldsmithError, InputError

from .cli import app

FAILED = 1
BAD_INPUT = 2
ENVIRONMENT = 3


def main() -> int:
    """Run the command line; give the exit status, or leave with it where the command line itself is wrong."""
    try:
        app()
    except InputError as error:
        return _say(error, BAD_INPUT)
    except EnvironmentFault as error:
        return _say(error, ENVIRONMENT)
    except GoldsmithError as error:
        return _say(error, FAILED)
    except BrokenPipeError:  # `goldsmith builds list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    return 0


def _say(error: GoldsmithError, status: int) -> int:
    sys.stderr.write(f"goldsmith: {error}\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
