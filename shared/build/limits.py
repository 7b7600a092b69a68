"""The limits that a deployment sets to specs: where VMs run, how large they are, how long they take. Pure.

The deployer sets limits for all authors of specs, so each plan is held to them before anything is made, independently
of the checks of the spec's reader. All that exceeds a limit is reported at once: its key, its value, the limit, and the
variable of terraform/ that sets it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from ..errors import InputError
from ..names import compute_path, written_member
from ..quantities import format_duration
from ..submission import split_uri
from .image.retire_rules import RetireRule
from .plan import MAKER_SPACE, ImagePlan, MachinePlan, Plan
from .resources import exporter_gb

ANY = ("*",)
FAILURES = 5
EVERY_FAMILY = "*"  # in budgets: all builds of the deployment together
OVER_BUDGET = "budgets: "  # how the reason of a request begins that a budget has no room for
_NETWORK = re.compile(r"(?:projects/([^/]+)/)?global/networks/([^/]+)")
_SUBNET = re.compile(r"(?:projects/([^/]+)/)?(regions/[^/]+/subnetworks/[^/]+)")
_POOLS = ("principal://", "principalSet://")
_SHOWN = 300  # characters of a value in a message
DEFAULT_NETWORK = "default"  # what Compute Engine takes where a spec names neither network nor subnetwork


@dataclass(frozen=True)
class FamilyBudget:
    """What the builds of a family may use, at list prices."""

    dollars: float
    per: float  # seconds that it looks back
    allow_unpriced: bool = False  # whether builds may use what no price is known of, which counts as nothing then


@dataclass(frozen=True)
class Limits:
    """The variables of terraform/ that have these names; None is no limit. The defaults refuse nothing."""

    subnets: tuple[str, ...] | None = None  # projects/PROJECT/regions/REGION/subnetworks/NAME
    external_ip_allowed: bool = True
    machine_types: tuple[str, ...] = ANY  # names, in which * stands for any characters
    gpu_types: tuple[str, ...] = ANY  # the same; () for no GPUs
    max_timeout: float | None = None  # seconds, from a build's request to its deadline: all attempts and steps together
    max_disk_gb: int | None = None  # of the image, and of the disks that the VM boots from
    max_keep: float = 0.0  # seconds for which the boot disk of a step that fails is kept, where that is asked for
    retry_for: float = 0.0  # seconds for which an image waits for a retry that could not be verified
    retry_disk_for: float = 0.0  # the same of a boot disk of which no image could be made
    kms_keys: tuple[str, ...] = ANY  # paths, in which * stands for any characters
    storage_locations: tuple[str, ...] = ANY  # of images
    share_with: tuple[str, ...] = (
        ANY  # members that specs may share their image with, in which * stands for any characters
    )
    copy_projects: tuple[str, ...] = ANY  # projects that specs may copy their image to
    export_buckets: tuple[str, ...] = ANY  # that specs may have their image's files written to
    vm_service_accounts: tuple[str, ...] | None = None  # those that specs with secrets may name; IAM limits all others
    concurrency: int | None = None  # builds that have VMs, or are about to, at once; all others are queued
    family_concurrency: int | None = None  # the same, of builds that make images of one family
    trigger_failures: int = FAILURES  # builds in a row that fail, after which the triggers of a spec are paused
    adopted_families: tuple[
        str, ...
    ] = ()  # whose older images `deprecate_old` may retire although builds did not make them; *: all
    retire_images: Mapping[str, RetireRule] = field(default_factory=dict)  # by family; no other image is ever deleted
    budgets: Mapping[str, FamilyBudget] = field(default_factory=dict)  # by family, or EVERY_FAMILY
    consumers: tuple[str, ...] = ()  # projects that use the images, beside the deployment's own


NO_LIMITS = Limits()


def check_limits(plan: Plan, limits: Limits) -> None:
    """Raise InputError when a plan asks for more than a deployment allows, with a line for each key."""
    if told := list(_violations(plan, limits)):
        raise InputError("\n".join(told))


def check_distribution(image: ImagePlan, limits: Limits) -> None:
    """Raise InputError when an image is to be given to others than a deployment allows."""
    if told := list(_distribution(image, limits)):
        raise InputError("\n".join(told))


def subnetworks(machine: MachinePlan) -> tuple[str, ...]:
    """Return the paths of the subnetworks that a machine may be put in, one for each region of its zones.

    A network without a subnetwork is one in auto mode, whose subnetworks have its name; Compute Engine refuses others.
    """
    path = compute_path(machine.subnet or machine.network or DEFAULT_NETWORK)
    project, name = machine.project, path
    if "/" in path:  # without a project, Compute Engine takes the machine's own
        match = (_SUBNET if machine.subnet else _NETWORK).fullmatch(path)
        if match is None:
            return (path,)
        project, name = match[1] or project, match[2]
        if machine.subnet:
            return (f"projects/{project}/{name}",)
    regions = dict.fromkeys(zone.rpartition("-")[0] for zone in machine.zones)
    return tuple(f"projects/{project}/regions/{region}/subnetworks/{name}" for region in regions)


def _violations(plan: Plan, limits: Limits) -> Iterator[str]:
    machine = plan.machine
    yield from _networks(machine, limits)
    if not _matches(machine.machine_type, limits.machine_types):
        yield _refused("build.machine_type", machine.machine_type, "machine_types", limits.machine_types)
    for index, verifier in enumerate(plan.verify_machines):
        if verifier.machine_type is not None and not _matches(verifier.machine_type, limits.machine_types):
            key = f"verify.machines[{index}].machine_type"
            yield _refused(key, verifier.machine_type, "machine_types", limits.machine_types)
    if machine.gpu_type is not None and not _matches(machine.gpu_type, limits.gpu_types):
        yield _refused("build.gpu_type", machine.gpu_type, "gpu_types", limits.gpu_types)
    if limits.max_timeout is not None and plan.timeout > limits.max_timeout:
        yield _refused(
            "build.timeout", format_duration(plan.timeout), "max_timeout", (format_duration(limits.max_timeout),)
        )
    yield from _disks(plan, limits.max_disk_gb)
    for location in plan.image.storage_locations:
        if not _matches(location, limits.storage_locations):
            yield _refused("output.storage_locations", location, "storage_locations", limits.storage_locations)
    if plan.image.kms_key is not None and not _matches(plan.image.kms_key, limits.kms_keys):
        yield _refused("output.kms_key", plan.image.kms_key, "kms_keys", limits.kms_keys)
    yield from _distribution(plan.image, limits)
    yield from _export(plan, limits)
    yield from _secrets(plan, limits)
    if plan.keep_disk and not limits.max_keep:  # else it is kept for less, which does no harm to the build
        yield (
            f"keep_on_failure: {format_duration(plan.keep_disk)} is refused: max_keep of this deployment is 0; "
            "leave it out, or ask those who deploy it to set max_keep"
        )


def _export(plan: Plan, limits: Limits) -> Iterator[str]:
    """Hold what a plan writes to buckets to the limits.

    A bill of materials may be written over what is there, and the buckets of exports have files of all authors.
    """
    others = plan.image.sbom_to or ""
    bucket = others.removeprefix("gs://").partition("/")[0] if others.startswith("gs://") else ""
    if bucket and bucket in limits.export_buckets:
        yield (
            f"output.sbom.to: {bucket} is one of export_buckets, where no file may be written over; name another "
            "bucket, or write output.export, which has bills of materials beside its files"
        )
    if plan.image.export_to is None:
        return
    bucket = split_uri(plan.image.export_to)[0]
    if not _matches(bucket, limits.export_buckets):
        yield _refused("output.export.to", bucket, "export_buckets", limits.export_buckets)
    disk_gb = exporter_gb(plan) if plan.exporter is not None else 0
    if limits.max_disk_gb is not None and disk_gb > limits.max_disk_gb:
        yield _refused(
            "output.formats: the disk of the VM that writes them",
            f"{disk_gb} GB",
            "max_disk_gb",
            (str(limits.max_disk_gb),),
        )


def _distribution(image: ImagePlan, limits: Limits) -> Iterator[str]:
    for member in image.share:
        if not _may_have(member, limits.share_with):
            yield _refused("output.share", member, "share_with", limits.share_with)
    for copy in image.copies:
        if not _matches(copy.project, limits.copy_projects):
            yield _refused("output.copies", copy.project, "copy_projects", limits.copy_projects)
        if copy.storage_location is not None and not _matches(copy.storage_location, limits.storage_locations):
            yield _refused("output.copies", copy.storage_location, "storage_locations", limits.storage_locations)
        if copy.kms_key is not None and not _matches(copy.kms_key, limits.kms_keys):
            yield _refused("output.copies", copy.kms_key, "kms_keys", limits.kms_keys)


def _secrets(plan: Plan, limits: Limits) -> Iterator[str]:
    """Hold a plan with secrets to an account that steps may have, and to a disk that is not kept."""
    if not any(step.secrets for step in (*plan.steps, *(plan.verify_steps or ()))):
        return
    account, allowed = plan.machine.service_account or "", limits.vm_service_accounts
    if allowed is not None and account not in allowed:
        yield _refused("build.service_account", account, "vm_service_accounts", allowed)
    if plan.keep_disk:
        yield (
            "keep_on_failure: the disk of a failed step may hold its secrets, and others in the project can read "
            "disks; leave it out"
        )
    if plan.origin is not None:
        yield (
            "steps: those of a root from nothing run in a sandbox, which reaches no secrets; leave secrets out, or "
            "begin from an image"
        )


def _disks(plan: Plan, most: int | None) -> Iterator[str]:
    disk_gb = max(plan.image.disk_size_gb, plan.machine.disk_size_gb)
    if most is None or disk_gb <= most:
        return
    if plan.origin is None:
        yield _refused("output.disk_size_gb", str(disk_gb), "max_disk_gb", (str(most),))
        return
    own_gb = plan.origin.maker.disk_size_gb
    fitting = (most - own_gb) // MAKER_SPACE
    remedy = f"write {fitting} or less, or " if fitting > 0 else ""
    yield (
        f"output.disk_size_gb: the maker VM's boot disk of {disk_gb} GB ({own_gb} and twice output.disk_size_gb) is "
        f"refused: max_disk_gb of this deployment is {most}; {remedy}ask those who deploy it to change max_disk_gb"
    )


def _networks(machine: MachinePlan, limits: Limits) -> Iterator[str]:
    refused = [path for path in subnetworks(machine) if limits.subnets is not None and path not in limits.subnets]
    if refused:
        key = "build.network" if machine.network and not machine.subnet else "build.subnet"
        yield _refused(key, ", ".join(refused), "subnets", limits.subnets or ())
    if machine.external_ip and not limits.external_ip_allowed:
        yield _refused("build.external_ip", "true", "external_ip_allowed", ("false",))


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _may_have(member: str, patterns: Sequence[str]) -> bool:
    """Return whether a member may get images. The owner of a pool of identities gives them any names.

    So a pattern matches identities of pools only where it says that it does, or is `*`.
    """
    if member.startswith(_POOLS):
        patterns = [pattern for pattern in patterns if pattern == "*" or pattern.startswith(_POOLS)]
    return any(fnmatchcase(member, written_member(pattern)) for pattern in patterns)


def _refused(key: str, value: str, variable: str, allowed: Sequence[str]) -> str:
    return (
        f"{key}: {value:.{_SHOWN}} is refused: {variable} of this deployment is {', '.join(allowed) or 'empty'}; "
        f"keep to that, or ask those who deploy it to change {variable}"
    )
