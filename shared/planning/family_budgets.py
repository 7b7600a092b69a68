"""Refuse the builds that a budget has no room for: what its builds have used, what they may still use, and this one.

    requested in the last `per`, ended       what it has used until now
    requested in the last `per`, under way   that, or its estimate where that is more
    this one                                 its estimate, of earlier builds in that time; 0 where there are none

What has no price cannot be counted, so a build with such a VM, GPU or disk is refused unless the budget allows it:
else a spec could leave a budget by naming a type that no price is known of.

The store is read when a build is asked for, and nothing is set aside there: requests that are taken at the same moment
do not see each other. docs/cost.md says how much a budget can be exceeded by.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from ..build.build import Build, Outcome
from ..build.cost.estimate import MOST_BUILDS, expect_build, is_sample
from ..build.cost.usage import build_usage, without_price
from ..build.limits import EVERY_FAMILY, OVER_BUDGET, FamilyBudget
from ..build.plan import Plan
from ..build_search import BuildFilter, BuildSearch
from ..errors import InputError
from ..quantities import format_duration

PAGE = 100  # builds that are read at once
MOST_READ = 2000  # builds of one budget: what more there are cannot be added up while a request waits
MOST_LOOKED_AT = 10_000  # the same with those that have cost nothing: rejected requests and unchanged builds are short
_NAMED = 5  # things without a price that a refusal names
_ALMOST_NOTHING = 1e-6  # dollars, to which costs are rounded


@dataclass(frozen=True)
class BuildCost:
    """What one build of a budget counts with."""

    requested: float
    used: float  # dollars
    expected: float = 0.0  # what it may use beyond that


@dataclass
class BudgetPeriod:
    """What the builds of one budget have cost in the time that it is for."""

    budget: FamilyBudget
    costs: list[BuildCost] = field(default_factory=list)
    samples: list[Build] = field(default_factory=list)  # newest first, as many as an estimate needs
    unpriced: set[str] = field(default_factory=set)
    unknown: int = 0  # builds that the release before has begun, whose usage is not known

    def estimate(self, plan: Plan) -> float:
        """Return the dollars that a build of a plan will probably take."""
        usage = expect_build(plan, self.samples).usage
        if usage is None:
            return 0.0
        self.unpriced.update(usage.unpriced)
        return usage.dollars or 0.0

    def lacking(self, estimate: float) -> float:
        """Return the dollars by which one more build exceeds the budget; 0 or less where it does not."""
        return sum(cost.used + cost.expected for cost in self.costs) + estimate - self.budget.dollars

    def room_at(self, estimate: float) -> float | None:
        """Return when enough of its builds are older than the budget looks back; None where that is never enough."""
        lacking = self.lacking(estimate)
        for cost in sorted(self.costs, key=lambda cost: cost.requested):
            lacking -= cost.used + cost.expected
            if lacking <= _ALMOST_NOTHING:
                return cost.requested + self.budget.per
        return None


class FamilyBudgets:
    """The budgets of a deployment, for the builds of one request, which see each other."""

    def __init__(self, budgets: Mapping[str, FamilyBudget], store: BuildSearch, now: float) -> None:
        self._budgets = budgets
        self._store = store
        self._now = now
        self._periods: dict[str, BudgetPeriod] = {}

    def spend(self, plan: Plan) -> None:
        """Count a build that is asked for. InputError where a budget has no room for it; it counts for none then."""
        found = {
            name: self._period(name, budget)
            for name in (plan.image.family or "", EVERY_FAMILY)
            if (budget := self._budgets.get(name)) is not None
        }
        estimates = {name: period.estimate(plan) for name, period in found.items()}
        missing = without_price(plan) if any(not period.budget.allow_unpriced for period in found.values()) else ()
        told = [_unpriced(name, missing) for name, each in found.items() if missing and not each.budget.allow_unpriced]
        told += [
            _refusal(name, period, estimates[name])
            for name, period in found.items()
            if period.lacking(estimates[name]) > _ALMOST_NOTHING
        ]
        if told:
            raise InputError("\n".join(told))
        for name, period in found.items():
            period.costs.append(BuildCost(self._now, 0.0, estimates[name]))

    def _period(self, name: str, budget: FamilyBudget) -> BudgetPeriod:
        if name not in self._periods:
            self._periods[name] = read_period(self._builds(name, budget), budget, self._now)
        return self._periods[name]

    def _builds(self, name: str, budget: FamilyBudget) -> Iterator[Build]:
        """Yield the builds of a budget that have cost something, newest first. InputError where there are too many."""
        family = "" if name == EVERY_FAMILY else name
        wanted = BuildFilter(family=family, since=self._now - budget.per)
        before, counted = "", 0
        for _ in range(MOST_LOOKED_AT // PAGE):
            found = self._store.find_builds(wanted, limit=PAGE, before=before)
            for build in found.builds:
                if build.plan is not None and build.outcome is not Outcome.UNCHANGED:
                    counted += 1
                    if counted > MOST_READ:
                        raise InputError(_too_many(name, f"more than {MOST_READ} builds", budget))
                    yield build
            before = found.after
            if not before:
                return
        raise InputError(_too_many(name, f"more than {MOST_LOOKED_AT} builds and requests", budget))


def read_period(builds: Iterable[Build], budget: FamilyBudget, now: float) -> BudgetPeriod:
    """Add up what builds have cost, given newest first."""
    period = BudgetPeriod(budget)
    under_way: list[tuple[Plan, float, float]] = []
    kept: Counter[tuple[str, str | None, bool]] = Counter()
    for build in builds:
        if build.plan is None:
            continue
        usage = build_usage(build, now=None if build.finished else now)
        used = 0.0 if usage is None else usage.dollars or 0.0
        period.unknown += usage is None
        period.unpriced.update(() if usage is None else usage.unpriced)
        if build.outcome is None:
            under_way.append((build.plan, build.created, used))
            continue
        period.costs.append(BuildCost(build.created, used))
        kind = build.name, build.plan.image.family, build.outcome is Outcome.SUCCEEDED
        if is_sample(build) and kept[kind] < MOST_BUILDS:
            kept[kind] += 1
            period.samples.append(build)
    for plan, requested, used in under_way:
        period.costs.append(BuildCost(requested, used, max(0.0, period.estimate(plan) - used)))
    return period


def _whose(name: str) -> str:
    return "this deployment" if name == EVERY_FAMILY else f"family {name}"


def _too_many(name: str, what: str, budget: FamilyBudget) -> str:
    return (
        f"{OVER_BUDGET}{name}: {what} of {_whose(name)} were requested in the last {format_duration(budget.per)}, and "
        "no more are added up; ask those who deploy it to shorten the budget's `per`"
    )


def _unpriced(name: str, missing: Sequence[str]) -> str:
    return (
        f"{OVER_BUDGET}{name}: no price is known of {_some(missing)}, so what this build uses could not be counted; "
        "name a type, disk and zones with a known price, or ask those who deploy it to set allow_unpriced in budgets"
    )


def _some(names: Sequence[str]) -> str:
    more = [f"{len(names) - _NAMED} more"] if len(names) > _NAMED else []
    return ", ".join([*names[:_NAMED], *more])


def _refusal(name: str, period: BudgetPeriod, estimate: float) -> str:
    """Return in words why a budget has no room for one more build, and when it has."""
    used, expected = sum(cost.used for cost in period.costs), sum(cost.expected for cost in period.costs)
    budget = period.budget
    asking = "ask those who deploy it to change budgets"
    at = period.room_at(estimate)
    if at is None:
        remedy = f"one build alone is more than that, so ask for a smaller machine or disk, or {asking}"
    else:
        minute = datetime.fromtimestamp((at // 60 + 1) * 60, UTC)
        remedy = f"if no other one is built, there is room from {minute:%Y-%m-%d %H:%M} UTC on; ask again, or {asking}"
    return (
        f"{OVER_BUDGET}{name}: the builds of {_whose(name)} that were requested in the last "
        f"{format_duration(budget.per)} have used {_dollars(used)}, those under way will probably use "
        f"{_dollars(expected)} more, and this one {_dollars(estimate)}; the budget is {_dollars(budget.dollars)}; "
        f"{remedy}{_uncounted(period)}"
    )


def _uncounted(period: BudgetPeriod) -> str:
    """Return what the sum does not have."""
    named = sorted(period.unpriced)
    parts = [f"what has no known price: {_some(named)}"] if named else []
    if period.unknown:
        builds = "build" if period.unknown == 1 else "builds"
        parts.append(f"{period.unknown} {builds} of the release before, whose usage is not known")
    return f" (not counted: {'; '.join(parts)})" if parts else ""


def _dollars(amount: float) -> str:
    return f"${amount:,.2f}" if amount >= 0.1 or amount < _ALMOST_NOTHING else f"${amount:,.4f}"
