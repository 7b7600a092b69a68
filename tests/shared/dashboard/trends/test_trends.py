"""Trends: what the newest builds tell of phases, outcomes, sizes and cost, and how that is drawn."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from shared.build.build import ImageRecord, Outcome, State
from shared.build.events import BuildRequested
from shared.build.plan import ImagePlan, MachinePlan
from shared.dashboard.trends.area import dollars_text
from shared.dashboard.trends.trends import MOST_SHOWN
from shared.ports import Image
from tests.browser.scenes import Tale, tell
from tests.shared.dashboard.pages_of import Pages
from tests.world import values
from tests.world.world import World

DAY = 86_400.0
LENGTHS = {"preparing": 8.0, "provisioning": 33.0, "exporting": 21.0, "publishing": 2.0, "cleaning": 2.0}


def ended(number: int, family: str | None = "web", fails: bool = False, day: int = 0, wait: float = 0.0) -> Tale:
    """A build that makes an image of `number` kilobytes, or fails in its step, which takes 26 s and `wait`."""
    build_id = f"web-{number:012x}"
    image = ImagePlan("local", f"web-{number}", family=family)
    tale = Tale(build_id, values.NOON + number * 600 + day * DAY, steps=values.plan().steps, image=image).boots()
    if fails:
        return tale.fails(0, 26.0 + wait, "no such file")
    return published(tale.step(0, 26.0 + wait).completes(), number)


def published(tale: Tale, number: int) -> Tale:
    image = ImageRecord("local", f"web-{number}", f"id-{number}")
    tale.add(values.image_exported(image=image), 21.0).add(values.publication_staged(), 1.0)
    return tale.add(values.image_published(), 1.0).add(values.cleaned_up(), 2.0)


def world_of(*tales: Tale) -> World:
    world = World()
    for tale in tales:
        made = tell(world.store, tale).image
        if made is not None:
            size = 1000 * int(made.name.rpartition("-")[2])
            world.compute.all_images[made.name] = Image("local", made.name, made.id, tale.at, archive_bytes=size)
    return world


def changed(world: World, number: int, **changes: Any) -> None:
    stored = world.store.load(f"web-{number:012x}")
    world.store.save(replace(stored.build, **changes), stored.version)


def test_each_build_has_its_phases_and_its_size() -> None:
    document = Pages(world_of(ended(1), ended(2, wait=100.0))).json("/trends")
    first, second = document["builds"]
    assert first["phases"] == pytest.approx(LENGTHS, abs=0.5)
    assert second["phases"]["provisioning"] == pytest.approx(LENGTHS["provisioning"] + 100, abs=0.5)
    assert first["seconds"] == pytest.approx(sum(first["phases"].values()))
    assert (first["image_bytes"], second["image_bytes"]) == (1000, 2000)
    page = Pages(world_of(ended(1))).html("/trends")
    for title in ("Build time by phase", "Size of the image", "Outcomes by day"):
        assert title in page


def test_a_build_that_failed_has_the_phases_that_it_came_to() -> None:
    [failed] = Pages(world_of(ended(1, fails=True))).json("/trends")["builds"]
    assert list(failed["phases"]) == ["preparing", "provisioning", "cleaning"]
    assert (failed["outcome"], failed["image_bytes"]) == ("failed", None)


def test_attempts_are_added_up() -> None:
    tale = Tale("web-000000000001", values.NOON, steps=values.plan().steps, image=ImagePlan("local", "web-1")).boots()
    tale.add(values.machine_stopped(how="preempted", claim=None), 30.0).boots(attempt=2).step(0, 10.0, attempt=2)
    [told] = Pages(world_of(published(tale.completes(attempt=2), 1))).json("/trends")["builds"]
    assert told["phases"]["preparing"] == pytest.approx(16.0, abs=0.5)
    assert told["phases"]["provisioning"] == pytest.approx(53.0, abs=0.5)


def test_of_a_build_whose_events_are_gone_the_phases_are_not_known() -> None:
    world = World()
    build = replace(values.build(state=State.FINISHED, outcome=Outcome.SUCCEEDED), updated=values.NOON + 90)
    world.store.create(build, values.ticked())
    [told] = Pages(world).json("/trends")["builds"]
    assert (told["phases"], told["seconds"]) == (None, 90.0)
    assert "Build time by phase" not in Pages(world).html("/trends")


def test_of_a_build_whose_events_lack_its_end_the_phases_are_not_known() -> None:
    tale = ended(1)
    tale.events = tale.events[:3]
    world = world_of(tale)
    changed(world, 1, state=State.FINISHED, outcome=Outcome.FAILED)
    assert Pages(world).json("/trends")["builds"][0]["phases"] is None


def test_families_have_rates_and_medians() -> None:
    waits = (ended(number, wait=number * 10.0) for number in (1, 2))
    world = world_of(*waits, ended(3, fails=True), ended(4), ended(5), ended(6, family=None, fails=True))
    changed(world, 4, outcome=Outcome.CANCELLED)
    changed(world, 5, outcome=Outcome.UNCHANGED)
    web, none = Pages(world).json("/trends")["families"]
    assert (web["family"], web["builds"], web["success_rate"]) == ("web", 5, 0.75)
    assert web["median_seconds"] == pytest.approx(sum(LENGTHS.values()) + 15, abs=0.5)
    assert web["median_bytes"] == 1500.0
    assert (none["family"], none["success_rate"], none["median_seconds"]) == (None, 0.0, None)
    page = Pages(world).html("/trends")
    assert "75 %" in page
    assert "no family" in page


def test_what_builds_of_a_project_cost() -> None:
    machine = MachinePlan("my-project", zones=("us-central1-a",), machine_type="e2-standard-2")
    tales = [ended(1), ended(2, wait=3600.0)]
    for tale in tales:
        asked = tale.events[0]
        assert isinstance(asked, BuildRequested)
        tale.events[0] = replace(asked, plan=replace(asked.plan, machine=machine))
    document = Pages(world_of(*tales)).json("/trends")
    first, second = (build["dollars"] for build in document["builds"])
    assert 0 < first < second
    assert document["families"][0]["dollars"] == pytest.approx(first + second)
    assert document["families"][0]["median_dollars"] == pytest.approx((first + second) / 2)
    page = Pages(world_of(*tales)).html("/trends")
    assert "Cost of each build" in page
    assert "Cost is at list prices" not in page


def test_a_build_of_one_machine_costs_nothing_that_is_known() -> None:
    assert Pages(world_of(ended(1))).json("/trends")["builds"][0]["dollars"] is None
    page = Pages(world_of(ended(1))).html("/trends")
    assert "Cost is at list prices" in page
    assert "Cost of each build" not in page


@pytest.mark.parametrize(
    ("dollars", "text"),
    [(None, ""), (0.0, "$0.00"), (0.0132, "$0.0132"), (0.05, "$0.05"), (1.5, "$1.50"), (1234.5, "$1,234.50")],
)
def test_dollars(dollars: float | None, text: str) -> None:
    assert dollars_text(dollars) == text


def test_outcomes_are_counted_by_day() -> None:
    world = world_of(ended(1), ended(2, fails=True), ended(3, day=1), ended(4, day=1))
    assert Pages(world).json("/trends")["days"] == [
        {"day": "2026-11-20", "outcomes": {"succeeded": 1, "failed": 1}},
        {"day": "2026-11-21", "outcomes": {"succeeded": 2}},
    ]


def test_one_family_is_shown_alone() -> None:
    world = world_of(ended(1), ended(2, family="shop"))
    document = Pages(world).json("/trends?family=shop")
    assert [build["id"] for build in document["builds"]] == ["web-000000000002"]
    assert document["choices"] == ["shop", "web"]
    assert "<option selected>shop</option>" in Pages(world).html("/trends?family=shop")


def test_builds_that_go_on_are_not_told() -> None:
    world = World()
    world.store.create(values.build(), values.requested())
    document = Pages(world).json("/trends")
    assert (document["builds"], document["looked_at"]) == ([], 1)
    assert "Nothing to compare yet" in Pages(world).html("/trends")


def test_the_newest_are_told_one_by_one() -> None:
    world = World()
    for number in range(1, MOST_SHOWN + 6):
        build = values.build(id=f"web-{number:012x}", created=values.NOON + number, state=State.FINISHED)
        build = replace(build, outcome=Outcome.FAILED, updated=values.NOON + number + 1)
        world.store.create(build, values.requested(build_id=build.id, plan=build.plan))
    document = Pages(world).json("/trends")
    assert document["builds"][0]["id"] == "web-000000000006"
    assert document["builds"][-1]["id"] == f"web-{MOST_SHOWN + 5:012x}"
    assert document["families"][0]["builds"] == MOST_SHOWN + 5
