"""The environment variables of a deployment, and the settings that are read from them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from ..build.image.channels import Channels, no_channels, read_channels
from ..build.image.people import People, no_people, read_people
from ..build.image.retire_rules import MOST_RETAINED
from ..build.limits import EVERY_FAMILY, NO_LIMITS, Limits
from ..errors import EnvironmentFault, InputError
from ..json_values import reader
from ..names import IMAGE_PATH, KEY_VERSION, MAKER_IMAGE, check_name, quoted
from ..topology import STORAGE_EMULATOR

if TYPE_CHECKING:
    from ..webhooks.webhook import Webhook

DeliveryWay = Literal["download", "disk"]

LONGEST_BUDGET = 90 * 86_400.0  # seconds that a budget may look back
KEY_BYTES = 32  # at least; what SHA-256 gives

PUBSUB_URL = "https://pubsub.googleapis.com"
STORAGE_URL = "https://storage.googleapis.com"
CERTIFICATES_URL = "https://www.googleapis.com/oauth2/v1/certs"
IAP_KEYS_URL = "https://www.gstatic.com/iap/verify/public_key"
KMS_URL = "https://cloudkms.googleapis.com"
SECRETS_URL = "https://secretmanager.googleapis.com"
MONITORING_URL = "https://monitoring.googleapis.com"


@dataclass(frozen=True)
class Settings:
    """The settings of one deployment, for all its adapters and functions. VARIABLES describes each field."""

    project: str
    bucket: str
    zones: tuple[str, ...]
    vm_service_account: str
    master_key: bytes | None = field(default=None, repr=False)  # a secret: in no log and no traceback
    delivery: DeliveryWay = "download"
    limits: Limits = NO_LIMITS
    channels: Channels = field(default_factory=no_channels)
    people: People = field(default_factory=no_people)
    secure_boot: bool = False
    maker_image: str = MAKER_IMAGE
    webhooks: tuple[Webhook, ...] = ()
    signing_key: str = ""  # the name of a version of a key in Cloud KMS; "": nothing is signed
    iap_audience: str = ""  # "": nobody comes by Identity-Aware Proxy
    otlp_endpoint: str = ""  # of the collector of traces, without a path; "": none are sent
    vm_pubsub_url: str = PUBSUB_URL
    vm_storage_url: str = STORAGE_URL
    certificates_url: str = CERTIFICATES_URL
    iap_keys_url: str = IAP_KEYS_URL
    vm_secrets_url: str = SECRETS_URL
    compute_endpoint: str | None = None
    storage_endpoint: str | None = None
    kms_endpoint: str | None = None
    secrets_endpoint: str | None = None
    monitoring_endpoint: str | None = None
    pubsub_host: str | None = None  # HOST:PORT
    firestore_host: str | None = None  # HOST:PORT
    credentials_file: str | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Read VARIABLES. EnvironmentFault has a line for each that is missing or wrong, and shows no values."""
        return cls(**_read(environment, VARIABLES))

    @classmethod
    def of_person(cls, project: str, bucket: str, environment: Mapping[str, str]) -> Settings:
        """Return the settings of a person's command line, which starts no VM and signs nothing.

        InputError for a project or bucket that cannot be one, EnvironmentFault for a variable of the emulator's.
        """
        given = {VARIABLES["project"].name: project, VARIABLES["bucket"].name: bucket}
        for name, text in (("project", project), ("bucket", bucket)):
            try:
                VARIABLES[name].read(text)
            except ValueError as error:
                raise InputError(f"--{name}: {quoted(text)} is not {VARIABLES[name].wanted}; correct it") from error
        own = {"project", "bucket"}
        wanted = {
            name: each
            for name, each in VARIABLES.items()
            if name in own or not (each.deployed or name.startswith("vm_"))  # no VM is started from here
        }
        values = _read({**environment, **given}, wanted)
        return cls(**values, zones=(), vm_service_account="")


@dataclass(frozen=True)
class Variable:
    """One environment variable."""

    name: str
    meaning: str
    wanted: str  # what its text must be, in words
    read: Callable[[str], Any]  # of that text; raises ValueError
    required: bool = False
    secret: bool = False
    deployed: bool = True  # False: for the emulator alone, as Google's clients know their own endpoints


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


