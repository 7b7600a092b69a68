"""Make the plan of a build: a pure function of the spec and the resolved source.

Nothing here looks anything up or reads a clock: what has to be known comes in as values, so that the same spec,
source and request give the same plan, byte for byte, on every machine.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from provisioner.protocol import KEPT_ANSIBLE, DiskLayout, Step

from ..architectures import ARM64
from ..build.block_devices.disk_layout import RECLAIMING, SEAL, disk_layout, needed_disk_gb
from ..build.identity import build_id, content_digest, image_labels, image_name, request_digest, suffixed_name
from ..build.image.description import with_facts
from ..build.image.secure_boot import SecureBootKeys
from ..build.machine_types import default_disk_type, is_known, processor_of
from ..build.plan import (
    MAKER_SPACE,
    Allowance,
    AskedElements,
    CachePlan,
    Context,
    Deprecation,
    EngineKind,
    ImageCopyPlan,
    ImagePlan,
    MachinePlan,
    OriginPlan,
    Plan,
    SourceImage,
    VerifyMachinePlan,
)
from ..build.proxy import ProxyPlan
from ..context.outside import packed_inputs
from ..errors import InputError
from ..names import LOCAL
from ..quantities import format_size
from .origins import CHROOT_ACTIONS, with_origin

if TYPE_CHECKING:  # a tenth of a second of pydantic, which readers of plans do not need
    from ..spec.model import Output, Spec, SpecStep, Verify

SCRATCH_GB = 10  # the toolchain that builds a GPU driver's kernel modules, unpacked, and what it makes
CACHE_AGE = 86_400.0  # seconds for which results of steps that could reach other hosts are used, if nothing is said
OWN_FILES = {
    "run-script": ("script",),
    "copy-files": ("source",),
    "install-gpu": ("deps_dir",),
    "install-anthos": ("package_spec",),
    "elements": ("path",),
    "ansible": ("playbook", "roles", "requirements"),
}
"""The inputs of each action that name a file of the context, or some folders."""
ELEMENTS = "elements"
CHECKS_STEP, RESTART_STEP = "built-in checks", "restart of the VM"  # no step of a spec has a space in its name
_PATTERN = re.compile(r"[*?[]")
NEEDS_SCRATCH = "install-gpu"
_ARM_EXAMPLES, _OTHER_EXAMPLES = "c4a-standard-1 or t2a-standard-1", "e2-standard-2 or n2-standard-2"
_NO_KERNEL = "{} has no kernel; add packages with a kernel and an init system to what it is made of"


def make_plan(
    spec: Spec,
    *,
    source: SourceImage,
    context: Context | None,
    request: bytes | str,
    requested: float,
    provisioner_version: str,
    date: int | None = None,
    documents: Mapping[AskedElements, str] | None = None,
    origin: OriginPlan | None = None,
) -> Plan:
    """Plan a build of `spec` from `source`, asked for by `request` at `requested` (Unix seconds).

    `date` is the SOURCE_DATE_EPOCH that the caller has chosen instead of the source's own date; `documents` are those
    of steps of elements; `origin` is what a source from nothing is made of, where that is a build VM's work.
    Raises InputError, naming the key, for what only shows with the source: a disk that is too small, a name that is
    too long, too many labels.
    """
    _check_processor(spec, source)
    longest, read = spec.build.timeout, documents or {}
    steps = _steps(spec.steps, source.architecture, longest, read)
    verify_steps = _verify_steps(spec.verify, source.architecture, longest, read) if spec.verify else None
    disk_size_gb = _disk_size(spec.output.disk_size_gb, source)
    layout = _layout(spec.output.oem_size, steps, source, disk_size_gb)
    verification = _verification(spec.verify)
    engine: EngineKind = "vm" if origin is not None else _engine(spec, steps, layout, source)
    digest = content_digest(
        source.id,
        steps,
        verify_steps,
        context.digest if context else None,
        provisioner_version,
        layout=layout,
        sbom_input=spec.output.sbom.input if spec.output.sbom else None,
        **(verification | {"verify_machines": [asdict(each) for each in verification.get("verify_machines", ())]}),
        engine=engine,
        reproducible=spec.output.reproducible,
        date=date,
        image=_beside_disk(spec.output),
    )
    return Plan(
        build_id=build_id(spec.name, request),
        request=request_digest(request),
        name=spec.name,
        requested=requested,
        source=source,
        content_digest=digest,
        image=_image(spec, source, build_id(spec.name, request), requested, digest, disk_size_gb, origin),
        machine=_machine(spec, steps, layout, _machine_gb(source, origin, layout, disk_size_gb), engine),
        steps=steps if origin is None else with_origin(steps, origin, longest),
        context=context,
        verify_steps=verify_steps,
        **verification,
        keep_failed=spec.verify is not None and spec.verify.keep_failed,
        layout=layout,
        hygiene=spec.hygiene.findings,
        allow=(*(Allowance(entry.path, entry.why) for entry in spec.hygiene.allow), *_examples_of_ansible(spec)),
        timeout=spec.build.timeout,
        rebuild=spec.rebuild,
        attempts=spec.build.attempts,
        silence=spec.build.silence,
        source_date=(int(source.created) or None) if date is None else date,
        cache=cache_plan(spec),
        origin=origin,
        approvals={name: asked.approvals for name, asked in spec.channels.items()},
    )


def _machine_gb(source: SourceImage, origin: OriginPlan | None, layout: DiskLayout | None, disk_size_gb: int) -> int:
    """Return the gigabytes of the VM's boot disk when it is made."""
    if origin is not None:
        return origin.maker.disk_size_gb + MAKER_SPACE * disk_size_gb
    return source.disk_size_gb if layout else disk_size_gb


