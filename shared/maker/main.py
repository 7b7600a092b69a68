"""Make a root from nothing, run steps in it, and write it to a disk: what the provisioner of a maker VM calls.

    make   HOME ORIGIN FOLDER CIDATA     the image of an origin (JSON), of files below FOLDER or of the packed context
    run    HOME CIDATA JOB               a sandbox on a copy of it does a job; each line printed is an object:
                                         {"report": ...}, {"console": ...}, and last {"end": ""} or why it was lost
    write  HOME DEVICE CIDATA            its disk goes to a device of the same size

What these do is what `goldsmith build --engine chroot` does on one machine, by the same modules. HOME outlives the VM,
so that the next attempt finds the image that an earlier one has made. The last line on standard error tells a fault,
and the exit status is 1 then.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from ..errors import GoldsmithError
from .make_root import make_root
from .run_steps import run_steps
from .write_device import write_device

COMMANDS: dict[str, Callable[..., None]] = {"make": make_root, "run": run_steps, "write": write_device}


def main(arguments: list[str]) -> int:
    """Carry out a command; return the exit status."""
    command, home, *rest = arguments
    Path(home).mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        COMMANDS[command](Path(home), *map(Path, rest))
    except GoldsmithError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"{error.filename or command}: {error.strerror}\n")
        return 1
    return 0
