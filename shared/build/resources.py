"""The names of everything that a build may make, and the ledger entries that are written before it is made.

Names are a function of the build alone, so that a redelivered order finds what an earlier one made, and a sweep can
tell which build a resource belongs to. A machine's cidata is deleted with it.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import PurePosixPath
from typing import Any

from provisioner.protocol import BUILD, EXPORT, QEMU_FORMATS, VERIFY

from ..names import ATTEMPT_LABEL, BUILD_LABEL, EXPIRES_LABEL, OWN_NAMES
from ..quantities import GIB
from ..topology import RESULTS
from .build import Build, ImageDocument, LedgerEntry, Outcome, State
from .export_formats import CHECKSUM, EXPORT_FORMATS, GCE
from .machine_types import is_moved, smallest_disk_gb
from .orders import OrderKind
from .plan import MachinePlan, Plan

EXPIRY_MARGIN = 3600.0  # seconds after the deadline in which the build itself still cleans up


def resource_name(build_id: str, attempt: int, what: str) -> str:
    """`gs-BUILDID-aN-WHAT`: 63 characters at most, since a build id has 45 at most and `what` 10."""
    return f"{OWN_NAMES}{build_id}-a{attempt}-{what}"


def machine_name(build_id: str, attempt: int, phase: str, number: int = 0) -> str:
    """The VM of an attempt: one that builds, verifies or writes files; of several that verify, that of a number."""
    return resource_name(build_id, attempt, "vm" if phase == BUILD else f"{phase}{number or ''}")


def boot_disk_name(build_id: str, attempt: int, phase: str, number: int = 0) -> str:
    """The VM's boot disk. The building one outlives its VM: the next attempt goes on with it."""
    if phase == BUILD:
        return resource_name(build_id, 1, "boot")
    return resource_name(build_id, attempt, f"vboot{number}" if number else f"{phase}boot")


def scratch_disk_name(build_id: str, attempt: int) -> str:
    """The blank disk of a building VM, for what must not be in the image. It goes with its VM."""
    return resource_name(build_id, attempt, "scratch")


def root_disk_name(build_id: str, attempt: int) -> str:
    """The second disk of a maker VM, of which the image is taken. It goes with its VM."""
    return resource_name(build_id, attempt, "root")


def exported_disk_name(build_id: str, attempt: int) -> str:
    """The disk of the finished image, which the VM reads that writes its files."""
    return resource_name(build_id, attempt, "exportdisk")


def image_disk_name(plan: Plan, attempt: int) -> str:
    """The disk that the image is made of."""
    return boot_disk_name(plan.build_id, 1, BUILD) if plan.origin is None else root_disk_name(plan.build_id, attempt)


def source_disk(build: Build, plan: Plan) -> str:
    """The disk that the image is made of, which a retry may have of an earlier build."""
    return build.disk.name if build.disk is not None else image_disk_name(plan, build.attempt)


