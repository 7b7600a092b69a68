"""Health: each check finds what it is for, says the command that mends it, and keeps no other from being made."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from shared.build.build import ImageDocument, State
from shared.build.image.approval import AskedPromotion
from shared.dashboard.health.checks import MOST_FINDINGS
from shared.errors import StoreError
from shared.ports import Resource
from tests.shared.dashboard.pages_of import OneMachine, Pages
from tests.world import values
from tests.world.world import World

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def world() -> World:
    return World()


def checks(world: World, **more: Any) -> dict[str, Any]:
    machine = more.pop("machine", OneMachine())
    return {check["id"]: check for check in Pages(world, machine, **more).json("/health")["checks"]}


def finding(world: World, check: str, **more: Any) -> dict[str, Any]:
    found = checks(world, **more)[check]
    assert found["count"] == 1
    [only] = found["findings"]
    assert only["what"] in Pages(world, more.pop("machine", OneMachine()), **more).html("/health")
    return dict(only)


def add(world: World, **changes: Any) -> None:
    build = values.build(**changes)
    world.store.create(build, values.requested(build_id=build.id))


def test_all_is_well_where_nothing_was_found(world: World) -> None:
    world.run(values.plan())
    assert {name: check["count"] for name, check in checks(world).items()} == {
        "stuck": 0,
        "dead-letters": 0,
        "leaked": 0,
        "paused": 0,
        "promotions": 0,
        "damaged": 0,
    }
    assert "all is well" in Pages(world, OneMachine()).html("/health")


def test_on_google_cloud_what_is_not_known_has_a_command(world: World) -> None:
    found = checks(world, machine=None, project="my-project")
    assert (found["dead-letters"]["count"], found["leaked"]["count"]) == (None, None)
    assert "pull dead-letters --project my-project" in found["dead-letters"]["command"]
    assert "--project my-project" in found["leaked"]["command"]
    page = Pages(world, project="my-project").html("/health")
    assert "all that is known is well" in page
    assert "not known here" in page


def test_a_build_beyond_its_deadline(world: World) -> None:
    add(world, state=State.PROVISIONING, deadline=values.NOON - 3600)
    found = finding(world, "stuck", options=" --project p")
    assert found["why"] == "it is provisioning, and 60 minutes beyond its deadline"
    assert found["command"] == f"goldsmith builds cancel {values.BUILD_ID} --project p"


def test_a_build_that_cleans_up_for_long(world: World) -> None:
    add(world, state=State.CLEANING, last_seen=values.NOON - 7200, ledger=(values.ledger_entry(),))
    assert "cleaning for 120 minutes; left: machine gs-" in finding(world, "stuck")["why"]


def test_a_build_that_a_killed_process_has_left(world: World) -> None:
    add(world)
    found = finding(world, "stuck", is_interrupted=lambda _build: True)
    assert found["command"] == "goldsmith sweep"


def test_a_build_in_time_is_not_stuck(world: World) -> None:
    add(world, state=State.CLEANING, last_seen=values.NOON)
    add(world, id="other-0123456789ab", state=State.PROVISIONING)
    assert checks(world)["stuck"]["count"] == 0


def test_what_builds_have_left(world: World) -> None:
    machine = OneMachine()
    machine.left = [Resource("disk", f"gs-{HOSTILE}-a1-boot", "local", "old-0123456789ab", 1.0)]
    found = checks(world, machine=machine)["leaked"]
    assert (found["count"], found["command"]) == (1, "goldsmith sweep")
    assert found["findings"][0]["command"] == "goldsmith sweep"
    assert HOSTILE not in Pages(world, machine).html("/health")


def test_an_image_that_is_kept_beyond_its_time(world: World) -> None:
    kept = ImageDocument("local", "old", values.BUILD_ID, "d", state="kept", id="1", until=values.NOON - 1)
    assert world.store.save_image(kept, None)
    assert checks(world, machine=None, project="p")["leaked"]["count"] == 1


def test_many_findings_are_counted_and_the_first_are_listed(world: World) -> None:
    machine = OneMachine()
    machine.left = [Resource("disk", f"gs-{number}", "local", "b", 1.0) for number in range(MOST_FINDINGS + 9)]
    found = checks(world, machine=machine)["leaked"]
    assert (found["count"], len(found["findings"])) == (MOST_FINDINGS + 9, MOST_FINDINGS)
    assert "9 more." in Pages(world, machine).html("/health")


def test_paused_triggers(world: World) -> None:
    assert world.store.save_trigger(values.trigger(paused=values.NOON, failures=5), None)
    assert finding(world, "paused")["command"] == "goldsmith triggers resume gs://goldsmith-test/specs/hello.yaml"
    cloud = finding(world, "paused", project="my-project")["command"]
    assert cloud.startswith("gcloud pubsub topics publish build-requests --project my-project --message")
    assert '{"resume": "gs://goldsmith-test/specs/hello.yaml"}' in cloud


@pytest.mark.parametrize(
    ("ahead", "command"),
    [
        (3600.0, "goldsmith images approve web --channel prod --reason TEXT"),
        (-60.0, "goldsmith images promote web --to prod"),
    ],
)
def test_promotions_that_lapse(world: World, ahead: float, command: str) -> None:
    asked = AskedPromotion("local", "web", "1", "prod", 1, values.NOON, values.NOON + ahead)
    assert world.store.save_promotion(asked, None)
    assert finding(world, "promotions")["command"] == command


def test_a_promotion_with_time_is_not_told_of(world: World) -> None:
    asked = AskedPromotion("local", "web", "1", "prod", 1, values.NOON, values.NOON + 7 * 86_400)
    assert world.store.save_promotion(asked, None)
    assert checks(world)["promotions"]["count"] == 0


def test_documents_that_cannot_be_read(world: World) -> None:
    world.store.promotion_texts["local~web~prod"] = "{"
    world.store.trigger_texts["t1"] = "["
    world.store.images["local", "broken"] = "nothing"
    found = checks(world)["damaged"]
    assert found["count"] == 3
    assert all(each["why"] for each in found["findings"])


def test_a_check_that_fails_keeps_no_other_from_being_made(world: World) -> None:
    class Broken(OneMachine):
        def orphans(self) -> list[Resource]:
            raise StoreError(f"disk {HOSTILE}")

    found = checks(world, machine=Broken())
    assert (found["leaked"]["count"], found["leaked"]["unknown"]) == (None, f"disk {HOSTILE}")
    assert found["damaged"]["count"] == 0
    assert HOSTILE not in Pages(world, Broken()).html("/health")


def test_a_build_that_is_damaged_does_not_hide_others(world: World) -> None:
    add(world, state=State.PROVISIONING, deadline=values.NOON - 3600)
    stored = world.store.load(values.BUILD_ID)
    world.store.create(replace(stored.build, id="other-0123456789ab"), values.requested(build_id="other-0123456789ab"))
    assert checks(world)["stuck"]["count"] == 2
