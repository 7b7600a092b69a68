"""300 seeds of the simulation, and that a seed says everything; `make soak` runs 20,000."""

from __future__ import annotations

import pytest

from tests.simulation.invariants import run
from tests.simulation.soak import tally

SEEDS = 300
PARTS = 10


@pytest.mark.parametrize("first", range(0, SEEDS, SEEDS // PARTS))
def test_seeds(first: int) -> None:
    found = tally(range(first, first + SEEDS // PARTS))
    assert found.failures == {}
    assert found.outcomes["succeeded"]  # else nothing was simulated


def test_a_seed_repeats_its_run() -> None:
    assert run(11)[0].trace == run(11)[0].trace
