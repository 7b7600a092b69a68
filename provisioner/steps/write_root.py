"""write-root: write the root of a maker VM, as the steps have left it, to the disk of which the image is taken."""

from __future__ import annotations

from ..machine.scratch_disk import SECONDS, ScratchError, find_root_disk, wait_for
from ..protocol import ROOT_DISK, WriteRoot
from .make_root import run_maker
from .step_context import StepContext, StepError


def act(_inputs: WriteRoot, context: StepContext) -> int:
    """Return 0. StepError."""
    try:
        device = wait_for(context.root, SECONDS, ROOT_DISK, find_root_disk)
    except ScratchError as error:
        raise StepError(str(error)) from error
    run_maker(context.maker, "write", [device, context.maker.cidata], context)
    return 0
