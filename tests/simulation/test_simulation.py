"""150 seeds of the simulation, and that a seed says everything; `make soak` runs 20,000."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shared.build.build import Build, ImageRecord, Outcome
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


def most_publishing(seed: int) -> tuple[int, int]:
    """Return how many builds of one family have published at once in a run, and how many have succeeded."""
    simulation = Simulation(seed)
    simulation.run_all()
    assert simulation.wrong == []
    return simulation.publishing, len([build for build in simulation.built() if build.outcome is Outcome.SUCCEEDED])


@pytest.mark.slow
def test_two_builds_of_one_family_never_publish_at_once() -> None:
    found = [most_publishing(seed) for seed in range(40, 60)]
    assert {most for most, _succeeded in found} <= {0, 1}
    assert any(succeeded > 1 for _most, succeeded in found), "else none had to wait"


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
