"""run-script: run a script of the context with the interpreter that its first line names, else with bash, else sh."""

from __future__ import annotations

import os

from ..process import find_program
from ..protocol import RunScript
from . import StepError, Workshop

FIRST_LINE = 256  # bytes the kernel reads of it, too


def act(inputs: RunScript, workshop: Workshop) -> int:
    """Give the script's exit status."""
    script = workshop.in_context(inputs.script)
    if not os.path.isfile(script):
        raise StepError(f"{inputs.script!r} is not a file")
    command = [inputs.interpreter] if inputs.interpreter else interpreter(script)
    return workshop.run([*command, script], inputs.env)


def interpreter(script: str) -> list[str]:
    """Give the command that runs a script.

    It is always named, never left to the kernel: archives lose execute bits, and Container-Optimized OS mounts /var
    without execution.
    """
    with open(script, "rb") as file:
        first = file.read(FIRST_LINE).partition(b"\n")[0]
    if not first.startswith(b"#!"):
        return [find_program("bash") or "/bin/sh"]
    words = os.fsdecode(first[2:]).strip().split(None, 1)
    if not words or not os.path.exists(words[0]):
        name = words[0] if words else "nothing"
        raise StepError(
            f"the first line of {os.path.basename(script)!r} names {name!r}, which this image does not have"
        )
    return words
