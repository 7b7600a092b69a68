"""What the builds of a budget count with, and the words in which one more is refused, by figures made by hand."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import count

import pytest

from shared.build.build import Build, Outcome, State
from shared.build.cost.usage import build_usage
from shared.build.limits import FamilyBudget
from shared.build.plan import MachinePlan, Plan
from shared.build_search import BuildFilter, BuildSearch, FoundBuilds
from shared.errors import InputError
from shared.planning.family_budgets import MOST_LOOKED_AT, MOST_READ, FamilyBudgets
from tests.world.fuse import Fuse
from tests.world.memory_store import MemoryStore
from tests.world.values import NOON, ended_build, plan, requested

HOUR = 3600.0
DAY = 24 * HOUR
MACHINE = MachinePlan("my-project", zones=("us-central1-a",), machine_type="e2-standard-2")
COST = 0.005853  # dollars of ended_build(): 310 s of two vCPUs and 8 GB, 10 GB of a disk for 540 s, one invocation


def ended(number: int, requested_at: float = NOON, **changes: object) -> Build:
    """A build like ended_build() that was requested at another time."""
    made = ended_build()
    assert made.plan is not None
    name = f"hello-{number:012x}"
    stays = tuple(replace(stay, begun=stay.begun - NOON + requested_at) for stay in made.stays)
    whole = replace(
        made,
        id=name,
        plan=replace(made.plan, build_id=name),
        created=requested_at,
        updated=requested_at + 600,
        stays=stays,
    )
    return replace(whole, **changes)  # type: ignore[arg-type]


def under_way(number: int, requested_at: float) -> Build:
    """The same, a second after its request."""
    whole = ended(number, requested_at)
    return replace(
        whole, state=State.QUEUED, outcome=None, image=None, stays=whole.stays[:1], updated=requested_at, orders=0
    )


def store_of(*builds: Build) -> MemoryStore:
    store = MemoryStore(Fuse())
    for build in builds:
        store.create(build, requested(build_id=build.id))
    return store


class Pages:
    """A search that answers with pages that are given."""

    def __init__(self, pages: Iterable[FoundBuilds]) -> None:
        self._pages = iter(pages)

    def find_builds(self, wanted: BuildFilter, *, limit: int, before: str = "") -> FoundBuilds:
        del wanted, limit, before
        return next(self._pages)


def dollars(build: Build) -> float:
    usage = build_usage(build)
    assert usage is not None
    assert usage.dollars is not None
    return usage.dollars


def wanted(**machine: object) -> Plan:
    return replace(plan(), machine=replace(MACHINE, **machine))  # type: ignore[arg-type]


def refusal(
    store: BuildSearch, dollars: float, now: float, made: Plan | None = None, name: str = "hello", per: float = 30 * DAY
) -> str:
    """Return why a build is refused; "" where it is not."""
    try:
        FamilyBudgets({name: FamilyBudget(dollars, per)}, store, now).spend(made or wanted())
    except InputError as error:
        return str(error)
    return ""


def test_a_build_costs_what_was_calculated_by_hand() -> None:
    hour = 2 * 0.02181159 + 8 * 0.00292353
    assert round(hour * 310 / 3600 + 10 * 0.04 / 730 * 540 / 3600 + 4e-7, 6) == COST
    assert dollars(ended(1)) == COST


def test_used_under_way_and_asked_for_are_added_up_to_the_last_cent() -> None:
    first, second, third = ended(1), ended(2, NOON + DAY), under_way(3, NOON + 2 * DAY)
    cost, now = COST, NOON + 2 * DAY
    store = store_of(first, second, third)
    assert refusal(store, 4 * cost + 1e-5, now) == ""
    told = refusal(store, 4 * cost - 1e-5, now)
    assert told == (
        "budgets: hello: the builds of family hello that were requested in the last 30d have used "
        "$0.0117, those under way will probably use $0.0059 more, and this one $0.0059; the budget is $0.0234; if no "
        "other one is built, there is room from 2026-12-20 12:01 UTC on; ask again, or ask those who deploy "
        "it to change budgets"
    )
    assert "there is room from 2026-12-21 12:01 UTC on" in refusal(store, 2.5 * cost, now)
    assert refusal(store, 4 * cost - 1e-5, NOON + 30 * DAY) != ""
    assert refusal(store, 4 * cost - 1e-5, NOON + 30 * DAY + 60) == "", "the first one is older than the budget looks"


def test_a_build_of_another_family_and_a_budget_of_another_family_do_not_matter() -> None:
    other = ended(1)
    assert other.plan is not None
    other = replace(other, plan=replace(other.plan, image=replace(other.plan.image, family="other")))
    tiny = dollars(other) / 100
    assert refusal(store_of(other), tiny, NOON + DAY) == ""
    assert refusal(store_of(ended(1)), tiny, NOON + DAY, name="other") == ""
    free = replace(wanted(), image=replace(wanted().image, family=None))
    assert refusal(store_of(ended(1)), tiny, NOON + DAY, free) == ""
    told = refusal(store_of(other), tiny, NOON + DAY, free, name="*")
    assert told.startswith(
        "budgets: *: the builds of this deployment that were requested in the last 30d have used $0.0"
    )


def test_one_build_that_is_more_than_the_budget_is_told_that_no_time_helps() -> None:
    cost = dollars(ended(1))
    told = refusal(store_of(ended(1)), 2 * cost, NOON + DAY, wanted(machine_type="e2-standard-32"))
    assert "; one build alone is more than that, so ask for a smaller machine or disk, or ask those who deploy" in told


def test_without_an_earlier_build_the_first_one_is_estimated_at_nothing() -> None:
    assert refusal(store_of(), 0.01, NOON) == ""


def test_neither_builds_that_fail_nor_a_new_name_leave_a_budget() -> None:
    failed = ended(1, outcome=Outcome.FAILED)
    cost = dollars(failed)
    assert refusal(store_of(failed), 1.9 * cost, NOON + DAY, wanted()) != ""
    new = replace(wanted(), name="new", image=replace(wanted().image, family=None))
    store = store_of(failed, *(under_way(number, NOON + DAY) for number in range(2, 5)))
    assert refusal(store, 4.9 * cost, NOON + DAY, new, name="*") != "", "three of them are under way"
    assert refusal(store, 5.1 * cost, NOON + DAY, new, name="*") == ""


def test_a_build_that_cannot_be_counted_is_refused_unless_the_budget_says_otherwise() -> None:
    unknown = wanted(machine_type="m3-megamem-128", disk_type="hyperdisk-ml")
    told = (
        "budgets: {}: no price is known of m3-megamem-128 in us-central1, hyperdisk-ml in us-central1, so what this "
        "build uses could not be counted; name a type, disk and zones with a known price, or ask those who deploy it "
        "to set allow_unpriced in budgets"
    )
    assert refusal(store_of(), 1000.0, NOON, unknown) == told.format("hello")
    allowed = {"hello": FamilyBudget(1000.0, DAY, allow_unpriced=True)}
    FamilyBudgets(allowed, store_of(), NOON).spend(unknown)
    with pytest.raises(InputError) as raised:
        FamilyBudgets({**allowed, "*": FamilyBudget(1000.0, DAY)}, store_of(), NOON).spend(unknown)
    assert str(raised.value) == told.format("*")


def test_what_has_no_price_and_what_is_not_known_are_said_and_do_not_count() -> None:
    formerly = ended(2, stays=())
    new = ended(3)
    assert new.plan is not None
    machine = replace(new.plan.machine, machine_type="z3-highmem-88")
    new = replace(new, plan=replace(new.plan, machine=machine))
    told = refusal(store_of(ended(1), formerly, new), dollars(ended(1)) / 2, NOON + DAY)
    assert told.endswith(
        "to change budgets (not counted: what has no known price: z3-highmem-88 in us-central1; 1 "
        "build of the release before, whose usage is not known)"
    )
    assert f"have used ${dollars(ended(1)) + dollars(new):.4f}," in told, "of the new type, its disk alone"
    assert refusal(store_of(formerly), 0.0001, NOON + DAY) == ""


def test_requests_that_were_rejected_cost_nothing() -> None:
    rejected = ended(1, plan=None, outcome=Outcome.FAILED, stays=())
    assert refusal(store_of(rejected), 0.0001, NOON + DAY, name="*") == ""


def test_more_builds_than_can_be_read_are_refused_in_words() -> None:
    free = ended(7, plan=None), ended(8, outcome=Outcome.UNCHANGED)
    pages = [FoundBuilds((ended(1),) * MOST_READ, "more"), FoundBuilds(free * 50, "")]
    assert refusal(Pages(pages), 1000.0, NOON + DAY, name="*") == ""
    assert refusal(Pages([*pages[:1], FoundBuilds((ended(2),), "")]), 1000.0, NOON + DAY, name="*") == (
        f"budgets: *: more than {MOST_READ} builds of this deployment were requested in the last 30d, and no more are "
        "added up; ask those who deploy it to shorten the budget's `per`"
    )
    endless = Pages(FoundBuilds(free * 50, "more") for _ in count())
    assert refusal(endless, 1.0, NOON + DAY, name="*") == (
        f"budgets: *: more than {MOST_LOOKED_AT} builds and requests of this deployment were requested in the last "
        "30d, and no more are added up; ask those who deploy it to shorten the budget's `per`"
    )


def test_builds_of_one_request_see_each_other_and_one_that_is_refused_counts_for_none() -> None:
    cost = dollars(ended(1))
    both = {"hello": FamilyBudget(3.5 * cost, DAY), "*": FamilyBudget(9.5 * cost, DAY)}
    budgets = FamilyBudgets(both, store_of(ended(1)), NOON + HOUR)
    for _ in range(2):
        budgets.spend(wanted())
    for _ in range(2):
        with pytest.raises(InputError, match=r"^budgets: hello: [^\n]*$"):
            budgets.spend(wanted())
    other = replace(wanted(), image=replace(wanted().image, family="other"))
    for _ in range(6):
        budgets.spend(other)
    with pytest.raises(InputError, match=r"^budgets: hello: .*\nbudgets: \*: .*$"):
        budgets.spend(wanted())