def numbered_image(plan: Plan, number: int) -> ImagePlan:
    """Return the image of a plan under its name's `number`, as one of those that its spec makes on one day.

    An archive that is named for its image keeps to that. A name that a person has chosen has no numbers.
    """
    before = plan.image
    if not before.numbered:
        return before
    name = image_name(plan.name, plan.requested, plan.content_digest) + (f"-{number}" if number > 1 else "")
    export, own = before.export_to, f"/{before.name}.tar.gz"
    if export is not None and export.endswith(own):
        export = f"{export.removesuffix(own)}/{name}.tar.gz"
    return replace(before, name=name, export_to=export)


def _steps(
    steps: Iterable[SpecStep], architecture: str, longest: float, documents: Mapping[AskedElements, str]
) -> tuple[Step, ...]:
    """Return the steps that this architecture runs; none may take longer than the build."""
    return tuple(
        Step(
            name=step.name,
            action=step.action,
            inputs=_inputs(step, documents),
            timeout=min(step.timeout or longest, longest),
            retries=step.retries,
            idempotent=step.idempotent,
            secrets=step.secrets,
            reads=None if step.reads is None else (*step.reads, *_own_files(step)),
            network=step.network,
            cache=step.cache,
        )
        for step in steps
        if step.when is None or step.when.arch == architecture
    )


def _verify_steps(
    verify: Verify, architecture: str, longest: float, documents: Mapping[AskedElements, str]
) -> tuple[Step, ...]:
    """Return the built-in checks, then the spec's steps: the checks look at what the boot alone has made.

    Where a restart is wanted, it comes last, and the checks that mean something then.
    """
    asked = {"boot_seconds": verify.boot_seconds, "disk_gb": verify.disk_gb, "skip": list(verify.skip)}
    inputs = {key: value for key, value in asked.items() if value}
    checks = Step(CHECKS_STEP, "check-image", inputs, timeout=longest, reads=())
    last: tuple[Step, ...] = ()
    if verify.restart:
        again = {"again": True, **({"skip": list(verify.skip)} if verify.skip else {})}
        last = (
            Step(RESTART_STEP, "reboot", {}, timeout=longest, reads=()),
            Step(f"{CHECKS_STEP} after the restart", "check-image", again, timeout=longest, reads=()),
        )
    return (checks, *_steps(verify.steps, architecture, longest, documents), *last)


def _verification(verify: Verify | None) -> dict[str, Any]:
    """Return what counts for the content digest of a verification, beside its steps."""
    if verify is None:
        return {}
    return {
        "allow_failed": verify.allow_failed,
        "verify_boot": verify.boot or "",
        "verify_machines": tuple(VerifyMachinePlan(**dict(each)) for each in verify.machines),
    }


def _inputs(step: SpecStep, documents: Mapping[AskedElements, str]) -> Mapping[str, Any]:
    """Return a step's inputs as the build machine gets them."""
    inputs = packed_inputs(step.action, step.inputs)
    if step.action != ELEMENTS:
        return inputs
    return {**inputs, "documents": documents.get((tuple(step.inputs["elements"]), tuple(step.inputs["path"])), "")}


def _examples_of_ansible(spec: Spec) -> Iterator[Allowance]:
    """Yield what an image that keeps ansible-core has: passwords in the examples of its documentation."""
    if any(step.action == "ansible" and step.inputs["keep"] for step in spec.steps):
        yield Allowance(f"{KEPT_ANSIBLE}/ansible/plugins/inventory/*.py", "examples in Ansible's own documentation")