_address = _matching(r"https?://[^\s/]+/[^\s]*")
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


def _flag(text: str) -> bool:
    return _matching("true|false")(text) == "true"


def _limits(text: str) -> Limits:
    found: Limits = reader(Limits)(json.loads(text))  # both raise ValueError
    for number in (found.concurrency, found.family_concurrency, found.trigger_failures):
        if number is not None and number < 1:
            raise ValueError(number)
    for seconds in (found.max_keep, found.retry_for, found.retry_disk_for):
        if not 0 <= seconds < math.inf:
            raise ValueError(seconds)
    for family, rule in found.retire_images.items():
        check_name(family)
        if not (1 <= rule.keep <= MOST_RETAINED and 0 <= rule.older_than < math.inf):
            raise ValueError(family)
    for family, budget in found.budgets.items():
        if family != EVERY_FAMILY:
            check_name(family)
        if not (0 < budget.dollars < math.inf and 0 < budget.per <= LONGEST_BUDGET):
            raise ValueError(family)
    return found


def _channels(text: str) -> Channels:
    try:
        return read_channels(text)
    except InputError as error:
        raise ValueError(str(error)) from error


def _people(text: str) -> People:
    try:
        return read_people(text)
    except InputError as error:
        raise ValueError(str(error)) from error


def _webhooks(text: str) -> tuple[Webhook, ...]:
    from ..webhooks.webhook import read_webhooks  # one function alone has any

    try:
        return read_webhooks(text)
    except InputError as error:
        raise ValueError(str(error)) from error


def _emulated(name: str, meaning: str, wanted: str, read: Callable[[str], Any]) -> Variable:
    return Variable(name, meaning, wanted, read, deployed=False)


_AN_URL = "a URL without a path: http://127.0.0.1:8080"
_AN_ADDRESS = "a host and a port: 127.0.0.1:8085"

