"""run-script: run a script of the context with the interpreter in its first line, else with bash, else with sh."""

from __future__ import annotations

import os

from ..protocol import RunScript
from ..system.process import find_program
from ..system.script_text import LOOK, fault
from .apt_locks import wait_for_apt
from .step_context import StepContext, StepError

FIRST_LINE = 256  # bytes, as many as the kernel reads


def act(inputs: RunScript, context: StepContext) -> int:
    """Return the script's exit status."""
    script = context.in_context(inputs.script)
    if not os.path.isfile(script):
        raise StepError(f"{inputs.script!r} is not a file")
    with open(script, "rb") as file:
        wrong = fault(file.read(LOOK))
    if wrong:
        raise StepError(f"{inputs.script!r}: {wrong}")
    command = [inputs.interpreter] if inputs.interpreter else interpreter(script)
    env = {**wait_for_apt(context), **inputs.env, **context.secrets}
    return context.run([*command, script], env)


def interpreter(script: str) -> list[str]:
    """Return the command that runs a script. StepError.

    The interpreter is never left to the kernel: archives lose execute bits, and Container-Optimized OS mounts /var
    with noexec.
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
