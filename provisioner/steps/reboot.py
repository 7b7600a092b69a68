"""reboot: restart the machine, then go on with the next step."""

from __future__ import annotations

from ..protocol import REBOOT_STATUS, Reboot
from .step_context import StepContext


def act(inputs: Reboot, context: StepContext) -> int:
    """Return the status for a reboot; the runner reboots once the state has the step as finished."""
    return REBOOT_STATUS
