"""The report of a run of retirement is read as it was written."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from shared.build.image.retire_rules import RetireRule
from shared.errors import NotFound, StoreError
from shared.image_users import ImageUse
from shared.published.retirement import Retiring
from shared.published.retirement_report import MOST_TOLD, read_report, run_retirement
from tests.world.published import FAMILY, add_build, build_of, image_of
from tests.world.world import World

REPORT = "gs://bucket/retirement/report.json"


class NoUsers:
    """Nothing uses images here."""

    def uses(self, project: str, images_of: str) -> Iterator[ImageUse]:
        yield from ()


@pytest.fixture
def world() -> World:
    made = World()
    for age, name in enumerate(("three", "two", "one")):
        add_build(made.store, build_of(name))
        made.compute.all_images[name] = image_of(build_of(name), 86400.0 * age)
    return made


def test_it_tells_each_image_its_rules_and_its_consumers(world: World) -> None:
    with pytest.raises(NotFound, match="retire_images of the deployment is empty, or has not run"):
        read_report(REPORT, world.backend)
    rules = {FAMILY: RetireRule(3600.0, 2)}
    begun = world.clock.now()
    run_retirement(Retiring("local", rules, ("local", "web"), NoUsers()), world.backend, REPORT)
    found = read_report(REPORT, world.backend)
    assert (found.time, found.images, found.rules, found.consumers) == (begun, 3, rules, ("local", "web"))
    told = {each.verdict.name: (each.verdict.action, each.fault) for each in found.told}
    assert told == {"three": ("keep", ""), "two": ("keep", ""), "one": ("obsolete", "")}
    assert found.images <= MOST_TOLD


@pytest.mark.parametrize(
    "data", ["", "[]", "{}", '{"told": 7}', '{"told": [{}]}', '{"told": [{"fault": ""}]}', '{"told": [], "time": "x"}']
)
def test_one_that_cannot_be_read_is_said_so(world: World, data: str) -> None:
    world.bucket.write(REPORT, data.encode())
    with pytest.raises(StoreError, match=r"report.json cannot be read: .*; the next run of retire_images writes it"):
        read_report(REPORT, world.backend)


def test_keys_of_a_later_release_are_left_out(world: World) -> None:
    told = {"project": "p", "name": "n", "family": "f", "action": "keep", "why": "w", "fault": "none", "later": 1}
    document = {"time": 1.0, "images": 5, "rules": {}, "consumers": [], "told": [told], "later": 1}
    world.bucket.write(REPORT, json.dumps(document).encode())
    found = read_report(REPORT, world.backend)
    assert (found.images, found.told[0].verdict.why, found.told[0].fault) == (5, "w", "none")
