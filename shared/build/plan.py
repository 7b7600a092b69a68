"""The plan of a build: names, disks, machine, job, deadline. planning/ makes it from a spec and its resolved source."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from provisioner.protocol import CHECK_ACTIONS, VERIFY, DiskLayout, Step

from ..errors import InputError
from ..names import LOCAL, NAME_LENGTH
from .block_devices.description import DiskDescription
from .identity import without_own
from .image.secure_boot import SecureBootKeys
from .machine_types import default_disk_type
from .proxy import ProxyPlan

EngineKind = Literal["vm", "chroot"]
"""What the steps run in: a machine, or the image's root file system in namespaces of its own."""


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
    created: float = 0.0  # Unix seconds: what its contents date from; 0 where that is not known
    bootable: bool = True  # False where it is known to have no kernel
    native: bool = True  # False where this machine's processor does not run its programs
    needs_vm: str = ""  # why only a machine that runs from its disk can change its files, where it was made here


@dataclass(frozen=True)
class SpecPlace:
    """Where the spec of a plan was read, so that what is there later can be built."""

    uri: str  # of the object, or path on this machine
    parameters: dict[str, str] = field(default_factory=dict)
    packed: str | None = None  # the contexts that the uploader has packed, as the request has them
    source: dict[str, Any] = field(default_factory=dict)  # the keys of `source` that say which image it is
    generation: str = ""  # of the object; "" where it is not known which one was read


OriginKind = Literal["bootstrap", "rootfs", "oci", "elements"]
"""The key of a source from nothing, which has files and no disk."""


GROWTH = 6  # of its image's size, the part by which the disk of a VM that verifies is larger
MAKER_SPACE = 2
"""Times the image's disk, of the maker VM's boot disk: the root as it was made, and with the steps' changes."""


@dataclass(frozen=True)
class OriginPlan:
    """A root that a build VM of Google Cloud makes from nothing, on a disk of its own, of which the image is taken."""

    kind: OriginKind
    maker: SourceImage  # that the VM boots from
    disk_size_gb: int
    asked: dict[str, Any] = field(default_factory=dict)  # the keys of source.bootstrap or source.elements
    place: str = ""  # in the context: of the archive or the layout; of a bootstrap's keyring, or of the elements' image
    disk: DiskDescription | None = None  # None: the default one, or that of the elements
    verified: bool = False  # the image will be booted, and has to have a kernel


AskedElements = tuple[tuple[str, ...], tuple[str, ...]]
"""The elements that a step names, and its path."""


@dataclass(frozen=True)
class Context:
    """The files that the steps see as their working directory, packed."""

    uri: str  # gs://bucket/object, or the path of an archive on this machine
    digest: str  # SHA-256 over the sorted members' paths, modes and contents, in hex
    size: int  # bytes of the archive


@dataclass(frozen=True)
class Deprecation:
    """The deprecation of a family's older images once the new one is in it."""

    ttl_seconds: float | None = None  # from then to `deleted`; None: no such time
    keep: int = 0  # how many of the newest older images stay active


@dataclass(frozen=True)
class ImageCopyPlan:
    """A copy of the published image, in another project or another location."""

    project: str
    name: str | None = None  # None: the image's; in its own project, that with the location
    storage_location: str | None = None  # None for the nearest multi-region
    kms_key: str | None = None  # None: Google's own

    def name_for(self, image: ImagePlan) -> str:
        """Return the name of the copy of an image."""
        if self.name is not None:
            return self.name
        return image.name if self.project != image.project else f"{image.name}-{self.storage_location}"


