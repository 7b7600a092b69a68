"""The adapters in use, with what workers need beside them. runtime/ opens a backend."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from .build.image.channels import Channels, no_channels
from .build.image.people import People, no_people
from .build.limits import FAILURES
from .identities import Identities
from .keys import Keys, Signer
from .ports import Bucket, Bus, Clock, Compute, Progress, SecretVersions, Store


@dataclass(frozen=True)
class ReportTarget:
    """The address to which this backend's build VMs send their reports."""

    publish_url: str  # Pub/Sub's REST `...:publish`
    token_url: str | None  # the metadata server's access token; None where none is needed
    port: str = "/dev/ttyS2"  # serial port 3, beside the console
    of_contents: bool = False  # whether VMs tell what is on their disk, into which the host cannot look
    secrets_url: str = ""  # Secret Manager's, where VMs fetch secrets themselves
    linger: float = 0.0  # seconds that a VM stays up with what it could only say there


@dataclass(frozen=True)
class Backend:
    """Everything a worker needs of the world."""

    compute: Compute
    store: Store
    bucket: Bucket
    bus: Bus
    clock: Clock
    keys: Keys
    reports: ReportTarget
    logs: str  # URI or folder with {build_id} in it: where the consoles of a build's VMs are kept
    progress: Progress
    adopted_families: Collection[str]  # whose older images may be deprecated although builds did not make them; *: all
    concurrency: int | None  # builds that have VMs, or are about to, at once; None: any number
    channels: Callable[[], Channels] = field(default=no_channels, kw_only=True)  # of the deployment. InputError
    family_concurrency: int | None = field(default=None, kw_only=True)  # of one family; None: any number
    trigger_failures: int = field(default=FAILURES, kw_only=True)  # in a row, after which a trigger is paused
    identities: Identities | None = field(default=None, kw_only=True)  # None: an approval is a record, and no border
    secret_versions: SecretVersions | None = field(default=None, kw_only=True)  # where specs may name the latest
    people: Callable[[], People] = field(default=no_people, kw_only=True)  # of the deployment
    signer: Signer | None = field(default=None, kw_only=True)  # of what is stated of images; None: nothing is
