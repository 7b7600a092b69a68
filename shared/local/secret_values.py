"""The values of the secrets of steps, from files and environment variables of this machine.

Each is read once, and kept in the memory of this process: the machine gets what was checked, and its disk is searched
for what the machine got. No message quotes a value.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from provisioner.protocol import Step
from provisioner.system.process import leave_no_core
from provisioner.system.redaction import MOST_VALUE, value_fault, without_line_end

from ..build.plan import Plan
from ..errors import InputError
from ..host.secret_file import NoPlainFile, read_plain
from ..names import SECRET_IN_ENVIRONMENT, SECRET_IN_FILE

MOST_IN_ALL = 524_288  # bytes of all values of a job


class HostSecrets:
    """The values that this process has read, by their places. Thread-safe: reading one twice does no harm."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._known: dict[str, bytes] = {}

    def of(self, steps: Iterable[Step]) -> dict[str, bytes]:
        """Return the values that some steps need, by their places. Where there are any, no core is left. InputError."""
        found: dict[str, bytes] = {}
        for step in steps:
            for name, place in step.secrets.items():
                if place not in self._known:
                    self._known[place] = self._read(place, f"steps: {step.name}: secrets.{name}: {place}")
                found[place] = self._known[place]
        if found:
            leave_no_core()  # nor by the machines, which are started from here
        total = sum(map(len, found.values()))
        if total > MOST_IN_ALL:
            raise InputError(f"steps: the values of their secrets have {total} bytes, and {MOST_IN_ALL} is the most")
        return found

    def _read(self, place: str, subject: str) -> bytes:
        if place.startswith(SECRET_IN_ENVIRONMENT):
            name = place.removeprefix(SECRET_IN_ENVIRONMENT)
            value = os.fsencode(self._environment.get(name, ""))
            if not value:
                raise InputError(f"{subject}: the variable is not set, or empty; set {name} for this command")
        elif place.startswith(SECRET_IN_FILE):
            value = _contents(Path(place.removeprefix(SECRET_IN_FILE)), subject)
        else:
            raise InputError(f"{subject}: is none of this machine's; write env:NAME or file:PATH")
        wrong = value_fault(value)
        if wrong:
            raise InputError(f"{subject}: {wrong}")
        return value


def check_secrets(plan: Plan, secrets: HostSecrets) -> None:
    """Check that the values of all secrets of a plan can be had. InputError."""
    for steps in (plan.steps, plan.verify_steps or ()):
        secrets.of(steps)


def _contents(path: Path, subject: str) -> bytes:
    """Return what is in a file, without a line break at its end. InputError."""
    try:
        value, _ = read_plain(path, MOST_VALUE + 3)
    except NoPlainFile:
        raise InputError(f"{subject}: is no regular file; write the path of one") from None
    except OSError as error:
        raise InputError(f"{subject}: cannot be read: {error.strerror}; check the path") from error
    return without_line_end(value)