@dataclass(frozen=True)
class ImagePlan:
    """The image that will be made."""

    project: str
    name: str
    family: str | None = None
    description: str = ""
    labels: dict[str, str] = field(default_factory=dict)  # until it is published, and from then on, but for our own
    licenses: tuple[str, ...] = ()
    disk_size_gb: int = 10
    deprecate_old: Deprecation | None = None
    export_to: str | None = None  # gs://bucket/object.tar.gz, or a path on this machine
    compression: str = "fast"  # of the export: fast or best
    formats: tuple[str, ...] = ()  # of the export, whose other files have its name; () for the archive alone
    sbom_input: str | None = None  # URI or path of the user's own list of packages
    numbered: bool = False  # the name is made here, and gets a number where it is taken: NAME-DATE-DIGEST, then -2 ...
    sbom_to: str | None = None  # URI or path of the SPDX document, beside the one with the results
    own_labels: bool = True  # whether our own labels stay once the image is published
    same_as: str | None = None  # path on this machine of a disk that the image has to be the same as
    secure_boot_keys: SecureBootKeys | None = None  # None: those of the source; on Google Cloud only
    guest_os_features: tuple[str, ...] = ()  # beside those of the source
    storage_locations: tuple[str, ...] = ()  # () for the nearest multi-region; on Google Cloud only
    kms_key: str | None = None  # None: Google's own. On Google Cloud only
    share: tuple[str, ...] = ()  # members that may use the published image; on Google Cloud only
    copies: tuple[ImageCopyPlan, ...] = ()  # on Google Cloud only
    files_only: bool = False  # the image is published, and stays as it is: the build writes files of it, and no more

    def check_copies(self) -> None:
        """Raise InputError for a copy that is where the image is, or whose name is too long or taken by another."""
        taken = {(self.project, self.name)}
        for copy in self.copies:
            if copy.project == self.project and copy.storage_location is None:
                raise InputError(
                    f"output.copies: project {self.project} has the image; write a storage_location for its copy"
                )
            place = copy.project, copy.name_for(self)
            if len(place[1]) > NAME_LENGTH:
                raise InputError(
                    f"output.copies: {place[1]} is longer than {NAME_LENGTH} characters; give the copy a name"
                )
            if place in taken:
                raise InputError(
                    f"output.copies: there are two images of one name in project {place[0]}; give one of the copies "
                    "a name"
                )
            taken.add(place)

    @property
    def is_distributed(self) -> bool:
        """Return whether others get the image once it is published, which images of one machine are not."""
        return self.project != LOCAL and bool(self.share or self.copies)

    @property
    def is_followed_up(self) -> bool:
        """Return whether something is left to do once the image is published."""
        return self.deprecate_old is not None or self.is_distributed

    @property
    def published_labels(self) -> dict[str, str]:
        """Return the labels of the published image."""
        return self.labels if self.own_labels else without_own(self.labels)


@dataclass(frozen=True)
class MachinePlan:
    """The VM the steps run on."""

    project: str
    zones: tuple[str, ...] = ()
    machine_type: str = "n1-standard-1"
    disk_type: str = "pd-standard"
    disk_size_gb: int = 10  # when it is made; a layout may want it larger later
    scratch_gb: int = 0  # of a blank disk beside it, which no image is made of; 0: none
    network: str | None = None
    subnet: str | None = None
    external_ip: bool = False
    service_account: str | None = None
    gpu_type: str | None = None
    spot: bool = False
    secure_boot: bool = False  # with vTPM and integrity monitoring: a Shielded VM
    engine: EngineKind = "vm"  # chroot: on one machine only
    boot: str = "direct"  # one machine only: direct or firmware
    internet: bool = True  # one machine only: whether the guest may reach other hosts
    cpus: int = 2  # one machine only
    memory_mb: int = 1024  # one machine only
    proxy: ProxyPlan | None = None  # one machine only
    reproducible: bool = False  # chroot only: the root file system is written anew, as the same bytes each time
    kms_key: str | None = None  # of all its disks, and of the image that brings its files; on Google Cloud only
    hold: float = 0.0  # one machine only: seconds for which a failed step leaves the machine to a person; 0: none


@dataclass(frozen=True)
class VerifyMachinePlan:
    """One of several VMs that verify the image: what it has of its own."""

    name: str
    machine_type: str | None = None  # None, as for all others: what the build VM has, or `verify` says
    boot: str | None = None  # one machine only
    cpus: int | None = None  # one machine only
    memory_mb: int | None = None  # one machine only
    boot_seconds: int | None = None
    timeout: float | None = None  # seconds, from its start

    def machine(self, build: MachinePlan) -> MachinePlan:
        """Return what it runs on, where the build VM runs on `build`. Another type has no GPU of that one's."""
        plan = replace(
            build,
            boot=self.boot or build.boot,
            cpus=self.cpus or build.cpus,
            memory_mb=self.memory_mb or build.memory_mb,
        )
        if self.machine_type in (None, build.machine_type):
            return plan
        return replace(
            plan, machine_type=self.machine_type, disk_type=default_disk_type(self.machine_type), gpu_type=None
        )

    def steps(self, steps: Iterable[Step]) -> tuple[Step, ...]:
        """Return the steps of verification as this VM runs them: within its time, and its budget for the boot."""
        return tuple(self._step(step) for step in steps)

    def _step(self, step: Step) -> Step:
        inputs = step.inputs
        if self.boot_seconds is not None and step.action in CHECK_ACTIONS and not inputs.get("again"):
            inputs = {**inputs, "boot_seconds": self.boot_seconds}
        return replace(step, inputs=inputs, timeout=min(step.timeout, self.timeout or step.timeout))


