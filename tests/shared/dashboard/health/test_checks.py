"""Health: each check finds what it is for, says the command that mends it, and keeps no other from being made."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from shared.backlog import Backlog
from shared.build.build import ImageDocument, State
from shared.build.image.approval import AskedPromotion
from shared.dashboard.health.findings import MOST_FINDINGS
from shared.errors import StoreError
from shared.json_values import to_document
from shared.ports import Resource
from shared.runtime.doctor import HostCheck
from shared.upkeep.sweep import LeftResource
from shared.upkeep.upkeep_report import UpkeepReport
from tests.shared.dashboard.pages_of import OneMachine, Pages
from tests.world import values
from tests.world.world import World

HOSTILE = "<script>alert(1)</script>"
CLOUD: dict[str, Any] = {
    "machine": None,
    "project": "my-project",
    "upkeep": "gs://goldsmith-test/upkeep/report.json",
    "retirement": "gs://goldsmith-test/retirement/report.json",
}


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
        "machine": 0,
        "paused": 0,
        "promotions": 0,
        "damaged": 0,
    }
    assert "all is well" in Pages(world, OneMachine()).html("/health")


def test_on_google_cloud_nothing_is_known_before_the_first_report(world: World) -> None:
    found = checks(world, **CLOUD)
    assert [found[name]["count"] for name in ("dead-letters", "leaked", "schedules")] == [None] * 3
    assert "pull dead-letters --project my-project" in found["dead-letters"]["command"]
    assert "has written no report yet" in found["leaked"]["unknown"]
    page = Pages(world, **CLOUD).html("/health")
    assert "all that is known is well" in page
    assert "not known here" in page


def report(world: World, **what: Any) -> None:
    told = UpkeepReport(**{"time": values.NOON, "dead_letters": Backlog(0, 0.0, values.NOON), **what})
    world.bucket.write(CLOUD["upkeep"], json.dumps(to_document(told)).encode())


def test_on_google_cloud_all_is_well_where_the_report_says_so(world: World) -> None:
    report(world)
    assert {check["count"] for check in checks(world, **CLOUD).values()} == {0}
    page = Pages(world, **CLOUD).html("/health")
    assert "all is well" in page
    assert "Seen <time" in page


def test_dead_letters_are_counted(world: World) -> None:
    report(world, dead_letters=Backlog(70, values.NOON - 7200.0, values.NOON - 60.0))
    found = checks(world, **CLOUD)["dead-letters"]
    assert (found["count"], found["more"], found["seen"]) == (70, 0, values.NOON - 60.0)
    assert "the oldest for 1 h 59 min" in found["findings"][0]["why"]
    assert "pull dead-letters --project my-project" in found["command"]


def test_dead_letters_that_cannot_be_counted_are_not_known(world: World) -> None:
    report(world, dead_letters=None, unmeasured=HOSTILE)
    found = checks(world, **CLOUD)["dead-letters"]
    assert (found["count"], found["unknown"]) == (None, HOSTILE)
    assert HOSTILE not in Pages(world, **CLOUD).html("/health")


def test_what_the_sweep_cannot_delete(world: World) -> None:
    disk = LeftResource("disk", f"gs-{HOSTILE}", "their project", "us-central1-a", "old-0123456789ab", "locked")
    report(world, left=(disk, replace(disk, kind="object", zone="")), left_count=60)
    found = checks(world, **CLOUD)["leaked"]
    assert (found["count"], found["more"]) == (60, 58)
    first, second = found["findings"]
    quoted = f"'gs-{HOSTILE}' --zone us-central1-a --project 'their project'"
    assert first["command"] == f"gcloud compute disks delete {quoted}"
    assert second["command"] == ""
    assert HOSTILE not in Pages(world, **CLOUD).html("/health")


def test_a_project_that_cannot_be_swept_is_not_known(world: World) -> None:
    report(world, unswept=("the sweep of theirs: no permission",))
    found = checks(world, **CLOUD)["leaked"]
    assert (found["count"], found["unknown"]) == (None, "the sweep of theirs: no permission")


def test_a_schedule_that_is_paused(world: World) -> None:
    report(world)
    retired = {"time": values.NOON, "rules": {}, "images": 0, "consumers": [], "told": []}
    world.bucket.write(CLOUD["retirement"], json.dumps(retired).encode())
    world.clock.time += 901.0
    [found] = checks(world, **CLOUD)["schedules"]["findings"]
    assert found["command"].startswith("gcloud scheduler jobs resume goldsmith-expire-builds --location REGION")
    [found] = checks(world, prefix="acme", **CLOUD)["schedules"]["findings"]
    assert found["command"].startswith("gcloud scheduler jobs resume acme-expire-builds --location REGION")
    world.clock.time += 13 * 3600.0
    assert [each["what"] for each in checks(world, **CLOUD)["schedules"]["findings"]] == [
        "schedule expire-builds",
        "schedule retire-images",
    ]


def test_what_the_work_of_a_minute_could_not_do(world: World) -> None:
    report(world, faults=("build hello-1: Firestore does not answer",))
    [found] = checks(world, **CLOUD)["schedules"]["findings"]
    assert (found["what"], found["why"]) == ("build hello-1", "Firestore does not answer")


def test_a_report_that_cannot_be_read_is_not_known(world: World) -> None:
    for data in (b"[]", b"[" * 100_000, b'{"time": "x"}'):
        world.bucket.write(CLOUD["upkeep"], data)
        assert "cannot be read" in checks(world, **CLOUD)["schedules"]["unknown"]


def test_what_this_machine_lacks(world: World) -> None:
    machine = OneMachine()
    machine.lacks = [HostCheck("qemu-img", False, "it is not installed", "goldsmith doctor --install")]
    assert finding(world, "machine", machine=machine)["command"] == "goldsmith doctor --install"


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
    assert HOSTILE not in Pages(world, machine).html("/health")


def test_an_image_that_is_kept_beyond_its_time(world: World) -> None:
    kept = ImageDocument("local", "old", values.BUILD_ID, "d", state="kept", id="1", until=values.NOON - 1)
    assert world.store.save_image(kept, None)
    assert checks(world, machine=None, project="p")["leaked"]["count"] == 1


def test_what_has_found_something_comes_first_and_then_what_is_not_known(world: World) -> None:
    report(world, dead_letters=None, unmeasured="no measurement")
    assert world.store.save_trigger(values.trigger(paused=values.NOON, failures=5), None)
    found = Pages(world, **CLOUD).json("/health")["checks"]
    assert [(each["id"], each["count"]) for each in found[:3]] == [("paused", 1), ("dead-letters", None), ("stuck", 0)]


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
