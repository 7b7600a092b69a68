"""What a build has used, and what that comes to. Pure: of the build's own record and a price list.

It is computed whenever it is asked for. The record has what it is made from, the times at which states were entered
(`Build.stays`), so a price list that is mended mends the cost of earlier builds too, and no write can be lost.

    VM that builds     provisioning          of each attempt
    VMs that verify    verifying             all of them at once
    VM that exports    exporting             where the plan has one
    any of them        and, of a build that did not succeed, until its clean-up has ended: the VM may run until then
    disks              from their order to the end of the clean-up, or for as long as one is kept

A VM is thus counted for a little longer than it ran. One that was asked for, and never seen to run, is not counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ...names import LOCAL
from .. import resources
from ..build import Build, Outcome, State, Stay
from ..machine_types import smallest_disk_gb
from ..plan import MachinePlan, Plan
from .list_prices import LIST_PRICES
from .price_list import PriceList

SHORTEST = 60.0  # seconds that a VM costs, however short it runs
GB = 1e9
WITH_VMS = (State.PROVISIONING, State.EXPORTING, State.VERIFYING)
SPOT = " spot"
PAID_LICENCES = frozenset(
    [
        *("rhel-cloud", "rhel-sap-cloud", "suse-cloud", "suse-sap-cloud"),
        *("ubuntu-os-pro-cloud", "windows-cloud", "windows-sql-cloud"),
    ]
)
"""Projects of Google's premium images: https://cloud.google.com/compute/disks-image-pricing#premiumimages"""


@dataclass(frozen=True)
class BuildUsage:
    """What a build has used so far. Dollars are None where no price is known at all."""

    vm_seconds: dict[str, float] = field(default_factory=dict)  # by machine type, with ` spot` behind it for Spot VMs
    gpu_seconds: dict[str, float] = field(default_factory=dict)  # by type of GPU
    disk_gb_hours: dict[str, float] = field(default_factory=dict)  # by type of disk
    image_gb: float = 0.0  # of the image that it made, at most: its disk. Compute Engine stores less
    exported_gb: float = 0.0  # of the files that it wrote, as far as their sizes are known
    invocations: int = 0  # of functions, at least: one for each order, each answer and each report of the last VM
    dollars: float | None = None
    dollars_a_month: float | None = None  # of the image and its files, for as long as they are there
    unpriced: tuple[str, ...] = ()  # what `dollars` does not have, or has at more than its price
    prices: str = ""  # the date of the price list; "": nothing is paid for

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return asdict(self)

    @property
    def text(self) -> str:
        """Return it for people, in one line."""
        parts = [f"{seconds:,.0f} s of {what}" for what, seconds in {**self.vm_seconds, **self.gpu_seconds}.items()]
        parts += [f"{hours:,.2f} GB-hours of {what}" for what, hours in self.disk_gb_hours.items()]
        return ", ".join(parts) or "no VM"

    @property
    def cost_text(self) -> str:
        """Return the dollars for people, with what is not among them."""
        unknown = f"; not known: {', '.join(self.unpriced)}" if self.unpriced else ""
        if not self.prices:
            return "nothing on Google Cloud"
        if self.dollars is None:
            return f"not known{unknown}"
        return f"${self.dollars:,.4f} at list prices of {self.prices}{unknown}"


@dataclass(frozen=True)
class MachineUse:
    """One VM for a time."""

    plan: MachinePlan
    seconds: float


@dataclass(frozen=True)
class DiskUse:
    """One disk for a time."""

    type: str
    gigabytes: int
    seconds: float


def build_usage(build: Build, prices: PriceList = LIST_PRICES, now: float | None = None) -> BuildUsage | None:
    """Return what a build has used until `now`, or until it was last written; None where that is not known.

    It is not known of builds that an earlier release has begun, nor of requests that were rejected.
    """
    plan, stays = build.plan, build.stays
    if plan is None or not stays or stays[0].begun != build.created:
        return None
    return usage_through(plan, build, until=max(build.updated, now or 0.0), prices=prices)