def _own_files(step: SpecStep) -> Iterator[str]:
    """Yield patterns of the files of the context that a step's inputs name."""
    inputs = packed_inputs(step.action, step.inputs)
    for key in OWN_FILES.get(step.action, ()):
        places = inputs.get(key)
        for place in [places] if isinstance(places, str) else places or ():
            yield "**" if place == "." else _PATTERN.sub(r"[\g<0>]", place)


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
    spec: Spec,
    source: SourceImage,
    build: str,
    requested: float,
    digest: str,
    disk_size_gb: int,
    origin: OriginPlan | None,
) -> ImagePlan:
    output = spec.output
    if output.name_suffix is not None:
        name = suffixed_name(source.name, output.name_suffix)
    else:
        name = output.name or image_name(spec.name, requested, digest)
    inherited = source.labels if output.inherit_labels else {}
    old, export, sbom = output.deprecate_old, output.export, output.sbom
    planned = ImagePlan(
        project=output.project or spec.build.project or LOCAL,
        name=name,
        family=output.family,
        description=with_facts(spec.description, _facts(source, build, requested, digest))
        or _description(source, origin),
        labels=image_labels(inherited, output.labels, build, source.name, digest),
        licenses=output.licenses,
        guest_os_features=output.guest_os_features,
        storage_locations=output.storage_locations,
        kms_key=output.kms_key,
        secure_boot_keys=_secure_boot_keys(output),
        share=output.share,
        copies=_copies(output, output.project or spec.build.project or LOCAL),
        disk_size_gb=disk_size_gb,
        deprecate_old=Deprecation(old.ttl, old.keep) if old else None,
        export_to=export_place(export.to, name) if export else None,
        compression=export.compression if export else "fast",
        formats=output.formats,
        sbom_input=sbom.input if sbom else None,
        sbom_to=sbom.to if sbom else None,
        own_labels=output.own_labels,
        numbered=not (output.name or output.name_suffix),
    )
    planned.check_copies()
    return planned


def export_place(to: str, name: str) -> str:
    """Return where the archive of an image goes: in a folder of a bucket it has the image's name."""
    return f"{to}{name}.tar.gz" if to.endswith("/") else to


def _copies(output: Output, project: str) -> tuple[ImageCopyPlan, ...]:
    """Return the copies of the image."""
    return tuple(
        ImageCopyPlan(each.project or project, each.name, each.storage_location, each.kms_key or output.kms_key)
        for each in output.copies
    )


def _beside_disk(output: Output) -> Mapping[str, Any]:
    """Return what counts for the content digest; images of specs without such keys keep their digests."""
    keys = _secure_boot_keys(output)
    asked = {
        "guest_os_features": sorted(output.guest_os_features),
        "storage_locations": list(output.storage_locations),
        "kms_key": output.kms_key,
        "secure_boot_keys": None if keys is None else asdict(keys),
    }
    return {key: value for key, value in asked.items() if value}


def _secure_boot_keys(output: Output) -> SecureBootKeys | None:
    keys = output.secure_boot_keys
    return None if keys is None else SecureBootKeys(keys.pk, keys.kek, keys.db, keys.dbx)


def _facts(source: SourceImage, build: str, requested: float, digest: str) -> Mapping[str, str]:
    """Return what a description can refer to."""
    return {
        "source.project": source.project,
        "source.name": source.name,
        "source.family": source.family or "",
        "build.id": build,
        "build.date": f"{datetime.fromtimestamp(requested, UTC):%Y-%m-%d}",
        "build.digest": digest,
    }


def _description(source: SourceImage, origin: OriginPlan | None) -> str:
    if origin is not None:
        return f"Made from nothing: {source.name}."
    return f"Derivative of projects/{source.project}/global/images/{source.name}."


def _engine(spec: Spec, steps: tuple[Step, ...], layout: DiskLayout | None, source: SourceImage) -> EngineKind:
    """Return what the steps run in. On Google Cloud that is always a VM; InputError for steps that need one."""
    engine = _possible_engine(spec, steps, layout, source)
    if spec.output.reproducible and _project(spec) != LOCAL:
        raise InputError(
            "output.reproducible: only one machine gives the same bytes each time, in its chroot engine; leave the key "
            f"out for a build in {_project(spec)}"
        )
    if spec.output.reproducible and engine != "chroot":
        raise InputError(
            "output.reproducible: a VM writes its disk as its kernel likes, and only the chroot engine of one machine "
            "gives the same bytes each time; write local.engine: chroot, or leave the key out"
        )
    return engine