def grown_gb(plan: Plan) -> int:
    """The size in GB that the boot disk gets once its VM asks for it; 0 where it stays as it was made."""
    wanted = plan.layout.disk_size if plan.layout else None
    return -(-wanted // GIB) if wanted else 0


def labels(build_id: str, attempt: int, deadline: float) -> dict[str, str]:
    """Return the labels of a machine or disk. A sweep deletes what has outlived `goldsmith-expires`."""
    expires = deadline + EXPIRY_MARGIN
    return {BUILD_LABEL: build_id, ATTEMPT_LABEL: str(attempt), EXPIRES_LABEL: str(int(expires))}


def of_machine(plan: Plan, attempt: int, phase: str, number: int = 0) -> tuple[LedgerEntry, ...]:
    """Ledger entries of a VM and its disks, in the order in which they are deleted.

    A scratch disk, and that of a root, is deleted with its VM; it has an entry for when it was made, and the VM was
    not.
    """
    project = plan.machine.project
    made = (
        LedgerEntry("machine", machine_name(plan.build_id, attempt, phase, number), project),
        LedgerEntry("disk", boot_disk_name(plan.build_id, attempt, phase, number), project),
    )
    if phase == EXPORT:
        return (*made, LedgerEntry("disk", exported_disk_name(plan.build_id, attempt), project))
    if phase != BUILD:
        return made
    blank = [scratch_disk_name(plan.build_id, attempt)] if plan.machine.scratch_gb else []
    blank += [root_disk_name(plan.build_id, attempt)] if plan.origin is not None else []
    return (*made, *(LedgerEntry("disk", name, project) for name in blank))


def of_verifiers(plan: Plan, attempt: int, machine: str = "") -> tuple[LedgerEntry, ...]:
    """Ledger entries of the VMs that verify, or of the one of that name. ValueError where the plan has none such."""
    several = len(plan.verify_machines) if not machine else 0
    numbers = range(1, several + 1) if several else (plan.verifier_number(machine),)
    return tuple(entry for number in numbers for entry in of_machine(plan, attempt, VERIFY, number))


def of_image(plan: Plan, rewrites: int = 0) -> tuple[LedgerEntry, ...]:
    """Ledger entries of the image and, when an export is asked for, of its files under all their staged names."""
    image = () if plan.image.files_only else (LedgerEntry("image", plan.image.name, plan.image.project),)
    targets = export_targets(plan).values()
    names = [staged(target, plan.build_id, time) for time in range(rewrites + 1) for target in targets]
    return (*image, *(LedgerEntry("object", name) for name in names))


def of_order(
    plan: Plan, kind: OrderKind, attempt: int, machine: str = "", rewrites: int = 0
) -> tuple[LedgerEntry, ...]:
    """Ledger entries of everything that an order may make; of verify_image without a machine, that of all of them."""
    if kind == "create_resources":
        return of_machine(plan, attempt, BUILD)
    if kind == "verify_image":
        return of_verifiers(plan, attempt, machine)
    if kind == "label_image":
        return tuple(LedgerEntry("object", staged(name, plan.build_id)) for name in beside_archive(plan))
    if kind != "export_image":
        return ()
    return (*of_image(plan, rewrites), *(of_machine(plan, attempt, EXPORT) if plan.exporter is not None else ()))


def image_document(build: Build) -> ImageDocument | None:
    """Return the store's record of a build's image; None where another build keeps it.

    A queued build has no claim to its image's name: it is looked for when its turn comes.
    """
    plan, image = build.plan, build.image
    if plan is None or plan.image.files_only or build.outcome is Outcome.UNCHANGED or build.state is State.QUEUED:
        return None
    known = ImageDocument(
        plan.image.project,
        plan.image.name,
        build.id,
        plan.content_digest,
        author=plan.author,
        approvals=plan.approvals,
    )
    if image is not None:
        known = replace(known, state="made", id=image.id)
    if build.outcome is Outcome.SUCCEEDED:
        verified, source = plan.verify_steps is not None, plan.source.id
        return replace(known, state="published", verified=verified, source_id=source, replaced=build.replaced)
    if build.kept_until:
        held = plan.retry_for > 0 if build.unfit else not build.keeps_fit  # what is unfit, its build says as well
        return replace(known, state="held" if held else "kept", until=build.kept_until)
    owed = any(entry.kind == "image" for entry in build.ledger) or waits_with_disk(build)
    return known if build.outcome is None or owed else replace(known, state="gone")


def waits_with_disk(build: Build) -> bool:
    """Return whether a build keeps its boot disk for a retry: its image's name is its own as long as it does.

    That is what a retry takes over, in one write, and the disk with it.
    """
    return build.failed_in is State.EXPORTING and kept_disk(build) is not None


def kept_disk(build: Build) -> LedgerEntry | None:
    """Return the boot disk that is kept, of a build that failed in a step, or whose image could not be made."""
    return next((entry for entry in build.ledger if entry.kind == "disk" and entry.keep), None)


def kept_disk_json(build: Build) -> dict[str, Any] | None:
    """Return the boot disk that is kept as a JSON object: until when, in Unix seconds, and how it may be booted."""
    disk = kept_disk(build)
    if disk is None:
        return None
    known = {key: value for key, value in asdict(disk).items() if key in ("project", "zone", "name")}
    return {**known, "until": build.disk_until, "boot": list(boot_commands(build))}


def boot_commands(build: Build) -> tuple[str, ...]:
    """Return the command lines that boot the kept disk, open a shell there, and delete the VM again; () without one.

    The VM gets no service account: the steps of a failed build may have left anything there. The disk outlives it. One
    that a retry makes an image of is not booted: that would be in the image.
    """
    disk = kept_disk(build)
    if disk is None or build.plan is None or waits_with_disk(build):
        return ()
    machine, vm = build.plan.machine, f"look-{build.id}"
    place = [vm, f"--project={disk.project}", f"--zone={disk.zone}"]
    create = [f"--machine-type={machine.machine_type}", f"--disk=name={disk.name},boot=yes,auto-delete=no"]
    create += [f"--network={_whole(machine.network or '', disk.project)}"] * bool(machine.network)
    create += [f"--subnet={_whole(machine.subnet or '', disk.project)}"] * bool(machine.subnet)
    create += ["--no-service-account", "--no-scopes"] + ["--no-address"] * (not machine.external_ip)
    create += [f"--accelerator=type={machine.gpu_type},count=1"] * bool(machine.gpu_type)
    stays = machine.gpu_type or not is_moved(machine.machine_type)
    create += ["--maintenance-policy=TERMINATE"] * bool(stays)  # Compute Engine refuses its default for these
    create += [f"--shielded-{part}" for part in ("secure-boot", "vtpm", "integrity-monitoring")] * machine.secure_boot
    tunnel = ["--tunnel-through-iap"] * (not machine.external_ip)
    instances = ["gcloud", "compute", "instances"]
    commands = (
        [*instances, "create", *place, *create],
        ["gcloud", "compute", "ssh", *place, *tunnel],
        [*instances, "delete", *place],
    )
    return tuple(map(shlex.join, commands))


def _whole(name: str, project: str) -> str:
    """Return a network or subnetwork as gcloud reads it: it takes `regions/R/subnetworks/N` for the name alone."""
    return f"projects/{project}/{name}" if name.startswith(("global/", "regions/")) else name


def is_in(entry: LedgerEntry, entries: Iterable[LedgerEntry]) -> bool:
    """Return whether one of the entries is of the same thing, whatever is known of its zone and whether it is kept."""
    return any((entry.kind, entry.project, entry.name) == (one.kind, one.project, one.name) for one in entries)


def staged_export(plan: Plan) -> str:
    """Return the name of the archive before publication gives it its own."""
    target = plan.image.export_to
    assert target is not None, "only asked where the plan has an export"
    return staged(target, plan.build_id)


def export_targets(plan: Plan) -> dict[str, str]:
    """Return the name of each file of the export by its format: the archive's, and others that begin like it."""
    target = plan.image.export_to
    if target is None:
        return {}
    if not plan.image.formats:
        return {GCE: target}
    stem = archive_stem(target)
    return {known: stem + EXPORT_FORMATS[known].ending for known in plan.image.formats}


def exporter_gb(plan: Plan) -> int:
    """Return the size in GB of the boot disk of the VM that writes the files: one at a time may lie there first."""
    assert plan.exporter is not None, "only asked where the plan has one"
    files = any(known in QEMU_FORMATS for known in plan.image.formats)
    needed = plan.exporter.disk_size_gb + (plan.image.disk_size_gb + 1 if files else 0)
    return max(needed, smallest_disk_gb(plan.machine.disk_type))


def made_in_order(plan: Plan) -> Iterator[str]:
    """Yield in words what a build makes on Google Cloud, in this order. BUILD stands for its id."""
    image, machine = plan.image, plan.machine
    yield _vm_in_words(machine_name("BUILD", 1, BUILD), machine)
    yield f"image {image.name}, {image.disk_size_gb} GB, in no family yet"
    if plan.exporter is not None:
        writer = replace(machine, disk_size_gb=exporter_gb(plan), scratch_gb=0)
        yield _vm_in_words(machine_name("BUILD", 1, EXPORT), writer)
        yield from export_targets(plan).values()
    for name, verifier in plan.verifying_machines():
        yield _vm_in_words(machine_name("BUILD", 1, VERIFY, plan.verifier_number(name)), verifier)
    if image.family is not None:
        yield f"image {image.name} joins family {image.family}"
    yield from (f"image {copy.name_for(image)} in project {copy.project}" for copy in image.copies)


def _vm_in_words(name: str, machine: MachinePlan) -> str:
    scratch = f" and {machine.scratch_gb} GB" if machine.scratch_gb else ""
    return f"VM {name}, {machine.machine_type}, {machine.disk_size_gb} GB{scratch} {machine.disk_type}"


def checksums(plan: Plan) -> dict[str, str]:
    """Return the name of the file with each exported file's checksum, by its format; the archive alone has none."""
    return {known: name + CHECKSUM for known, name in export_targets(plan).items()} if plan.image.formats else {}


def staged(name: str, build_id: str, rewrites: int = 0) -> str:
    """Return the name of a file before publication gives it its own: a hidden one in the same folder.

    A VM that writes files in the place of another one has names of its own: that may have written some.
    """
    folder, slash, last = name.rpartition("/")
    again = f"r{rewrites}." if rewrites else ""
    return f"{folder}{slash}.{build_id}.{again}{last}"


def beside_archive(plan: Plan) -> tuple[str, ...]:
    """The files that publication shows beside an export: its manifest, bill of materials and checksums."""
    target = plan.image.export_to
    if target is None:
        return ()
    return (manifest_of(target), *sbom_names(archive_stem(target)), *checksums(plan).values())


def archive_stem(export: str) -> str:
    """Return the beginning of the names beside an archive: FOLDER/NAME for FOLDER/NAME.tar.gz."""
    name = PurePosixPath(export).name
    return export[: -len(name)] + name.removesuffix(".tar.gz")


def manifest_of(export: str) -> str:
    """The manifest beside an archive: NAME.json for NAME.tar.gz."""
    return archive_stem(export) + ".json"


def results_stem(build: Build, folder: str) -> str:
    """Return the beginning of the names beside a build's result object; without one, they lie below `folder`."""
    if build.result:
        return build.result.removesuffix(".json")
    return f"{folder}/{build.plan.image.name if build.plan else build.name}"


def is_in_results(uri: str, build: Build) -> bool:
    """Return whether an object lies below results/ in the bucket that the build's own result is in."""
    own, folder, _name = build.result.partition(f"/{RESULTS}")
    return bool(folder) and uri.startswith(own + folder)


def sbom_names(stem: str) -> tuple[str, str]:
    """The bill of materials, as SPDX and as CycloneDX."""
    return stem + ".spdx.json", stem + ".cdx.json"


def statement_name(stem: str, *, signed: bool) -> str:
    """The statement about an image's origin: an envelope, as in-toto names files of those, or by itself."""
    return stem + (".intoto.jsonl" if signed else ".intoto.json")
