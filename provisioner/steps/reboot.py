"""reboot: restart the machine, then go on with the next step."""

from __future__ import annotations

from ..protocol import REBOOT_STATUS, Reboot
from . import Workshop


def act(inputs: Reboot, workshop: Workshop) -> int:
    """Ask for it; the runner reboots once the step is written down as finished."""
    return REBOOT_STATUS
