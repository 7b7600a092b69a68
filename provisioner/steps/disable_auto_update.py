"""disable-auto-update: keep Container-Optimized OS from updating itself, in this image and all machines made of it."""

from __future__ import annotations

from ..cos import CosError, edit_boot_configuration
from ..grub_config import GrubConfigError, with_masked
from ..protocol import DisableAutoUpdate
from . import StepError, Workshop

UPDATE_ENGINE = "update-engine.service"


def act(inputs: DisableAutoUpdate, workshop: Workshop) -> int:
    """Mask its service on every kernel's command line; give 0. What cannot be done is a StepError."""
    try:
        changed = edit_boot_configuration(
            workshop.root, "disable-auto-update", lambda text: with_masked(text, UPDATE_ENGINE)
        )
    except (CosError, GrubConfigError) as error:
        raise StepError(str(error)) from error
    workshop.output.say(f"{UPDATE_ENGINE} {'is masked now' if changed else 'was masked before'}")
    return 0
