"""What the words retry, continue and abort do in the shell of a held machine: `ask.py SOCKET WORD`.

The process that holds the machine asks the host. To `retry` the host answers with the step and the context as they are
there now; the step then runs in this process's terminal, in the state that the hand has left.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time

from ..frames import RETRY
from ..machine.machine import BuildMachine, NoMachine
from ..machine.sandbox import Sandbox
from ..protocol import ELEMENTS_ACTION, REBOOT_STATUS, ProtocolError, Step
from ..steps.step_context import StepContext, StepError, act
from ..system.context import ContextError, unpack_context
from ..system.output import StepConsole, StepOutput
from ..system.process import TimedOut, find_program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MACHINES = {kind.__name__: kind for kind in (BuildMachine, Sandbox, NoMachine)}
INTERRUPTED = 130
CHUNK = 65536


def main(arguments: list[str]) -> int:
    """Ask, and do what is to be done here; return the exit status."""
    path, word = arguments
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(path)
        connection.sendall(word.encode() + b"\n")
        told = b"".join(iter(lambda: connection.recv(CHUNK), b""))
    except (OSError, KeyboardInterrupt) as error:
        print(f"{word}: {error}", file=sys.stderr)
        return 1
    finally:
        connection.close()
    if not told:  # the build ends, and this machine with it
        return 0
    answer = json.loads(told)
    if answer["problem"]:
        print(answer["problem"], file=sys.stderr)
        return 1
    if word != RETRY:
        return 0
    try:
        return _retry(answer)
    except KeyboardInterrupt:
        print("retry: interrupted", file=sys.stderr)
        return INTERRUPTED


def _retry(answer: Any) -> int:
    """Run the step again; return its exit status."""
    console = StepConsole("-")
    step = Step(**answer["step"])
    reads = None if step.reads is None else tuple(step.reads)
    try:
        if step.action == ELEMENTS_ACTION:
            from ..steps.elements import leave_chroot

            leave_chroot()
        if answer["archive"]:
            unpack_context(answer["archive"], answer["context"], answer["digest"], reads)
            os.unlink(answer["archive"])
        os.chdir(answer["context"])
    except (ContextError, OSError) as error:
        console.say(f"the context cannot be unpacked: {error}")
        return 1
    machine = MACHINES[answer["machine"]](console)
    hidden = [text.encode("latin-1") for text in answer["hidden"]]
    output = StepOutput(step.name, os.path.join(answer["logs"], "retried.log"), console, hidden)
    began = time.monotonic()
    group = machine.nested_group()
    if not step.network:
        group.leave_network(find_program("unshare") or "unshare")
    deadline = began + step.timeout
    context = StepContext(
        answer["root"], answer["context"], output, deadline, group, answer["lent"], answer["apt_settings"]
    )
    context.hold = context.retried = True
    try:
        status, problem = _act(step, context)
    finally:
        group.end()
        output.close()
    problem = output.hide(problem)
    took = f"({time.monotonic() - began:.1f} s)"
    if status in (0, REBOOT_STATUS) and not problem:
        console.say(f"step {step.name!r} has succeeded {took}")
        console.say("this build still ends as failed, since a hand has touched it: continue builds anew without that")
        return 0
    console.say(f"step {step.name!r} failed: {problem or f'exit status {status}'} {took}")
    return status or 1


def _act(step: Step, context: StepContext) -> tuple[int, str]:
    try:
        return act(step, context), ""
    except TimedOut as error:
        return error.status, f"not done within {step.timeout:g} s"
    except (StepError, ProtocolError, OSError) as error:
        return 1, str(error)
