"""One try of a step: what it works with, and the function that does it.

Each action that protocol.py has is a module here that is named for it (run-script: run_script.py) and holds
`act(inputs, context)`, which returns an exit status.
"""

from __future__ import annotations

import os
import sys

from ..protocol import Step, decode_inputs
from ..system import process
from ..system.output import StepOutput
from ..system.step_group import StepGroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Callable, Dict, Optional

ENVIRONMENT = {
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "LOGNAME": "root",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "SHELL": "/bin/sh",
    "TERM": "linux",  # the console's; programs such as clear and tput fail without one
    "USER": "root",
}


def step_environment(machine: Mapping[str, str], own: Mapping[str, str]) -> Dict[str, str]:
    """Return all variables of a step: the usual ones, the machine's and its own."""
    return {**ENVIRONMENT, **machine, **own}


MAKER_PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv.pop(1))\nfrom shared.maker.main import main\nsys.exit(main(sys.argv[1:]))"
)


class StepError(Exception):
    """The step cannot be done; the text says why and what to do about it. `status` is that of what it ran, if any."""

    def __init__(self, text: str, status: Optional[int] = None) -> None:
        super().__init__(text)
        self.status = status


class MakerFolders:
    """The folders of a maker VM: `place` has the modules of maker.zip and `home` what they make."""

    def __init__(self, state: str, cidata: str) -> None:
        self.cidata = cidata
        self.archive = os.path.join(cidata, "maker.zip")
        self.place = os.path.join(state, "maker")
        self.code = os.path.join(self.place, "code")
        self.home = os.path.join(self.place, "home")

    def command(self, name: str, arguments: list[str]) -> list[str]:
        """Return the command line of a command of shared/maker/main.py. Its Python may use Debian's packages."""
        return [sys.executable or "python3", "-I", "-E", "-c", MAKER_PROGRAM, self.code, name, self.home, *arguments]


class StepContext:
    """All that one try of a step works with: the image's root, the context, a way to run programs, a time limit."""

    def __init__(
        self,
        root: str,
        folder: str,
        output: StepOutput,
        deadline: float,
        group: Optional[StepGroup] = None,
        environment: Optional[Mapping[str, str]] = None,
        apt_settings: str = "",
        maker: Optional[MakerFolders] = None,
    ) -> None:
        """Begin a try. `environment` is the machine's, beside ENVIRONMENT; `group` takes what the step starts.

        `apt_settings` are in the form of apt.conf(5); `maker` are the folders of a maker VM.
        """
        self.root = root
        self.maker = maker or MakerFolders("", "")
        self.folder = folder  # of the context
        self.output = output
        self.deadline = deadline  # monotonic
        self.group = group or StepGroup()
        self._environment = environment or {}
        self.apt_settings = apt_settings
        self.hold = False  # a failure leaves all as it is: this try is the last, and a person will look
        self.interrupted = False  # the machine went down during an earlier try
        self.retried = False  # a person has asked for this try, in the state that the failed one has left
        self.tell_scripts: Optional[Callable[[str], None]] = None  # reports what scripts of elements do
        self.secrets: Mapping[str, str] = {}  # variables for the step's own process alone
        self.identity: tuple[str, ...] = ()  # of this machine, that the report of the finished step carries
        self.note = ""  # one line that the report of the finished step carries

    def run(self, argv: list[str], env: Mapping[str, str]) -> int:
        """Run a program in the context with the usual environment and `env`; return its exit status."""
        try:
            command = [*self.group.prefix, *argv]
            environment = step_environment(self._environment, env)
            return process.run_captured(command, environment, self.output, self.deadline, self.group)
        except OSError as error:
            raise StepError(f"{argv[0]} cannot be started: {error.strerror}") from error

    def in_context(self, path: str) -> str:
        """Return the absolute path of a path in the context. StepError when it is not there, or leads out."""
        context = os.path.realpath(self.folder)
        found = os.path.join(context, path)
        if os.path.commonpath([context, os.path.realpath(found)]) != context:
            raise StepError(f"{path!r} leads out of the context; give a path inside it")
        if not os.path.lexists(found):
            raise StepError(f"{path!r} is not in the context; put it into the folder that the spec's context names")
        return found


def act(step: Step, context: StepContext) -> int:
    """Do a step once and return its exit status. ProtocolError; StepError; TimedOut; OSError."""
    inputs = decode_inputs(step)
    name = step.action.replace("-", "_")
    module = __import__(f"{__package__}.{name}", fromlist=("act",))  # a job loads only what it needs
    status: int = module.act(inputs, context)
    return status
