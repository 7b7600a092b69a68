"""150 seeds of the simulation, and that a seed says everything; `make soak` runs 20,000."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shared.build.build import Build, ImageRecord
from shared.ports import Image
from tests.simulation.invariants import is_of, run
from tests.simulation.simulation import Request, Simulation
from tests.simulation.soak import tally
from tests.world import values
from tests.world.world import Guest

SEEDS = 150
PARTS = 10


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, SEEDS, SEEDS // PARTS))
def test_seeds(first: int) -> None:
    found = tally(range(first, first + SEEDS // PARTS))
    assert found.failures == {}
    assert found.outcomes["succeeded"]  # else nothing was simulated


def most_publishing(seed: int, family_concurrency: int | None) -> int:
    """Return how many builds of one family have published at once in a run without retries, which do not wait."""
    simulation = Simulation(seed)
    simulation.backend = replace(simulation.backend, family_concurrency=family_concurrency)
    simulation._retries = 0
    simulation.run_all()
    assert simulation.wrong == []
    return simulation.publishing


def test_two_builds_of_one_family_never_publish_at_once_where_one_may_be_at_work() -> None:
    assert {most_publishing(seed, 1) for seed in range(40, 52)} == {0, 1}
    assert any(most_publishing(seed, None) > 1 for seed in range(40, 140)), "without the limit they do"


def test_a_seed_repeats_its_run() -> None:
    assert run(11)[0].trace == run(11)[0].trace


def test_an_image_without_our_labels_is_the_last_build_s_that_has_noted_it() -> None:
    """The first one could not publish it, and a later one has taken it up."""
    simulation = Simulation(0)
    first, second = builds = [without_labels("hello-00000000000a", 1.0), without_labels("hello-00000000000b", 2.0)]
    some = simulation.requests[0].spec
    simulation.requests = [
        Request(number, some, Guest(), late=False, build_id=build.id) for number, build in enumerate(builds)
    ]
    image = Image("local", "hello-1", "id-1", values.NOON)
    simulation.store.create(first, values.requested(plan=first.plan))
    assert is_of(image, first, simulation)
    simulation.store.create(second, values.requested(plan=second.plan))
    assert [is_of(image, build, simulation) for build in builds] == [False, True]


def without_labels(build_id: str, committed: float) -> Build:
    """A build that has committed image hello-1, whose labels it takes off."""
    plan = values.plan(build_id=build_id)
    plan = replace(plan, image=replace(plan.image, own_labels=False))
    return values.build(
        id=build_id, plan=plan, committed=committed, image=ImageRecord("local", "hello-1", "id-1", None)
    )