def usage_through(plan: Plan, build: Build, *, until: float, prices: PriceList = LIST_PRICES) -> BuildUsage:
    """Return what a build of a plan uses that stays in its states as its record says, until then."""
    ends = [*(stay.begun for stay in build.stays[1:]), until][: len(build.stays)]  # none of an estimate of 0 s
    lengths = [(stay, max(0.0, end - stay.begun)) for stay, end in zip(build.stays, ends, strict=True)]
    machines = list(_machines(plan, build, lengths))
    disks = list(_disks(plan, build, lengths))
    used = BuildUsage(
        vm_seconds=_summed((_name(use.plan), use.seconds) for use in machines),
        gpu_seconds=_summed((use.plan.gpu_type, use.seconds) for use in machines if use.plan.gpu_type is not None),
        disk_gb_hours=_summed((use.type, use.gigabytes * use.seconds / 3600) for use in disks),
        image_gb=float(plan.image.disk_size_gb) if _has_image(build) else 0.0,
        exported_gb=round(_exported_gb(build), 6),
        invocations=0 if plan.machine.project == LOCAL else 1 + 2 * build.orders + build.reports,
    )
    if plan.machine.project == LOCAL:
        return used
    return _priced(used, plan, region_of(plan, build.zone), machines, disks, prices)


def _name(machine: MachinePlan) -> str:
    if machine.project == LOCAL:
        return LOCAL
    return machine.machine_type + (SPOT if machine.spot else "")