VARIABLES: Mapping[str, Variable] = {
    "project": Variable(
        "GOLDSMITH_PROJECT",
        "the project of builds and images whose spec names none",
        "a project's id: my-project",
        _matching(r"(?:[a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]"),  # with the domain before it, in old ones
        required=True,
    ),
    "bucket": Variable(
        "GOLDSMITH_BUCKET",
        "the one bucket: specs, contexts, cidata, results and logs",
        "a bucket's name, without gs://: my-project-goldsmith",
        _matching(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]"),
        required=True,
    ),
    "zones": Variable(
        "GOLDSMITH_ZONES",
        "the zones of builds whose spec names none, in the order in which they are tried",
        "zones with commas between them: us-central1-a,us-central1-b",
        _zones,
        required=True,
    ),
    "vm_service_account": Variable(
        "GOLDSMITH_VM_SERVICE_ACCOUNT",
        "the service account of build VMs, which may publish reports and nothing else",
        "the address of the build VMs' service account: vm@my-project.iam.gserviceaccount.com",
        _matching(r"[^@\s]+@[^@\s]+"),
        required=True,
    ),
    "master_key": Variable(
        "GOLDSMITH_MASTER_KEY",
        "the key from which the key of every VM is derived; only keyed functions have it",
        f"at least {KEY_BYTES} bytes in hex, a secret: openssl rand -hex {KEY_BYTES}",
        _key,
        secret=True,
    ),
    "delivery": Variable(
        "GOLDSMITH_DELIVERY", "how VMs get their files", "download or disk", _matching("download|disk")
    ),
    "limits": Variable(
        "GOLDSMITH_LIMITS",
        "what specs may ask for; shared/build/limits.py has the keys",
        'limits as JSON: {"max_disk_gb": 200, "gpu_types": []}',
        _limits,
    ),
    "channels": Variable(
        "GOLDSMITH_CHANNELS",
        "the channels that images can be promoted to",
        'channels as JSON: {"dev": {}, "prod": {}}',
        _channels,
    ),
    "people": Variable(
        "GOLDSMITH_PEOPLE",
        "the people that a deployment knows by their addresses, and their folders",
        'people as JSON: {"ann": {"addresses": ["ann@example.com"], "folder": true}}',
        _people,
    ),
    "secure_boot": Variable(
        "GOLDSMITH_SECURE_BOOT", "whether all VMs are Shielded VMs with Secure Boot", "true or false", _flag
    ),
    "maker_image": Variable(
        "GOLDSMITH_MAKER_IMAGE",
        "the image that VMs boot from which make a root from nothing",
        f"an image or the newest of a family: {MAKER_IMAGE}",
        _matching(IMAGE_PATH),
    ),
    "webhooks": Variable(
        "GOLDSMITH_WEBHOOKS",
        "who is told of finished builds; only call_webhooks has it",
        "webhooks as JSON, a secret; see docs/deployment.md",
        _webhooks,
        secret=True,
    ),
    "signing_key": Variable(
        "GOLDSMITH_SIGNING_KEY",
        "the version of a key of Cloud KMS that signs what is stated of images; only label_image has it",
        "a version of a key: projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY/cryptoKeyVersions/1",
        _matching(KEY_VERSION),
    ),
    "iap_audience": Variable(
        "GOLDSMITH_IAP_AUDIENCE",
        "the Cloud Run service behind Identity-Aware Proxy that is the dashboard; only dashboard has it",
        "a service: /projects/NUMBER/locations/REGION/services/NAME",
        _matching(r"/projects/[0-9]{1,20}/locations/[a-z0-9-]{1,40}/services/[a-z0-9-]{1,63}"),
    ),
    "otlp_endpoint": Variable(
        "GOLDSMITH_OTLP_ENDPOINT",
        "the collector of OpenTelemetry that traces of builds are sent to; send_spans and call_webhooks have it",
        "a URL without a path: https://telemetry.googleapis.com",
        _url,
    ),
    "vm_pubsub_url": _emulated("GOLDSMITH_VM_PUBSUB_URL", "Pub/Sub, as build VMs reach it", _AN_URL, _url),
    "vm_storage_url": _emulated("GOLDSMITH_VM_STORAGE_URL", "signed URLs, as build VMs reach them", _AN_URL, _url),
    "certificates_url": _emulated(
        "GOLDSMITH_CERTIFICATES_URL", "what identity tokens are signed with", "a URL of certificates", _address
    ),
    "iap_keys_url": _emulated(
        "GOLDSMITH_IAP_KEYS_URL", "what Identity-Aware Proxy signs with", "a URL of public keys", _address
    ),
    "vm_secrets_url": _emulated("GOLDSMITH_VM_SECRETS_URL", "Secret Manager, as build VMs reach it", _AN_URL, _url),
    "compute_endpoint": _emulated("GOLDSMITH_COMPUTE_ENDPOINT", "Compute Engine", _AN_URL, _url),
    "storage_endpoint": _emulated(STORAGE_EMULATOR, "Cloud Storage", _AN_URL, _url),
    "kms_endpoint": _emulated("GOLDSMITH_KMS_ENDPOINT", "Cloud KMS", _AN_URL, _url),
    "secrets_endpoint": _emulated("GOLDSMITH_SECRETS_ENDPOINT", "Secret Manager", _AN_URL, _url),
    "monitoring_endpoint": _emulated("GOLDSMITH_MONITORING_ENDPOINT", "Cloud Monitoring", _AN_URL, _url),
    "pubsub_host": _emulated("PUBSUB_EMULATOR_HOST", "Pub/Sub, without TLS", _AN_ADDRESS, _host),
    "firestore_host": _emulated("FIRESTORE_EMULATOR_HOST", "Firestore, without TLS", _AN_ADDRESS, _host),
    "credentials_file": _emulated(
        "GOOGLE_APPLICATION_CREDENTIALS", "the key of the service account that the emulator has made", "a file", str
    ),
}
"""Every variable, by the field that it becomes; the default of one that is not required is the field's.

terraform/ sets those that are deployed, and a test holds it to this table. The emulator sets all of them.
"""
