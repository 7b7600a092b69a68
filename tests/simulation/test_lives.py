"""40 seeds of the lives of images; GOLDSMITH_LIVES=N runs N, as `make soak` does with 2,000."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest

from tests.simulation.lives import Lives

SEEDS = int(os.environ.get("GOLDSMITH_LIVES", "40"))
PARTS = 4


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Log nothing: the faults of the weather are meant, and without end."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(before)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(PARTS))
def test_seeds(first: int) -> None:
    wrong, promoted, approved, revoked, retired = {}, 0, 0, 0, 0
    for seed in range(first, SEEDS, PARTS):
        lives = Lives(seed)
        lives.run_all()
        promoted, approved = promoted + lives.promoted, approved + lives.approved
        revoked, retired = revoked + len(lives.revoked), retired + lives.retired
        if lives.wrong:
            wrong[seed] = lives.wrong
    assert wrong == {}
    assert min(promoted, approved, revoked, retired) > 0, "else nothing was simulated"
