"""disable-auto-update: keep Container-Optimized OS from updating itself, here and on machines of the image."""

from __future__ import annotations

from ..cos.cos import UPDATE_ENGINE, CosError, edit_boot_configuration
from ..cos.grub_config import GrubConfigError, with_masked
from ..protocol import DisableAutoUpdate
from .step_context import StepContext, StepError


def act(inputs: DisableAutoUpdate, context: StepContext) -> int:
    """Mask the update engine on every kernel command line; return 0. StepError where that cannot be done."""
    try:
        changed = edit_boot_configuration(
            context.root, "disable-auto-update", lambda text: with_masked(text, UPDATE_ENGINE)
        )
    except (CosError, GrubConfigError) as error:
        raise StepError(str(error)) from error
    context.output.say(f"{UPDATE_ENGINE} {'is masked now' if changed else 'was masked before'}")
    return 0
