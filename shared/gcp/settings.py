"""What a function's environment says: project, bucket, zones, key. Read once; all that is wrong is told at once."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ..errors import EnvironmentFault, InputError
from ..json_values import reader
from ..limits import NO_LIMITS, Limits
from ..names import quoted

Delivery = Literal["download", "disk"]

KEY_BYTES = 32  # at least; what SHA-256 gives

PUBSUB_URL = "https://pubsub.googleapis.com"
STORAGE_URL = "https://storage.googleapis.com"


@dataclass(frozen=True)
class Settings:
    """What all adapters and functions of one deployment agree on."""

    project: str
    bucket: str
    zones: tuple[str, ...]  # in the order in which they are tried
    vm_service_account: str
    master_key: bytes | None = field(default=None, repr=False)  # a secret: in no log and no traceback
    delivery: Delivery = "download"
    limits: Limits = NO_LIMITS
    vm_pubsub_url: str = PUBSUB_URL  # how build VMs reach Pub/Sub
    vm_storage_url: str = STORAGE_URL  # how build VMs reach signed URLs
    compute_endpoint: str | None = None  # these five are for the emulator alone; Google's clients know their own
    storage_endpoint: str | None = None
    pubsub_host: str | None = None  # HOST:PORT, without TLS
    firestore_host: str | None = None  # HOST:PORT, without TLS
    credentials_file: str | None = None  # of the service account that the emulator has made

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Read VARIABLES. EnvironmentFault, one line for each of them that is missing or wrong; it shows no values."""
        return cls(**_read(environment, VARIABLES))

    @classmethod
    def of_person(cls, project: str, bucket: str, environment: Mapping[str, str]) -> Settings:
        """Give what a person's command line needs: it starts no VM and signs nothing.

        InputError for a project or bucket that cannot be one, EnvironmentFault for a variable of the emulator's.
        """
        told = {VARIABLES["project"].name: project, VARIABLES["bucket"].name: bucket}
        for name, text in (("project", project), ("bucket", bucket)):
            try:
                VARIABLES[name].read(text)
            except ValueError as error:
                raise InputError(f"--{name}: {quoted(text)} is not {VARIABLES[name].wanted}; correct it") from error
        names = ("project", "bucket", *EMULATOR_ONLY)
        values = _read({**environment, **told}, {name: VARIABLES[name] for name in names})
        return cls(**values, zones=(), vm_service_account="")


@dataclass(frozen=True)
class Variable:
    """One variable: what it must be, in words, and how its text is read. `read` raises ValueError."""

    name: str
    wanted: str
    read: Callable[[str], Any]
    required: bool = False


def _read(environment: Mapping[str, str], variables: Mapping[str, Variable]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    problems = []
    for name, variable in variables.items():
        text = environment.get(variable.name, "").strip()
        if not text:
            if variable.required:
                problems.append(f"{variable.name} is not set; set it to {variable.wanted}")
            continue
        try:
            values[name] = variable.read(text)
        except ValueError:
            problems.append(f"{variable.name} is not {variable.wanted}; correct it")
    if problems:
        raise EnvironmentFault("\n".join(problems))
    return values


def _matching(pattern: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(pattern)
        return text

    return read


_zone = _matching(r"[a-z]+-[a-z]+[0-9]+-[a-z]")
_host = _matching(r"[^\s/]+:[0-9]+")


def _zones(text: str) -> tuple[str, ...]:
    return tuple(_zone(part.strip()) for part in text.split(","))


def _url(text: str) -> str:
    return _matching(r"https?://[^\s/]+")(text.rstrip("/"))


def _key(text: str) -> bytes:
    key = bytes.fromhex(text)
    if len(key) < KEY_BYTES:
        raise ValueError(len(key))
    return key


def _limits(text: str) -> Limits:
    found: Limits = reader(Limits)(json.loads(text))  # both raise ValueError
    return found


_AN_URL = "a URL without a path: http://127.0.0.1:8080"
_AN_ADDRESS = "a host and a port: 127.0.0.1:8085"

VARIABLES: Mapping[str, Variable] = {
    "project": Variable(
        "GOLDSMITH_PROJECT",
        "a project's id: my-project",
        _matching(r"(?:[a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]"),  # with the domain before it, in old ones
        required=True,
    ),
    "bucket": Variable(
        "GOLDSMITH_BUCKET",
        "a bucket's name, without gs://: my-project-goldsmith",
        _matching(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]"),
        required=True,
    ),
    "zones": Variable(
        "GOLDSMITH_ZONES", "zones with commas between them: us-central1-a,us-central1-b", _zones, required=True
    ),
    "vm_service_account": Variable(
        "GOLDSMITH_VM_SERVICE_ACCOUNT",
        "the address of the build VMs' service account: vm@my-project.iam.gserviceaccount.com",
        _matching(r"[^@\s]+@[^@\s]+"),
        required=True,
    ),
    "master_key": Variable(
        "GOLDSMITH_MASTER_KEY",
        f"at least {KEY_BYTES} bytes in hex, a secret: openssl rand -hex {KEY_BYTES}",
        _key,
    ),
    "delivery": Variable("GOLDSMITH_DELIVERY", "download or disk", _matching("download|disk")),
    "limits": Variable("GOLDSMITH_LIMITS", 'limits as JSON: {"max_disk_gb": 200, "gpu_types": []}', _limits),
    "vm_pubsub_url": Variable("GOLDSMITH_VM_PUBSUB_URL", _AN_URL, _url),
    "vm_storage_url": Variable("GOLDSMITH_VM_STORAGE_URL", _AN_URL, _url),
    "compute_endpoint": Variable("GOLDSMITH_COMPUTE_ENDPOINT", _AN_URL, _url),
    "storage_endpoint": Variable("STORAGE_EMULATOR_HOST", _AN_URL, _url),
    "pubsub_host": Variable("PUBSUB_EMULATOR_HOST", _AN_ADDRESS, _host),
    "firestore_host": Variable("FIRESTORE_EMULATOR_HOST", _AN_ADDRESS, _host),
    "credentials_file": Variable("GOOGLE_APPLICATION_CREDENTIALS", "a file", str),
}
"""Every variable that is read, by the field it becomes; what is not required has the field's default."""

EMULATOR_ONLY = ("compute_endpoint", "storage_endpoint", "pubsub_host", "firestore_host", "credentials_file")
"""The fields that a deployment on Google Cloud leaves alone."""
