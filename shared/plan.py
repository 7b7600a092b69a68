"""What will be made: names, disks, machine, job, deadline. A pure function of the spec and the resolved source.

Nothing here looks anything up or reads a clock: what has to be known comes in as values, so that the same spec,
source and request give the same plan, byte for byte, on every machine.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from provisioner.protocol import DiskLayout, Step

from .errors import InputError
from .identity import build_id, content_digest, image_labels, image_name, request_digest, suffixed_name
from .names import LOCAL
from .oem_size import RECLAIMING, SEAL, disk_layout, needed_disk_gb
from .quantities import format_size

if TYPE_CHECKING:  # a tenth of a second of pydantic, which readers of plans do not need
    from .spec import Spec, SpecStep

SCRATCH_GB = 10  # the toolchain that builds a GPU driver's kernel modules, unpacked, and what it makes
NEEDS_SCRATCH = "install-gpu"

__all__ = ["Context", "Deprecation", "ImagePlan", "MachinePlan", "Plan", "SourceImage", "build_id", "make_plan"]


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
    sbom_input: str | None = None  # URI or path of the user's own list of packages
    numbered: bool = False  # the name is made here, and gets a number where it is taken: NAME-DATE-DIGEST, then -2 ...
    sbom_to: str | None = None  # URI or path of the SPDX document, beside the one with the results


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
    boot: str = "direct"  # one machine only: direct or firmware
    internet: bool = True  # one machine only: whether the guest may reach other hosts
    cpus: int = 2  # one machine only
    memory_mb: int = 1024  # one machine only


@dataclass(frozen=True)
class Allowance:
    """Where a finding of the hygiene check is allowed, and why."""

    path: str  # absolute; each of its parts may have one `*`
    why: str


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
    timeout: float = 3600.0  # seconds from the request to the deadline
    attempts: int = 3
    silence: float = 300.0  # seconds without a sign of life after which the VM counts as hung


def make_plan(
    spec: Spec,
    *,
    source: SourceImage,
    context: Context | None,
    request: bytes | str,
    requested: float,
    provisioner_version: str,
    number: int = 1,
) -> Plan:
    """Plan a build of `spec` from `source`, asked for by `request` at `requested` (Unix seconds).

    `number` is that of the image among those that the same spec has made on that day.

    Raises InputError, naming the key, for what only shows with the source: a disk that is too small, a name that is
    too long, too many labels.
    """
    steps = _steps(spec.steps, source.architecture, spec.build.timeout)
    verify_steps = _steps(spec.verify.steps, source.architecture, spec.build.timeout) if spec.verify else None
    disk_size_gb = _disk_size(spec.output.disk_size_gb, source)
    layout = _layout(spec.output.oem_size, steps, source, disk_size_gb)
    sbom_input = spec.output.sbom.input if spec.output.sbom else None
    packed = context.digest if context else None
    digest = content_digest(
        source.id, steps, verify_steps, packed, provisioner_version, layout=layout, sbom_input=sbom_input
    )
    return Plan(
        build_id=build_id(spec.name, request),
        request=request_digest(request),
        name=spec.name,
        requested=requested,
        source=source,
        content_digest=digest,
        image=_image(spec, source, build_id(spec.name, request), requested, digest, disk_size_gb, number),
        machine=_machine(spec, steps, layout, source.disk_size_gb if layout else disk_size_gb),
        steps=steps,
        context=context,
        verify_steps=verify_steps,
        layout=layout,
        hygiene=spec.hygiene.findings,
        allow=tuple(Allowance(entry.path, entry.why) for entry in spec.hygiene.allow),
        timeout=spec.build.timeout,
        attempts=spec.build.attempts,
        silence=spec.build.silence,
    )


def _steps(steps: Iterable[SpecStep], architecture: str, longest: float) -> tuple[Step, ...]:
    """Give the steps that this architecture runs; none may take longer than the build."""
    return tuple(
        Step(
            name=step.name,
            action=step.action,
            inputs=step.inputs,
            timeout=min(step.timeout or longest, longest),
            retries=step.retries,
            idempotent=step.idempotent,
        )
        for step in steps
        if step.when is None or step.when.arch == architecture
    )


def _disk_size(asked: int | None, source: SourceImage) -> int:
    if asked is not None and asked < source.disk_size_gb:
        raise InputError(
            f"output.disk_size_gb: {asked} GB is less than the {source.disk_size_gb} GB of the source image "
            f"{source.project}/{source.name}; write {source.disk_size_gb} or more, or leave the key out"
        )
    return asked or source.disk_size_gb


def _layout(oem_size: int | None, steps: tuple[Step, ...], source: SourceImage, disk_size_gb: int) -> DiskLayout | None:
    """Lay the disk out; the spec was held to the usual disk of 10 GB, and the source's may be larger."""
    actions = {step.action for step in steps}
    reclaim = not actions.isdisjoint(RECLAIMING)
    needed = needed_disk_gb(oem_size, sealed=SEAL in actions, reclaim=reclaim, image_gb=source.disk_size_gb)
    if oem_size is not None and disk_size_gb < needed:
        raise InputError(
            f"output.disk_size_gb: {disk_size_gb} GB cannot hold the {source.disk_size_gb} GB of the source image "
            f"{source.project}/{source.name} and an oem_size of {format_size(oem_size)}; write at least {needed}"
        )
    return disk_layout(oem_size, actions, image_gb=source.disk_size_gb, disk_gb=disk_size_gb)


def _image(
    spec: Spec, source: SourceImage, build: str, requested: float, digest: str, disk_size_gb: int, number: int
) -> ImagePlan:
    output = spec.output
    if output.name_suffix is not None:
        name = suffixed_name(source.name, output.name_suffix)
    else:
        name = output.name or image_name(spec.name, requested, digest)
    if number > 1 and not (output.name or output.name_suffix):
        name = f"{name}-{number}"
    inherited = source.labels if output.inherit_labels else {}
    old, export, sbom = output.deprecate_old, output.export, output.sbom
    return ImagePlan(
        project=output.project or spec.build.project or LOCAL,
        name=name,
        family=output.family,
        description=spec.description or f"Derivative of {source.project}/{source.name}",
        labels=image_labels(inherited, output.labels, build, source.name, digest),
        licenses=output.licenses,
        disk_size_gb=disk_size_gb,
        deprecate_old=Deprecation(old.ttl, old.keep) if old else None,
        export_to=export.to if export else None,
        compression=export.compression if export else "fast",
        sbom_input=sbom.input if sbom else None,
        sbom_to=sbom.to if sbom else None,
        numbered=not (output.name or output.name_suffix),
    )


def _machine(spec: Spec, steps: tuple[Step, ...], layout: DiskLayout | None, disk_size_gb: int) -> MachinePlan:
    build, local = spec.build, spec.local
    return MachinePlan(
        project=build.project or spec.output.project or LOCAL,
        zones=build.zones,
        machine_type=build.machine_type,
        disk_type=build.disk_type,
        disk_size_gb=disk_size_gb,
        scratch_gb=SCRATCH_GB if any(step.action == NEEDS_SCRATCH for step in steps) else 0,
        network=build.network,
        subnet=build.subnet,
        external_ip=build.external_ip,
        service_account=build.service_account,
        gpu_type=build.gpu_type,
        spot=build.spot,
        boot="firmware" if layout else local.boot,  # partitions are moved between boots, by the boot loader's help
        internet=local.network,
        cpus=local.cpus,
        memory_mb=local.memory_mb,
    )
