"""make-root: make the root of a maker VM from nothing, by the modules of maker.zip."""

from __future__ import annotations

import json
import os

from ..protocol import MakeRoot
from ..system.files import write_whole
from .step_context import MakerFolders, StepContext, StepError


def act(inputs: MakeRoot, context: StepContext) -> int:
    """Return 0 once the root is on the disk. StepError."""
    folders = context.maker
    origin = os.path.join(folders.place, "origin.json")
    os.makedirs(folders.home, mode=0o700, exist_ok=True)
    write_whole(origin, json.dumps(dict(inputs.origin)).encode())
    run_maker(folders, "make", [origin, context.folder, folders.cidata], context)
    os.sync()  # before the state records that it is there
    return 0


def run_maker(folders: MakerFolders, command: str, arguments: list[str], context: StepContext) -> None:
    """Run a command of shared/maker/main.py to its end. StepError has its last line."""
    status = context.run(folders.command(command, arguments), {})
    if status:
        said = context.output.tail.decode("utf-8", "replace").replace(os.path.join(context.folder, ""), "")
        lines = said.strip().splitlines()
        raise StepError(lines[-1] if lines else f"it ended with status {status}", status)
