"""The shape of a spec, as closed models. docs/spec.md describes the same, key by key, for users.

Types with their checks are in fields.py and actions.py, rules between keys in rules.py; read.py turns text into a
Spec. Values are held as the rest of the code wants them: durations in seconds, sizes in bytes, lists as tuples. This
module imports pydantic, which takes a tenth of a second: import it only where a spec is read.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from provisioner.protocol import CHECKS

from ..build.image.channels import MOST_CHANNELS
from ..build.image.description import LONGEST_DESCRIPTION
from .actions import Action, ElementNames, ElementsEnvironment, ElementsPath, Inputs
from .closed import Closed, Rules
from .fields import (
    LONGEST_BOOT,
    MOST_ALLOWED,
    MOST_COPIES,
    MOST_SECRETS,
    MOST_VERIFIERS,
    OR_FINDINGS,
    Age,
    AllowanceReason,
    AllowedPath,
    Arch,
    ArchivePackage,
    AskedApprovals,
    BuiltInCheck,
    ChannelName,
    CloudProject,
    Component,
    Cpus,
    DescribedDisk,
    DirectHosts,
    DiskSize,
    ExportTarget,
    Flag,
    Formats,
    GuestFeatures,
    KmsKey,
    Labels,
    Licenses,
    LocalFile,
    MachinePart,
    MemoryMb,
    Mirror,
    Name,
    NameSuffix,
    Network,
    OemSize,
    OutputName,
    OutputPlace,
    ParameterName,
    Period,
    PlaceOrFolder,
    Project,
    ProxyUrl,
    Reads,
    Release,
    RootRoom,
    SecretPlace,
    SecretVariable,
    SecureBootKey,
    SecureBootKeyList,
    ServiceAccount,
    SharedWith,
    Silence,
    SpecName,
    StepName,
    StorageLocation,
    StorageLocations,
    Subnetwork,
    Timeout,
    TimeToLive,
    Unit,
    VerifierName,
    Whole,
    Zone,
)
from .rules import (
    copy_rules,
    local_rules,
    output_rules,
    proxy_rules,
    secure_boot_rules,
    source_rules,
    spec_rules,
    step_rules,
    trigger_rules,
    verify_rules,
)


class Bootstrap(Closed):
    """A root file system of a distribution's packages."""

    distribution: Literal["debian", "ubuntu"]
    release: Release
    packages: tuple[ArchivePackage, ...] = ()
    mirror: Mirror | None = None
    components: tuple[Component, ...] = ()
    keyring: OutputPlace | None = None
    variant: Literal["cloud", "essential", "apt", "minbase", "buildd", "important", "standard"] = "cloud"
    architecture: Arch = "x86_64"


class SourceElements(Closed):
    """A root file system that elements of diskimage-builder make."""

    elements: ElementNames
    path: ElementsPath = ("elements",)
    env: ElementsEnvironment = Field(default_factory=dict)
    room: RootRoom | None = None


class Source(Closed):
    """The image to start from."""

    rules: ClassVar[Rules] = source_rules

    project: Project | None = None
    image: Name | None = None
    family: Name | None = None
    milestone: Annotated[Whole, Field(ge=1)] | None = None
    arch: Arch | None = None
    file: OutputPlace | None = None
    rootfs: OutputPlace | None = None
    oci: OutputPlace | None = None
    bootstrap: Bootstrap | None = None
    elements: SourceElements | None = None


class When(Closed):
    """When a step runs; it is left out otherwise."""

    arch: Arch


class SpecStep(Closed):
    """One action on the build VM, as written. Unlike on the wire, no timeout means the build's."""

    rules: ClassVar[Rules] = step_rules

    name: StepName
    action: Action
    inputs: Inputs = Field(default_factory=dict, validate_default=True)
    timeout: Timeout | None = None
    retries: Whole = Field(default=0, ge=0, le=10)
    when: When | None = None
    idempotent: Flag = True
    reads: Reads | None = None
    network: Flag = True
    cache: Flag = True
    secrets: Annotated[dict[SecretVariable, SecretPlace], Field(max_length=MOST_SECRETS)] = Field(default_factory=dict)


Steps = Annotated[tuple[SpecStep, ...], Field(max_length=100)]


class VerifyMachine(Closed):
    """One of several VMs that verify the image side by side."""

    name: VerifierName
    machine_type: MachinePart | None = None
    boot: Literal["direct", "firmware"] | None = None
    cpus: Cpus | None = None
    memory_mb: MemoryMb | None = None
    boot_seconds: Annotated[Whole, Field(ge=1, le=LONGEST_BOOT)] | None = None
    timeout: Timeout | None = None


class Verify(Closed):
    """What a VM booted from the new image has to show: built-in checks, budgets, and steps that run on it."""

    rules: ClassVar[Rules] = verify_rules

    steps: Steps = ()
    allow_failed: Annotated[tuple[Unit, ...], Field(max_length=MOST_ALLOWED)] = ()
    boot: Literal["direct", "firmware"] | None = None
    boot_seconds: Annotated[Whole, Field(ge=1, le=LONGEST_BOOT)] | None = None
    disk_gb: DiskSize | None = None
    keep_failed: Flag = False
    machines: Annotated[tuple[VerifyMachine, ...], Field(max_length=MOST_VERIFIERS)] = ()
    restart: Flag = False
    skip: Annotated[tuple[BuiltInCheck, ...], Field(max_length=len(CHECKS))] = ()


