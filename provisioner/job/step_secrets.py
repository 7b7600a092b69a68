"""The secrets of a job's steps: fetched when the machine starts, kept in this process's memory, and nowhere else.

A value reaches one process, that of its step, in its environment. Output of all steps is without the values, since a
step may have left one where a later step prints it.
"""

from __future__ import annotations

import json
import os
import time
from binascii import a2b_base64

from ..protocol import LAYER_SIGNATURE, SECRETS_REQUEST, Job, Step, sign
from ..system.redaction import hidden_forms

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, List, Mapping, Tuple

TRIES = 6
FIRST_PAUSE = 0.5  # seconds; doubled each time
SECONDS = 15.0  # for one answer


class SecretsMissing(Exception):
    """The values cannot be had; the text says why."""


class StepSecrets:
    """The values of the secrets of a job, by what the steps call their places."""

    def __init__(self, values: Mapping[str, bytes]) -> None:
        self._values = dict(values)
        self.hidden: List[bytes] = sorted(
            {form for value in self._values.values() for form in hidden_forms(value)}, key=len, reverse=True
        )

    def of(self, step: Step) -> Dict[str, str]:
        """Return the variables that a step gets. SecretsMissing once they are dropped."""
        missing = [name for name, place in step.secrets.items() if place not in self._values]
        if missing:
            raise SecretsMissing(f"the host has not given the secrets {', '.join(missing)}")
        return {name: os.fsdecode(self._values[place]) for name, place in step.secrets.items()}


NO_SECRETS = StepSecrets({})


def fetch_secrets(job: Job) -> StepSecrets:
    """Fetch the values of all secrets of a job. SecretsMissing."""
    problem, again = "", True
    for number in range(TRIES):
        if not again:
            break
        if number:
            time.sleep(FIRST_PAUSE * 2 ** (number - 1))
        values, problem, again = _ask(job)
        if not problem:
            return StepSecrets(values)
    raise SecretsMissing(f"the secrets of the steps cannot be fetched: {problem}")


def _ask(job: Job) -> Tuple[Dict[str, bytes], str, bool]:
    """Ask the host once; return the values, or what is wrong, and whether another try may help."""
    from ..system.http import request

    headers = {LAYER_SIGNATURE: sign(job.key, SECRETS_REQUEST)}
    try:
        status, answer = request("POST", job.secrets_url, headers, SECRETS_REQUEST, SECONDS)
    except OSError as error:
        return {}, str(error) or type(error).__name__, True
    if status != 200:
        return {}, f"HTTP {status}", status >= 500
    try:
        told = json.loads(answer)
        return {place: a2b_base64(text) for place, text in told.items()}, "", False
    except (ValueError, AttributeError, TypeError, RecursionError):
        return {}, "the answer is not one of a host's", False
