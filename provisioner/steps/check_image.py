"""check-image: look over a system that has booted from a new image, before the steps of its verification."""

from __future__ import annotations

from ..machine.system_checks import SystemChecks
from ..protocol import CheckImage
from .step_context import StepContext, StepError


def act(inputs: CheckImage, context: StepContext) -> int:
    """Return 0 where all is well; the note says what was seen. StepError with all problems."""
    found = SystemChecks(context.root, inputs, context.interrupted).run()
    for line in found.seen:
        context.output.say(line)
    for line in found.unseen:
        context.output.say(f"not checked: {line}")
    if found.problems:
        raise StepError("; ".join(found.problems))
    context.note = found.note()
    context.identity = found.identity
    return 0
