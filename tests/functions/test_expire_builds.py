"""expire_builds: Cloud Scheduler's POST."""

from __future__ import annotations

import pytest

from shared.build.build import Outcome, State
from tests.functions.deployed import Deployment
from tests.world import values


@pytest.fixture
def deployment() -> Deployment:
    made = Deployment()
    made.world.store.create(values.build(), values.requested())
    return made


def test_time_passes(deployment: Deployment) -> None:
    deployment.world.clock.time += values.plan().timeout
    with deployment.client("expire_builds") as client:
        response = client.post("/")
    assert response.status_code == 200
    assert response.get_json() == {"builds": 1, "deleted": [], "faults": [], "late": [], "damaged": [], "triggered": []}
    build = deployment.world.build()
    assert (build.state, build.outcome) == (State.CLEANING, Outcome.TIMED_OUT)


def test_only_a_post_lets_it_pass(deployment: Deployment) -> None:
    deployment.world.clock.time += values.plan().timeout
    with deployment.client("expire_builds") as client:
        response = client.get("/")
    assert (response.status_code, response.headers["Allow"]) == (405, "POST")
    assert deployment.world.build().state is State.PREPARING
