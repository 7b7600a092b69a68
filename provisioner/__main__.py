"""Do the job of a cidata: `python3 provisioner.pyz --cidata DIR`.

--cidata DIR    the folder of job.json and context.tar
--root DIR      the image's files (/)
--state DIR     the folder for the job's state (ROOT/var/lib/goldsmith)
--console PATH  the console (/dev/console); - is standard output
--drain SECONDS how long to wait for the last reports to leave before the machine goes down (10)
--no-power      leave the machine on: end with status 0 (completed), 1 (failed) or 194 (wants a reboot)
--sandbox       with --no-power: this system was not booted; all its processes are this job's
"""

from __future__ import annotations

import os
import sys

from .job.session import Session
from .job.working_folder import JobFolders
from .machine.machine import END_FAILED, BuildMachine, NoMachine
from .protocol import ProtocolError, decode_job
from .system.output import StepConsole


class Options:
    """The command line."""

    def __init__(self, arguments: list[str]) -> None:
        """Parse the arguments. ValueError; KeyError when --cidata is missing."""
        self.power = "--no-power" not in arguments
        self.sandbox = "--sandbox" in arguments
        rest = [argument for argument in arguments if argument not in ("--no-power", "--sandbox")]
        given = dict(zip(rest[::2], rest[1::2]))
        if len(rest) % 2 or not set(given) <= {"--cidata", "--root", "--state", "--console", "--drain"}:
            raise ValueError(f"arguments {arguments}")
        self.cidata = os.path.abspath(given["--cidata"])
        self.root = os.path.abspath(given.get("--root", "/"))
        self.state = os.path.abspath(given.get("--state", os.path.join(self.root, "var/lib/goldsmith")))
        self.console = given.get("--console", "/dev/console")
        self.drain = float(given.get("--drain", "10"))  # seconds


def do_without_openssl() -> None:
    """Make hashlib use Python's own SHA-256 where that is built in.

    Loading OpenSSL reads 5 MB and takes 60 ms on an emulated CPU. No other thread runs meanwhile, and the first step is
    about to start. TLS, for reports by https, loads it anyway.
    """
    if {"_sha256", "_sha2"} & set(sys.builtin_module_names):
        sys.modules["_hashlib"] = None  # type: ignore[assignment]  # importlib's manual: this blocks an import


def _machine(options: Options, console: StepConsole) -> NoMachine:
    if options.power:
        return BuildMachine(console)
    if not options.sandbox:
        return NoMachine(console)
    from .machine.sandbox import Sandbox

    return Sandbox(console)


def main(arguments: list[str]) -> int:
    """Run the job; return the exit status, unless the machine is turned off first."""
    if arguments == ["--maintenance"]:  # maintenance.py starts it with this
        from .cos.maintenance import main as maintain

        return maintain()
    try:
        options = Options(arguments)
    except (ValueError, KeyError):
        print(__doc__, file=sys.stderr)
        return 2
    os.umask(0o022)
    do_without_openssl()
    console = StepConsole(options.console)
    machine = _machine(options, console)
    path = os.path.join(options.cidata, "job.json")
    try:
        with open(path, "rb") as file:
            job = decode_job(file.read())
        os.makedirs(os.path.join(options.state, "logs"), mode=0o700, exist_ok=True)
        session = Session(job, JobFolders(options.cidata, options.root, options.state), console, machine)
    except (OSError, ProtocolError) as error:  # no key to sign a report with, or no place for the state
        console.say(f"{path}: {error}")
        machine.turn_off(failed=True)
        return END_FAILED
    return session.run(options.drain)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