def _check_processor(spec: Spec, source: SourceImage) -> None:
    """Raise InputError where a machine type of Google Cloud cannot boot the source. One machine emulates any."""
    types = [("build.machine_type", spec.build.machine_type)]
    verifiers = enumerate(spec.verify.machines if spec.verify is not None else ())
    types += [(f"verify.machines[{index}].machine_type", each.machine_type or "") for index, each in verifiers]
    for key, machine_type in types:
        has = processor_of(machine_type)
        if _project(spec) != LOCAL and has.name != source.architecture and is_known(machine_type):
            fitting = _ARM_EXAMPLES if source.architecture == ARM64.name else _OTHER_EXAMPLES
            raise InputError(
                f"{key}: {machine_type} has {has.name} processors, and the source image {source.project}/{source.name} "
                f"is for {source.architecture}; write a type such as {fitting}, or name a source for {has.name}"
            )


def _project(spec: Spec) -> str:
    """Return where a build's machine is."""
    return spec.build.project or spec.output.project or LOCAL


def _possible_engine(spec: Spec, steps: tuple[Step, ...], layout: DiskLayout | None, source: SourceImage) -> EngineKind:
    asked = spec.local.engine
    if spec.source.elements is not None and "engine" not in spec.local.model_fields_set:
        asked = "auto"
    if not source.bootable:
        _refuse_vm(spec, source, asked)
    elif asked == "vm" or _project(spec) != LOCAL:
        return "vm"
    booted = [step for step in steps if step.action not in CHROOT_ACTIONS]
    reason = source.needs_vm or (spec.disk.needs_vm if spec.disk is not None else None)
    if not source.native:
        if asked == "auto" and source.bootable:
            return "vm"
        remedy = "write engine: vm or auto" if source.bootable else _NO_KERNEL.format(source.name)
        raise InputError(
            f"local.engine: chroot runs programs of the image on this machine's processor, and {source.name} is for "
            f"{source.architecture}; {remedy}"
        )
    if not booted and layout is None and reason is None:
        return "chroot"
    if asked == "auto" and source.bootable:
        return "vm"
    what = f"step {booted[0].name!r} ({booted[0].action})" if booted else "the disk layout of output.oem_size"
    what = f"the disk ({reason})" if reason is not None and not booted else what
    remedy = "write engine: vm or auto" if source.bootable else f"{_NO_KERNEL.format(source.name)}"
    raise InputError(f"local.engine: {what} needs a booted system, which chroot does not have; {remedy}")


def _refuse_vm(spec: Spec, source: SourceImage, asked: str) -> None:
    """Raise InputError where a source without a kernel would have to boot."""
    if asked == "vm":
        other = ", or write chroot" if source.native else ""
        raise InputError(f"local.engine: vm boots the source, and {_NO_KERNEL.format(source.name)}{other}")
    if spec.verify is not None and spec.source.elements is None:  # the steps of elements install a kernel
        raise InputError(f"verify: boots the image, and {_NO_KERNEL.format(source.name)}, or leave verify out")


def cache_plan(spec: Spec) -> CachePlan:
    """Return what may be taken from earlier builds: on one machine, and nothing of networks where all is to be new."""
    project = spec.build.project or spec.output.project or LOCAL
    if project != LOCAL:
        return CachePlan()
    age = spec.cache.max_age
    if age is None:
        age = 0.0 if spec.rebuild == "always" and "rebuild" in spec.model_fields_set else CACHE_AGE
    return CachePlan(enabled=True, max_age=age)


def _machine(
    spec: Spec, steps: tuple[Step, ...], layout: DiskLayout | None, disk_size_gb: int, engine: EngineKind
) -> MachinePlan:
    build, local = spec.build, spec.local
    return MachinePlan(
        project=build.project or spec.output.project or LOCAL,
        zones=build.zones,
        machine_type=build.machine_type,
        disk_type=build.disk_type or default_disk_type(build.machine_type),
        disk_size_gb=disk_size_gb,
        scratch_gb=SCRATCH_GB if any(step.action == NEEDS_SCRATCH for step in steps) else 0,
        network=build.network,
        subnet=build.subnet,
        external_ip=build.external_ip,
        service_account=build.service_account,
        gpu_type=build.gpu_type,
        spot=build.spot,
        secure_boot=build.secure_boot,
        kms_key=spec.output.kms_key,
        engine=engine,
        boot="firmware" if layout else local.boot,  # partitions are moved between boots, by the boot loader's help
        internet=local.network,
        cpus=local.cpus,
        memory_mb=local.memory_mb,
        proxy=_proxy(spec),
        reproducible=spec.output.reproducible,
    )


def _proxy(spec: Spec) -> ProxyPlan | None:
    """Return the proxies of this machine's site. Google Cloud has none."""
    proxy, project = spec.local.proxy, spec.build.project or spec.output.project or LOCAL
    if proxy is None or project != LOCAL:
        return None
    return ProxyPlan(proxy.http, proxy.https, proxy.no_proxy, proxy.ca, proxy.credentials)
