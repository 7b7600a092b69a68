"""The secrets of a job's steps: fetched when the machine starts, kept in this process's memory, and nowhere else.

Where the host keeps layers, they are fetched after the last one: the machine may swap this memory to its disk. A value
reaches one process, that of its step, in its environment. Output of all steps from then on is without the values, since
a step may have left one where a later step prints it.
"""

from __future__ import annotations

import json
import os
import time
from binascii import a2b_base64

from ..protocol import LAYER_SIGNATURE, SECRETS_REQUEST, Job, Step, sign
from ..system.redaction import hidden_forms, value_fault, without_line_end

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Dict, List, Mapping, TypeVar

    Answer = TypeVar("Answer")

TRIES = 6
FIRST_PAUSE = 0.5  # seconds; doubled each time
SECONDS = 15.0  # for one answer
OF_MANAGER = "projects/"  # begins the place of a secret in Secret Manager
LONGEST_MESSAGE = 300  # characters of an error of Google's
REMEDIES = {
    400: "enable the version, or name another one",  # what is disabled or destroyed
    403: "look whether build.service_account has roles/secretmanager.secretAccessor on the secret",
    404: "look at the project, the name and the number in the spec",
}


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

    def named(self, job: Job) -> Dict[str, bytes]:
        """Return the values by what people call them: STEP.secrets.NAME."""
        return {
            f"{step.name}.secrets.{name}": self._values[place]
            for step in job.steps
            for name, place in step.secrets.items()
        }


NO_SECRETS = StepSecrets({})


def fetch_secrets(job: Job) -> StepSecrets:
    """Fetch the values of all secrets of a job. SecretsMissing."""
    places = sorted({place for step in job.steps for place in step.secrets.values()})
    if any(place.startswith(OF_MANAGER) for place in places):
        return StepSecrets({place: _insist(_access, job, place) for place in places})
    return StepSecrets(_insist(_ask, job))


def _insist(ask: Callable[..., Answer], *arguments: object) -> Answer:
    """Ask until there is an answer, or no more tries may help. SecretsMissing."""
    problem = ""
    for number in range(TRIES):
        if number:
            time.sleep(FIRST_PAUSE * 2 ** (number - 1))
        try:
            return ask(*arguments)
        except SecretsMissing as error:
            problem = str(error)
            break
        except OSError as error:
            problem = str(error) or type(error).__name__
    raise SecretsMissing(f"the secrets of the steps cannot be fetched: {problem}")


def _ask(job: Job) -> Dict[str, bytes]:
    """Ask the host once, for all. SecretsMissing where another try is of no use; OSError."""
    from ..system.http import request

    headers = {LAYER_SIGNATURE: sign(job.key, SECRETS_REQUEST)}
    status, answer = request("POST", job.secrets_url, headers, SECRETS_REQUEST, SECONDS)
    _check(status, answer, "")
    try:
        return {place: a2b_base64(text) for place, text in json.loads(answer).items()}
    except (ValueError, AttributeError, TypeError, RecursionError):
        raise SecretsMissing("the answer is not one of a host's") from None


def _access(job: Job, place: str) -> bytes:
    """Ask Secret Manager once, for one value. SecretsMissing where another try is of no use; OSError."""
    from ..reporting.publisher import fetch_token
    from ..system.http import request

    try:
        token, _ = fetch_token(job.token_url or "", SECONDS)
        headers = {"Authorization": f"Bearer {token}"}
        status, answer = request("GET", f"{job.secrets_url}{place}:access", headers, b"", SECONDS)
    except (OSError, ValueError) as error:  # the latter also of a certificate, in Python 3.6
        raise OSError(f"{place}: {str(error) or type(error).__name__}") from error
    _check(status, answer, f"{place}: ")
    try:
        value = without_line_end(a2b_base64(json.loads(answer)["payload"]["data"]))
    except (ValueError, KeyError, TypeError, RecursionError):
        raise SecretsMissing(f"{place}: the answer is not one of Secret Manager's") from None
    wrong = value_fault(value)
    if wrong:
        raise SecretsMissing(f"{place}: {wrong}")
    return value


def _check(status: int, answer: bytes, what: str) -> None:
    """Check the status of an answer. SecretsMissing; OSError where another try may help."""
    if status == 200:
        return
    text = f"{what}HTTP {status}" + (_message_of(answer) if what else "")
    if status >= 500 or status == 429:
        raise OSError(text)
    remedy = REMEDIES.get(status, "") if what else ""
    raise SecretsMissing("; ".join(filter(None, [text, remedy])))


def _message_of(answer: bytes) -> str:
    """Return the message of an error of Google's, after a colon; "" where there is none."""
    try:
        return ": " + str(json.loads(answer)["error"]["message"])[:LONGEST_MESSAGE]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