class DeprecateOld(Closed):
    """The deprecation of the family's older images."""

    ttl: TimeToLive | None = None
    keep: Whole = Field(default=0, ge=0, le=1000)


class Export(Closed):
    """An archive of the image."""

    to: ExportTarget
    compression: Literal["fast", "best"] = "fast"


class Sbom(Closed):
    """The list of the image's packages, beside the one that goes with the build's results."""

    input: OutputPlace | None = None
    to: PlaceOrFolder | None = None


class SpecSecureBootKeys(Closed):
    """The keys of Secure Boot that the image brings to its VMs."""

    rules: ClassVar[Rules] = secure_boot_rules

    pk: SecureBootKey | None = None
    kek: SecureBootKeyList = ()
    db: SecureBootKeyList = ()
    dbx: SecureBootKeyList = ()


class SpecCopy(Closed):
    """A copy of the published image: in another project, in another location, or both."""

    rules: ClassVar[Rules] = copy_rules

    project: CloudProject | None = None
    name: OutputName | None = None
    storage_location: StorageLocation | None = None
    kms_key: KmsKey | None = None


class Output(Closed):
    """The image that will be made."""

    rules: ClassVar[Rules] = output_rules

    project: Project | None = None
    name: OutputName | None = None
    name_suffix: NameSuffix | None = None
    family: OutputName | None = None
    labels: Labels = Field(default_factory=dict)
    inherit_labels: Flag = False
    own_labels: Flag = True
    licenses: Licenses = ()
    guest_os_features: GuestFeatures = ()
    storage_locations: StorageLocations = ()
    kms_key: KmsKey | None = None
    secure_boot_keys: SpecSecureBootKeys | None = None
    disk_size_gb: DiskSize | None = None
    oem_size: OemSize | None = None
    deprecate_old: DeprecateOld | None = None
    share: SharedWith = ()
    copies: Annotated[tuple[SpecCopy, ...], Field(max_length=MOST_COPIES)] = ()
    export: Export | None = None
    formats: Formats = ()
    reproducible: Flag = False
    sbom: Sbom | None = None


class BuildOptions(Closed):
    """The VM that the steps run on, and how long it may take."""

    project: Project | None = None
    zones: tuple[Zone, ...] = ()
    machine_type: MachinePart = "n1-standard-1"
    disk_type: MachinePart | None = None
    network: Network | None = None
    subnet: Subnetwork | None = None
    external_ip: Flag = False
    service_account: ServiceAccount | None = None
    gpu_type: MachinePart | None = None
    spot: Flag = False
    secure_boot: Flag = False
    timeout: Timeout = 3600.0
    attempts: Whole = Field(default=3, ge=1, le=10)
    silence: Silence = 300.0


class ProxyOptions(Closed):
    """The proxies and certificate authorities that the steps need where this machine stands."""

    rules: ClassVar[Rules] = proxy_rules

    http: ProxyUrl | None = None
    https: ProxyUrl | None = None
    no_proxy: DirectHosts = ()
    ca: LocalFile | None = None
    credentials: LocalFile | None = None


class LocalOptions(Closed):
    """Settings of a build on one machine; the cloud does not read them."""

    rules: ClassVar[Rules] = local_rules

    engine: Literal["vm", "chroot", "auto"] = "vm"
    boot: Literal["direct", "firmware"] = "direct"
    network: Flag = True
    cpus: Cpus = 2
    memory_mb: MemoryMb = 1024
    proxy: ProxyOptions | None = None


class Cache(Closed):
    """The use of results that earlier builds on one machine have left."""

    max_age: Age | None = None


class SpecAllowance(Closed):
    """A path at which a finding is allowed, and the reason."""

    path: AllowedPath
    why: AllowanceReason


class Hygiene(Closed):
    """The consequence of findings in the finished image, and the allowed ones."""

    findings: Literal["fail", "warn"] = "fail"
    allow: Annotated[tuple[SpecAllowance, ...], Field(max_length=MOST_ALLOWED)] = ()


class SpecChannel(Closed):
    """What the spec asks for beyond the deployment, where its images are promoted to one channel."""

    approvals: AskedApprovals


class Triggers(Closed):
    """What a spec is built again for, without being asked for."""

    rules: ClassVar[Rules] = trigger_rules

    source_changed: Flag = False
    spec_changed: Flag = False
    every: Period | None = None


class Spec(Closed):
    """One image build, as a person writes it."""

    rules: ClassVar[Rules] = spec_rules

    name: SpecName
    description: str = Field(default="", max_length=LONGEST_DESCRIPTION)
    source: Source
    disk: DescribedDisk = None
    context: OutputPlace | None = None
    parameters: dict[ParameterName, str] = Field(default_factory=dict)
    steps: Steps
    verify: Verify | None = None
    output: Output = Field(default_factory=Output)
    build: BuildOptions = Field(default_factory=BuildOptions)
    hygiene: Annotated[Hygiene, OR_FINDINGS] = Field(default_factory=Hygiene)
    channels: Annotated[dict[ChannelName, SpecChannel], Field(max_length=MOST_CHANNELS)] = Field(default_factory=dict)
    rebuild: Literal["always", "changed"] = "always"
    triggers: Triggers | None = None
    local: LocalOptions = Field(default_factory=LocalOptions)
    cache: Cache = Field(default_factory=Cache)