@dataclass(frozen=True)
class Allowance:
    """A path at which a finding of the hygiene check is allowed, and the reason."""

    path: str  # absolute; each of its parts may have one `*`
    why: str


@dataclass(frozen=True)
class CachePlan:
    """The use of what earlier builds have left of the same steps; on one machine only."""

    enabled: bool = False
    max_age: float = 0.0  # seconds, of results that could have come from other hosts
    first: int | None = None  # the first step that has to be run, whatever there is; None: the first that has to be


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
    layout: DiskLayout | None = None  # of Container-Optimized OS's partitions; None: as they are
    hygiene: str = "fail"  # what a finding in the finished image leads to: fail or warn
    allow: tuple[Allowance, ...] = ()
    timeout: float = 3600.0  # seconds from the request, or from the end of its time in the queue, to the deadline
    rebuild: Literal["always", "changed"] = "always"  # changed: not when an image of this content is published
    attempts: int = 3
    allow_failed: tuple[str, ...] = ()  # units that may have failed in the image that is verified
    keep_failed: bool = False  # an image that fails its verification stays for a while, to be looked at
    verify_machines: tuple[VerifyMachinePlan, ...] = ()  # that all verify the image; () for one VM without a name
    verify_boot: str = ""  # one machine only: direct or firmware, of the VM that verifies; "" for that of the machine
    silence: float = 300.0  # seconds without a sign of life after which the VM counts as hung
    source_date: int | None = None  # SOURCE_DATE_EPOCH of the steps, in Unix seconds; None: they have none
    cache: CachePlan = field(default_factory=CachePlan)
    origin: OriginPlan | None = None  # on Google Cloud only: what the source is made of; None: the source is an image
    keep_disk: float = (
        0.0  # on Google Cloud only: seconds for which the boot disk of a step that fails is kept; 0: none
    )
    retry_for: float = 0.0  # seconds for which an image waits for a retry; 0: it is deleted
    retry_disk_for: float = 0.0  # on Google Cloud only: the same of the boot disk, where no image could be made of it
    exporter: SourceImage | None = None  # on Google Cloud only: what the VM boots from that writes the image's files
    spec: str = ""  # of one with triggers: what tells its requests, with these parameters; "": none supersedes another
    read_from: SpecPlace | None = None  # None: not known, or the spec lies nowhere, or is one of several of a workflow
    author: str = ""  # the mail address of the person who has written all of it, which is proved; "": not known
    approvals: Mapping[str, int] = field(default_factory=dict)  # that its image needs at least, by channel

    def verifier(self, name: str) -> VerifyMachinePlan | None:
        """Return one of the VMs that verify; None for "", which stands for the only one. ValueError."""
        found = [each for each in self.verify_machines if each.name == name]
        if name and not found:
            raise ValueError(f"the plan of build {self.build_id} has no verify machine {name!r}")
        return found[0] if name else None

    def verifier_number(self, name: str) -> int:
        """Return which of the VMs that verify one is, from 1; 0 for the only one. ValueError as of verifier()."""
        found = self.verifier(name)
        return 0 if found is None else self.verify_machines.index(found) + 1

    def verifying_machines(self) -> Iterator[tuple[str, MachinePlan]]:
        """Yield what the VMs that verify run on, with their names; none where the image is not verified."""
        if self.verify_steps is None:
            return
        boot = self.verify_boot or self.machine.boot
        machine = replace(self.machine, disk_size_gb=self.image.disk_size_gb, scratch_gb=0, boot=boot)
        found = [(each.name, each.machine(machine)) for each in self.verify_machines] or [("", machine)]
        yield from ((name, self._grown(each)) for name, each in found)

    def _grown(self, machine: MachinePlan) -> MachinePlan:
        """Return a VM that verifies with a disk larger than the image, where the image has to grow with it by itself.

        It has to be more than what the check takes for the file system's own tables.
        """
        asked = next((step.inputs for step in self.verify_steps or () if step.action in CHECK_ACTIONS), {})
        skipped = {"disk", "growth"} & {*asked.get("skip", ())}
        if skipped or not must_grow(machine, VERIFY):
            return machine
        return replace(machine, disk_size_gb=machine.disk_size_gb + max(1, -(-machine.disk_size_gb // GROWTH)))


def must_grow(machine: MachinePlan, phase: str) -> bool:
    """Return whether an image has to grow by itself: in a direct boot, the host and the provisioner make it grow."""
    return phase == VERIFY and (machine.project != LOCAL or machine.boot == "firmware")
