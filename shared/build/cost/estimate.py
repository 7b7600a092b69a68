"""An estimate of a build before it is asked for: its time by earlier builds, its cost, and the quota it needs. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from ..build import Build, Outcome, State, Stay
from ..plan import MachinePlan, Plan
from .list_prices import LIST_PRICES
from .price_list import PriceList
from .usage import BuildUsage, disks_of, machines_of, region_of, usage_through

MOST_BUILDS = 20  # the newest ones, of which an estimate is made
PATH = (State.PREPARING, State.PROVISIONING, State.EXPORTING, State.VERIFYING, State.PUBLISHING, State.CLEANING)
_CPUS = re.compile(r"([a-z][a-z0-9]*)-[a-z]+-([0-9]{1,4})")
_SHARED = {"e2-micro": 2, "e2-small": 2, "e2-medium": 2, "f1-micro": 1, "g1-small": 1}
_COMMON = ("n1", "e2", "f1", "g1")  # series whose vCPUs count for the quota CPUS
_DISK_QUOTAS = {
    "pd-standard": "DISKS_TOTAL_GB",
    "pd-balanced": "SSD_TOTAL_GB",
    "pd-ssd": "SSD_TOTAL_GB",
    "hyperdisk-balanced": "HDB_TOTAL_GB",
}


@dataclass(frozen=True)
class Estimate:
    """What a build will probably take. `usage` is None where no earlier build says how long it takes."""

    builds: int = 0  # succeeded ones that it is made of
    of: str = ""  # what they are builds of: the spec, or its family
    seconds: dict[str, float] = field(default_factory=dict)  # the median of each state
    usage: BuildUsage | None = None

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return asdict(self)

    @property
    def text(self) -> str:
        """Return the time for people."""
        if not self.builds:
            return "not known: no build of this spec or its family has succeeded here"
        parts = ", ".join(f"{state} {seconds:.0f} s" for state, seconds in self.seconds.items())
        word = "build" if self.builds == 1 else "builds"
        return f"{sum(self.seconds.values()):.0f} s ({parts}): the median of {self.builds} {word} of {self.of}"


def estimate_build(plan: Plan, builds: Iterable[Build], prices: PriceList = LIST_PRICES) -> Estimate:
    """Estimate a build of a plan by earlier ones that have succeeded, newest first: of its spec, or of its family."""
    known = [build for build in builds if build.outcome is Outcome.SUCCEEDED and is_sample(build)]
    own, kin = _of_spec(plan, known), _of_family(plan, known)
    return _estimate(plan, (own or kin)[:MOST_BUILDS], plan.name if own else f"family {plan.image.family}", prices)


def expect_build(plan: Plan, builds: Iterable[Build], prices: PriceList = LIST_PRICES) -> Estimate:
    """Estimate a build of a plan by whatever there is, so that a new name or a build that fails is not estimated at 0.

    By builds of its spec or its family that have succeeded, or else by any that have; without one, by such that have
    failed: of its spec, its family, or any.
    """
    known = [build for build in builds if is_sample(build)]
    good = [build for build in known if build.outcome is Outcome.SUCCEEDED]
    for chosen, what in (
        (_of_spec(plan, good), plan.name),
        (_of_family(plan, good), f"family {plan.image.family}"),
        (good, "any spec"),
        (_of_spec(plan, known), plan.name),
        (_of_family(plan, known), f"family {plan.image.family}"),
        (known, "any spec"),
    ):
        if chosen:
            return _estimate(plan, chosen[:MOST_BUILDS], what, prices)
    return Estimate()


def is_sample(build: Build) -> bool:
    """Return whether a build says how long one takes: it has ended, and has begun with a VM of its own."""
    whole = bool(build.stays) and build.stays[0].begun == build.created
    return whole and build.outcome not in (None, Outcome.UNCHANGED) and not (build.retry_of or build.taken_up)


def _of_spec(plan: Plan, builds: Sequence[Build]) -> list[Build]:
    return [build for build in builds if build.name == plan.name]


def _of_family(plan: Plan, builds: Sequence[Build]) -> list[Build]:
    family = plan.image.family
    return [build for build in builds if family and build.plan is not None and build.plan.image.family == family]


def _estimate(plan: Plan, chosen: Sequence[Build], what: str, prices: PriceList) -> Estimate:
    if not chosen:
        return Estimate()
    taken = [_seconds(build) for build in chosen]
    seconds = {state: median([each.get(state, 0.0) for each in taken]) for state in PATH}
    seconds = {state: length for state, length in seconds.items() if length}
    orders = int(median([build.orders for build in chosen]))
    usage = usage_through(
        plan, _as_built(plan, seconds, orders), until=plan.requested + sum(seconds.values()), prices=prices
    )
    rounded = {str(state): round(length, 1) for state, length in seconds.items()}
    return Estimate(len(chosen), what, rounded, usage)


def _seconds(build: Build) -> dict[State, float]:
    ends = [*(stay.begun for stay in build.stays[1:]), build.updated]
    found: dict[State, float] = {}
    for stay, end in zip(build.stays, ends, strict=True):
        found[stay.state] = found.get(stay.state, 0.0) + max(0.0, end - stay.begun)
    return found


def _as_built(plan: Plan, seconds: dict[State, float], orders: int) -> Build:
    stays, now = [], plan.requested
    for state, length in seconds.items():
        stays.append(Stay(state, 1, now))
        now += length
    return Build(
        id=plan.build_id,
        name=plan.name,
        request=plan.request,
        plan=plan,
        state=State.FINISHED,
        created=plan.requested,
        updated=now,
        deadline=now,
        wake_at=now,
        outcome=Outcome.SUCCEEDED,
        orders=orders,
        stays=tuple(stays),
    )


def needed_quota(plan: Plan) -> dict[str, int]:
    """Return the quota that one build needs in its region, by Compute Engine's names; what is not known is not in it.

    Disks stay until the end of the build, and VMs only for their state.
    """
    vms: dict[str, int] = {}
    for state in (State.PROVISIONING, State.EXPORTING, State.VERIFYING):
        here: dict[str, int] = {}
        for machine in machines_of(plan, state):
            for name, count in _machine_quota(machine).items():
                here[name] = here.get(name, 0) + count
        vms |= {name: max(count, vms.get(name, 0)) for name, count in here.items()}
    disks: dict[str, int] = {}
    for state in (State.PREPARING, State.EXPORTING, State.VERIFYING):
        for kind, gigabytes in disks_of(plan, state):
            if kind in _DISK_QUOTAS:
                disks[_DISK_QUOTAS[kind]] = disks.get(_DISK_QUOTAS[kind], 0) + gigabytes
    return dict(sorted({**vms, **disks}.items()))


def _machine_quota(machine: MachinePlan) -> dict[str, int]:
    found = _CPUS.fullmatch(machine.machine_type)
    cpus = int(found[2]) if found else _SHARED.get(machine.machine_type, 0)
    series = machine.machine_type.partition("-")[0]
    quota = {"CPUS" if series in _COMMON else f"{series.upper()}_CPUS": cpus} if cpus else {}
    if machine.gpu_type is not None and machine.gpu_type.startswith("nvidia-tesla-"):
        quota[f"NVIDIA_{machine.gpu_type.removeprefix('nvidia-tesla-').upper()}_GPUS"] = 1
    return quota


def region_text(plan: Plan) -> str:
    """Return the region for people."""
    return region_of(plan) or "the deployment's region"
