"""What will be made: names, disks, machine, job, deadline. A pure function of the spec and the resolved source.

Nothing here looks anything up or reads a clock: what has to be known comes in as values, so that the same spec,
source and request give the same plan, byte for byte, on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from provisioner.protocol import Step


@dataclass(frozen=True)
class SourceImage:
    """The image a build starts from, as it was when it was resolved."""

    project: str
    name: str
    id: str  # never reused, unlike the name: Compute Engine's numeric id, or the local catalogue's digest
    family: str | None = None
    architecture: str = "x86_64"
    disk_size_gb: int = 10
    labels: dict[str, str] = field(default_factory=dict)
    licenses: tuple[str, ...] = ()


@dataclass(frozen=True)
class Context:
    """The files that the steps see as their working directory, packed."""

    uri: str  # gs://bucket/object, or the path of an archive on this machine
    digest: str  # SHA-256 over the sorted members' paths, modes and contents, in hex
    size: int  # bytes of the archive


@dataclass(frozen=True)
class Deprecation:
    """What happens to the older images of the family once the new one is in it."""

    ttl_seconds: float | None = None  # from then to `deleted`; None: no such time
    keep: int = 0  # how many of the newest older images stay active


@dataclass(frozen=True)
class ImagePlan:
    """The image that will be made."""

    project: str
    name: str
    family: str | None = None
    description: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    licenses: tuple[str, ...] = ()
    disk_size_gb: int = 10
    deprecate_old: Deprecation | None = None
    export_to: str | None = None  # gs://bucket/object.tar.gz, or a path on this machine
    compression: str = "fast"  # of the export: fast or best


@dataclass(frozen=True)
class MachinePlan:
    """The VM the steps run on."""

    project: str
    zones: tuple[str, ...] = ()
    machine_type: str = "n1-standard-1"
    disk_type: str = "pd-standard"
    disk_size_gb: int = 10
    network: str | None = None
    subnet: str | None = None
    external_ip: bool = False
    service_account: str | None = None
    gpu_type: str | None = None
    spot: bool = False
    boot: str = "direct"  # one machine only: direct or firmware
    internet: bool = True  # one machine only: whether the guest may reach other hosts
    cpus: int = 2  # one machine only
    memory_mb: int = 1024  # one machine only


@dataclass(frozen=True)
class Plan:
    """All of a build that is known before anything is made."""

    build_id: str
    request: str  # the whole SHA-256 of what asked for this build, in hex; the build id holds its first 12 digits
    name: str  # the spec's
    requested: float  # Unix seconds
    source: SourceImage
    content_digest: str  # SHA-256, hex; what `rebuild: changed` compares
    image: ImagePlan
    machine: MachinePlan
    steps: tuple[Step, ...]
    context: Context | None = None
    verify_steps: tuple[Step, ...] | None = None  # None: the image is not asked to be verified
    timeout: float = 3600.0  # seconds from the request to the deadline
    attempts: int = 3
    silence: float = 300.0  # seconds without a sign of life after which the VM counts as hung
