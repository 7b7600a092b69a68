"""What a step can do, one file per action: ACTION_MODULES finds them, protocol.ACTIONS has their inputs' shapes."""

from __future__ import annotations

import os

from .. import process
from ..output import Output
from ..protocol import Step, decode_inputs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

ACTION_MODULES = {
    "run-script": "run_script",
    "copy-files": "copy_files",
    "install-packages": "install_packages",
    "install-gpu": "install_gpu",
    "install-anthos": "install_anthos",
    "seal-oem": "seal_oem",
    "disable-auto-update": "disable_auto_update",
    "kernel-command-line": "kernel_command_line",
    "reboot": "reboot",
}
ENVIRONMENT = {
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "LOGNAME": "root",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "SHELL": "/bin/sh",
    "USER": "root",
}


class StepError(Exception):
    """The step cannot be done; the text says why and what to do about it."""


class Workshop:
    """What one try of a step works with: the image's root, the context, a way to run programs, a time limit."""

    def __init__(self, root: str, context: str, output: Output, deadline: float) -> None:
        self.root = root
        self.context = context
        self.output = output
        self.deadline = deadline  # monotonic
        self.note = ""  # one line that the report of the finished step carries

    def run(self, argv: list[str], env: Mapping[str, str]) -> int:
        """Run a program in the context with the usual environment and `env`; give its exit status."""
        try:
            return process.run(argv, {**ENVIRONMENT, **env}, self.output, self.deadline)
        except OSError as error:
            raise StepError(f"{argv[0]} cannot be started: {error.strerror}") from error

    def in_context(self, path: str) -> str:
        """Give the path of something in the context. StepError when it is not there, or leads out."""
        context = os.path.realpath(self.context)
        found = os.path.join(context, path)
        if os.path.commonpath([context, os.path.realpath(found)]) != context:
            raise StepError(f"{path!r} leads out of the context; give a path inside it")
        if not os.path.lexists(found):
            raise StepError(f"{path!r} is not in the context; put it into the folder that the spec's context names")
        return found


def act(step: Step, workshop: Workshop) -> int:
    """Do a step once and give its exit status. StepError; TimedOut; OSError."""
    module = __import__(f"{__name__}.{ACTION_MODULES[step.action]}", fromlist=("act",))  # only what this job needs
    status: int = module.act(decode_inputs(step), workshop)
    return status