def _summed(parts: Iterable[tuple[str, float]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for what, amount in parts:
        found[what] = found.get(what, 0.0) + amount
    return {what: round(amount, 3) for what, amount in sorted(found.items())}


def _machines(plan: Plan, build: Build, lengths: list[tuple[Stay, float]]) -> Iterator[MachineUse]:
    cleaning = 0.0
    if build.outcome not in (None, Outcome.SUCCEEDED, Outcome.UNCHANGED):
        cleaning = sum(length for stay, length in lengths if stay.state is State.CLEANING)
    last = max((index for index, (stay, _) in enumerate(lengths) if stay.state in WITH_VMS), default=-1)
    ended = last >= 0 and last + 1 < len(lengths) and lengths[last + 1][0].state is State.CLEANING
    shortest = 0.0 if plan.machine.project == LOCAL else SHORTEST
    for index, (stay, length) in enumerate(lengths):
        if stay.state not in WITH_VMS:
            continue
        seconds = length + (cleaning if index == last and ended else 0.0)
        yield from (MachineUse(each, max(shortest, seconds)) for each in machines_of(plan, stay.state))


def machines_of(plan: Plan, state: State) -> tuple[MachinePlan, ...]:
    """Return what the VMs run on that a plan has in a state."""
    if state is State.PROVISIONING:
        return (plan.machine,)
    if state is State.VERIFYING:
        return tuple(machine for _, machine in plan.verifying_machines())
    if state is not State.EXPORTING or plan.exporter is None:
        return ()
    size = resources.exporter_gb(plan)
    return (replace(plan.machine, disk_size_gb=size, scratch_gb=0, gpu_type=None, spot=False),)


def disks_of(plan: Plan, state: State) -> tuple[tuple[str, int], ...]:
    """Return type and gigabytes of the disks that are made for a state; those of preparing are the build VM's."""
    kind = plan.machine.disk_type
    if state is State.PREPARING:
        sizes = [max(plan.machine.disk_size_gb, resources.grown_gb(plan)), plan.machine.scratch_gb]
        sizes += [plan.origin.disk_size_gb] if plan.origin is not None else []
        return tuple((kind, max(size, smallest_disk_gb(kind))) for size in sizes if size)
    if state is State.PROVISIONING:
        return ()
    made = tuple((each.disk_type, each.disk_size_gb) for each in machines_of(plan, state))
    return (*made, (kind, plan.image.disk_size_gb)) if made and state is State.EXPORTING else made


def _disks(plan: Plan, build: Build, lengths: list[tuple[Stay, float]]) -> Iterator[DiskUse]:
    kept = any(entry.kind == "disk" and entry.keep for entry in build.ledger) or build.disk_until > 0
    seen: set[State] = set()
    for index, (stay, _) in enumerate(lengths):
        taken = State.PREPARING if build.disk is not None and index == 0 else stay.state  # a retry's, of another build
        if taken in seen:  # those of a later attempt take the place of the earlier ones, or go on
            continue
        seen.add(taken)
        rest = lengths[index:]
        seconds = sum(length for each, length in rest if each.state not in (State.HELD, State.FINISHED))
        held = sum(length for each, length in rest if each.state is State.HELD)
        for number, (kind, gigabytes) in enumerate(disks_of(plan, taken)):
            boot = number == 0 and taken is State.PREPARING
            yield DiskUse(kind, gigabytes, seconds + (held if boot and kept else 0.0))


def _has_image(build: Build) -> bool:
    return build.image is not None and not build.taken_up and build.outcome in (None, Outcome.SUCCEEDED)


def _exported_gb(build: Build) -> float:
    if build.image is None or build.outcome not in (None, Outcome.SUCCEEDED):
        return 0.0
    files = build.image.files
    archive = build.image.archive
    return sum(file.bytes for file in files) / GB if files else (archive.bytes / GB if archive is not None else 0.0)


def region_of(plan: Plan, zone: str = "") -> str:
    """Return the region of a plan's VMs: that of the zone of its own where one was, or else of the first of these."""
    zones = plan.machine.zones
    return (zone if zone in zones else next(iter(zones), "")).rpartition("-")[0]


def without_price(plan: Plan, prices: PriceList = LIST_PRICES) -> tuple[str, ...]:
    """Return the VMs, GPUs and disks of a plan that have no known price in the region of one of its zones."""
    vms = [MachineUse(each, SHORTEST) for state in WITH_VMS for each in machines_of(plan, state)]
    disks = [DiskUse(*each, SHORTEST) for state in (State.PREPARING, *WITH_VMS) for each in disks_of(plan, state)]
    regions = dict.fromkeys(zone.rpartition("-")[0] for zone in plan.machine.zones)
    found = [
        f"{what} in {region}"
        for region in regions
        for what, _, price in _charges(vms, disks, region, prices)
        if price is None
    ]
    return tuple(dict.fromkeys(found))


def _licences(plan: Plan, machines: list[MachineUse]) -> Iterator[str]:
    """Yield the licences of the source that are paid for by the hour of a VM, and that no price list has."""
    for path in plan.source.licenses if machines and plan.origin is None else ():
        project, _, name = path.rpartition("projects/")[2].partition("/global/licenses/")
        if project in PAID_LICENCES and not name.endswith("-byos"):
            yield f"licence {project}/{name}"


def _priced(
    used: BuildUsage,
    plan: Plan,
    region: str,
    machines: list[MachineUse],
    disks: list[DiskUse],
    prices: PriceList,
) -> BuildUsage:
    charges = [*_charges(machines, disks, region, prices)]
    charges.append(("invocations of functions", float(used.invocations), prices.invocation))
    known = [amount * price for _, amount, price in charges if price is not None]
    place = f" in {region}" if region else " in an unknown region"
    unpriced = [what + place for what, amount, price in charges if price is None and amount]
    unpriced += [
        f"what Spot VMs of {use.plan.machine_type} cost less{place}"
        for use in machines
        if use.plan.spot
        and use.plan.machine_type + place not in unpriced
        and not prices.knows_spot(use.plan.machine_type, region)
    ]
    unpriced += _licences(plan, machines)
    return replace(
        used,
        dollars=round(sum(known), 6) if known else None,
        dollars_a_month=_monthly(used, region, prices),
        unpriced=tuple(dict.fromkeys(unpriced)),
        prices=prices.date,
    )


def _charges(
    machines: list[MachineUse], disks: list[DiskUse], region: str, prices: PriceList
) -> Iterator[tuple[str, float, float | None]]:
    """Yield what is paid for, how many hours or GB-hours of it, and the price of one, if that is known."""
    for use in machines:
        kind, gpu, hours = use.plan.machine_type, use.plan.gpu_type, use.seconds / 3600
        yield kind, hours, prices.machine_hour(kind, region, spot=use.plan.spot)
        if gpu is not None:
            yield gpu, hours, prices.gpu_hour(gpu, region)
        if use.plan.external_ip:
            yield "external addresses", hours, prices.external_address_hour(spot=use.plan.spot)
    for disk in disks:
        yield disk.type, disk.gigabytes * disk.seconds / 3600, prices.disk_hour(disk.type, region)


def _monthly(used: BuildUsage, region: str, prices: PriceList) -> float | None:
    """Return the dollars a month of what stays; None where a price is not known."""
    objects = prices.storage.get(region) if used.exported_gb else 0.0
    if objects is None or prices.image_gb_month is None:
        return None
    return round(used.image_gb * prices.image_gb_month + used.exported_gb * objects, 6)
