"""Builds that specs with triggers ask for by themselves, from the upload to the build."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import pytest

from shared.build.build import Build, ImageRecord, Outcome, State
from shared.build.damage import readable_builds
from shared.build.limits import FamilyBudget, Limits
from shared.build.trigger import Trigger, trigger_id
from shared.errors import PoisonMessage
from shared.intake.request import of_upload
from shared.planning.turns import give_turns
from shared.ports import Clock
from shared.topology import REQUESTS_TOPIC
from shared.upkeep.expiry import expire_builds
from shared.upkeep.triggers import pull_triggers
from tests.world import values
from tests.world.intake import BUCKET, PLAIN, SOURCE, SPEC, Desk, planned, reason
from tests.world.packed_context import packed_context

DAY = 86_400.0
URI = f"gs://{BUCKET}/specs/hello.yaml"
BOTH = f"{PLAIN}triggers: {{source_changed: true, every: 7d}}\n"
SOURCE_ALONE = f"{PLAIN}rebuild: changed\ntriggers: {{source_changed: true}}\n"


@pytest.fixture
def desk() -> Desk:
    made = Desk()
    made.world.clock.time = values.NOON
    return made


def trigger(desk: Desk) -> Trigger:
    found = desk.world.store.trigger(trigger_id(URI))
    assert found is not None
    return found


def pull(desk: Desk) -> list[str]:
    """Let a minute pass, and have all requests taken; return what was asked for."""
    desk.world.clock.time += 60
    asked = pull_triggers(desk.world.backend, desk.world.clock.time + 240)
    for message in requests(desk):
        desk.intake.published(message, "any")
    return asked


def requests(desk: Desk) -> Iterator[bytes]:
    found = [message.data for message in desk.world.bus.published if message.topic == REQUESTS_TOPIC]
    desk.world.bus.published.clear()
    return iter(found)


def new_source(desk: Desk, number: int = 4712) -> None:
    image = replace(SOURCE, name=f"debian-12-{number}", id=str(number), created=desk.world.clock.time)
    desk.world.compute.all_images[image.name] = image


def builds(desk: Desk) -> list[Build]:
    return sorted(readable_builds(desk.world.store.builds()), key=lambda build: build.created)


def test_another_source_image_is_built_once(desk: Desk) -> None:
    first = desk.upload(BOTH)
    assert pull(desk) == []
    new_source(desk)
    [asked] = pull(desk)
    assert [pull(desk) for _ in range(3)] == [[], [], []]
    assert [build.id for build in builds(desk)] == [first.id, asked]
    again = planned(builds(desk)[1])
    assert (again.source.id, again.rebuild) == ("4712", "always")
    assert desk.world.store.load(asked).build.result == f"gs://{BUCKET}/results/hello-source-1.request.json"


def test_each_period_is_built_once_also_where_nothing_has_changed(desk: Desk) -> None:
    desk.upload(BOTH.replace("triggers:", "rebuild: changed\ntriggers:"))
    for _ in range(4):
        desk.world.clock.time += 7 * DAY
        assert len(pull(desk)) == 1
        assert pull(desk) == []
    assert [planned(build).rebuild for build in builds(desk)] == ["changed", *["always"] * 4]


def test_what_is_due_is_asked_for_by_expire_builds(desk: Desk) -> None:
    desk.upload(BOTH)
    new_source(desk)
    asked = expire_builds(desk.world.backend, "my-project").triggered
    assert len(asked) == 1
    assert expire_builds(desk.world.backend, "my-project").triggered == asked, "nothing has taken the request yet"
    assert [desk.intake.published(message, "any")[0].id for message in requests(desk)] == [*asked, *asked]
    assert desk.made() == 2


def test_two_processes_at_once_ask_for_one_build(desk: Desk) -> None:
    desk.upload(BOTH)
    new_source(desk)
    backend, store = desk.world.backend, desk.world.store
    [listed] = store.triggers()
    assert isinstance(listed, Trigger)
    assert len(pull_triggers(backend, backend.clock.now() + 9)) == 1
    assert not store.save_trigger(replace(listed, number=9), listed)
    assert trigger(desk).number == 1


def test_the_spec_that_was_accepted_last_is_built(desk: Desk) -> None:
    desk.upload(BOTH)
    rejected = desk.upload("name: hello\nsteps: 7\n")
    assert rejected.outcome is Outcome.FAILED
    new_source(desk)
    [asked] = pull(desk)
    assert planned(desk.world.store.load(asked).build).source.id == "4712"
    desk.upload(f"{BOTH}description: the second\n")
    new_source(desk, 4713)
    [asked] = pull(desk)
    assert planned(desk.world.store.load(asked).build).image.description == "the second"


def test_an_older_upload_that_comes_late_takes_nothing_back(desk: Desk) -> None:
    old = desk.put("specs/hello.yaml", BOTH)
    found = desk.objects.stat(URI, old)
    desk.upload(SOURCE_ALONE)
    assert found is not None
    desk.intake.take(of_upload(replace(found, generation="1"), BUCKET))
    assert (trigger(desk).every, trigger(desk).source_changed) == (0.0, True)


@pytest.mark.parametrize("text", [PLAIN, PLAIN.replace("hello", "other")])
def test_a_spec_without_triggers_in_its_place_removes_them(desk: Desk, text: str) -> None:
    desk.upload(BOTH)
    desk.upload(text)
    new_source(desk)
    assert pull(desk) == []
    assert not trigger(desk).is_active


def test_a_spec_that_is_deleted_is_built_no_more(desk: Desk) -> None:
    desk.upload(BOTH)
    desk.objects.remove(URI)
    new_source(desk)
    assert len(pull(desk)) == 1
    assert (desk.made(), trigger(desk).is_active) == (1, False)
    assert pull(desk) == []


def test_a_rejected_upload_has_no_triggers(desk: Desk) -> None:
    desk.upload(BOTH.replace("debian-12", "nothing"))
    assert desk.world.store.trigger(trigger_id(URI)) is None


def test_limits_hold_for_what_triggers_ask_for() -> None:
    desk = Desk()
    desk.upload(BOTH)
    strict = Desk(Limits(max_timeout=60.0))
    desk.intake._deployment = strict.intake._deployment
    new_source(desk)
    [asked] = pull(desk)
    build = desk.world.store.load(asked).build
    assert build.outcome is Outcome.FAILED
    assert "max_timeout of this deployment is 1m" in build.reason


def test_a_source_that_cannot_be_looked_up_keeps_no_others_waiting(desk: Desk) -> None:
    desk.upload(BOTH.replace("every: 7d", "every: 1h"), "specs/other.yaml")
    desk.upload(SOURCE_ALONE)
    desk.world.compute.all_images.clear()
    desk.world.clock.time += 3600
    assert len(pull_triggers(desk.world.backend, desk.world.clock.time + 9)) == 1


def test_a_message_that_names_no_build_of_a_trigger_is_dropped(desk: Desk) -> None:
    desk.upload(BOTH)
    for number in (0, 1, 99):
        message = f'{{"trigger": "{trigger_id(URI)}", "number": {number}}}'.encode()
        assert desk.intake.published(message, "any") == ()
    assert desk.intake.published(f'{{"trigger": "{"0" * 32}", "number": 1}}'.encode(), "any") == ()
    for key in ("unknown", "", "..", "a/b/c", "0" * 33, f"{'0' * 32}\\n"):
        with pytest.raises(PoisonMessage):
            desk.intake.published(f'{{"trigger": "{key}", "number": 1}}'.encode(), "any")


def test_damage_of_one_trigger_keeps_no_others_waiting(desk: Desk) -> None:
    desk.upload(BOTH)
    desk.upload(SOURCE_ALONE.replace("name: hello", "name: other"), "specs/other.yaml")
    desk.world.store.damage("", "{", trigger=trigger_id(URI))
    new_source(desk)
    [asked] = pull_triggers(desk.world.backend, desk.world.clock.time + 9)
    assert asked.startswith("other-")


def test_two_uploads_of_the_very_same_delivery_register_once(desk: Desk) -> None:
    generation = desk.put("specs/hello.yaml", BOTH)
    first = desk.intake.uploaded("specs/hello.yaml", generation)
    known = trigger(desk)
    desk.world.clock.time += 60
    assert desk.intake.uploaded("specs/hello.yaml", generation)[0].id == first[0].id
    assert trigger(desk) == known


def test_a_packed_context_is_copied_by_each_build(desk: Desk) -> None:
    data, digest = packed_context({"preload.sh": "true\n"})
    brought = f"gs://{BUCKET}/uploads/{digest}.tar"
    desk.objects.put(brought, data)
    build = desk.upload(f"{SPEC}triggers: {{every: 30d}}\n", goldsmith_context=brought)
    uris = [trigger(desk).packed, context_of(build)]
    desk.objects.remove(brought)
    for _ in range(2):
        desk.world.clock.time += 30 * DAY
        [asked] = pull(desk)
        uris += [trigger(desk).packed, context_of(desk.world.store.load(asked).build)]
    months = ["2026-11", "2026-11", "2026-12", "2026-12", "2027-01", "2027-01"]
    assert uris == [f"gs://{BUCKET}/contexts/{month}/{digest}.tar" for month in months]


def test_a_packed_context_is_named_where_its_copy_is_though_a_request_is_delivered_again_in_the_next_month(
    desk: Desk,
) -> None:
    data, digest = packed_context({"preload.sh": "true\n"})
    desk.put(f"uploads/{digest}.tar", data)
    desk.upload(f"{SPEC}triggers: {{every: 7d}}\n", goldsmith_context=f"gs://{BUCKET}/uploads/{digest}.tar")
    desk.objects.remove(f"gs://{BUCKET}/uploads/{digest}.tar")
    desk.world.clock.time += 7 * DAY
    pull_triggers(desk.world.backend, desk.world.clock.time + 9)
    [message] = requests(desk)
    begun = desk.intake.published(message, "any")
    desk.world.clock.time += 30 * DAY
    assert desk.intake.published(message, "any")[0].id == begun[0].id
    assert trigger(desk).packed == context_of(begun[0]) == f"gs://{BUCKET}/contexts/2026-11/{digest}.tar"
    [asked] = pull(desk)
    assert context_of(desk.world.store.load(asked).build) == f"gs://{BUCKET}/contexts/2026-12/{digest}.tar"


def test_where_there_is_no_time_for_all_triggers_each_has_its_minute(desk: Desk) -> None:
    for number in range(3):
        desk.upload(BOTH.replace("hello", f"hello{number}"), f"specs/hello{number}.yaml")
    new_source(desk)
    slow, asked = SlowClock(desk.world.clock), set()
    backend = replace(desk.world.backend, clock=slow)
    for _ in range(3):
        desk.world.clock.time += 60 - desk.world.clock.time % 60
        asked |= set(pull_triggers(backend, desk.world.clock.time + 4))
    assert {each.rpartition("-")[0] for each in asked} == {"hello0", "hello1", "hello2"}


@dataclass
class SlowClock:
    """Time passes at each look."""

    real: Clock

    def now(self) -> float:
        self.real.pause(1)
        return self.real.now()

    def pause(self, seconds: float) -> None:
        self.real.pause(seconds)


@pytest.mark.parametrize("triggers", ["{source_changed: true}", "{every: 31d}"])
def test_a_packed_context_that_would_be_deleted_in_between_is_refused(desk: Desk, triggers: str) -> None:
    data, digest = packed_context({"preload.sh": "true\n"})
    desk.put(f"uploads/{digest}.tar", data)
    build = desk.upload(f"{SPEC}triggers: {triggers}\n", goldsmith_context=f"gs://{BUCKET}/uploads/{digest}.tar")
    assert reason(build).startswith("triggers: a packed context is deleted when it was not used for two months; write")
    assert desk.world.store.trigger(trigger_id(URI)) is None


def context_of(build: Build) -> str:
    context = planned(build).context
    assert context is not None
    return context.uri


def test_a_spec_that_is_too_long_has_no_triggers(desk: Desk) -> None:
    build = desk.upload(BOTH + "# " + "x" * (64 << 10) + "\n")
    assert (build.state, build.outcome) == (State.CLEANING, Outcome.FAILED)
    assert "one with triggers has 65536 at most" in build.reason


SPEC_CHANGED = f"{PLAIN}triggers: {{spec_changed: true}}\n"


def finish(desk: Desk, build: Build, outcome: Outcome) -> None:
    stored = desk.world.store.load(build.id)
    image = ImageRecord("my-project", planned(build).image.name, "77") if outcome is Outcome.SUCCEEDED else None
    if image is not None:
        made = replace(SOURCE, project=image.project, name=image.name, id=image.id, family=None)
        desk.world.compute.all_images[image.name] = made
    ended = replace(stored.build, state=State.FINISHED, outcome=outcome, image=image)
    desk.world.store.save(ended, stored.version)


def test_the_same_spec_once_more_is_unchanged(desk: Desk) -> None:
    first = desk.upload(SPEC_CHANGED)
    finish(desk, first, Outcome.SUCCEEDED)
    new_source(desk)
    for _ in range(2):
        again = desk.upload(SPEC_CHANGED)
        assert (again.outcome, again.image and again.image.id) == (Outcome.UNCHANGED, "77")
        assert again.id != first.id
    other = desk.upload(f"{SPEC_CHANGED}description: other\n")
    assert (other.outcome, other.state) == (None, State.PREPARING)


def test_the_same_spec_once_more_is_built_where_its_build_has_failed(desk: Desk) -> None:
    first = desk.upload(SPEC_CHANGED)
    finish(desk, first, Outcome.FAILED)
    second = desk.upload(SPEC_CHANGED)
    assert second.state is State.PREPARING
    finish(desk, second, Outcome.SUCCEEDED)
    assert desk.upload(SPEC_CHANGED).outcome is Outcome.UNCHANGED


def test_the_same_spec_once_more_waits_for_its_build(desk: Desk) -> None:
    desk.upload(SPEC_CHANGED)
    again = desk.upload(SPEC_CHANGED)
    assert (again.state, planned(again).rebuild) == (State.QUEUED, "changed")


def test_an_upload_whose_first_delivery_died_is_unchanged_all_the_same(desk: Desk) -> None:
    finish(desk, desk.upload(SPEC_CHANGED), Outcome.SUCCEEDED)
    for call in range(1, 30):
        generation = desk.put("specs/hello.yaml", SPEC_CHANGED)
        desk.world.burn_at(call)
        died = not desk.world.survives(partial(desk.intake.uploaded, "specs/hello.yaml", generation))
        desk.world.burn_at(None)
        [build] = desk.intake.uploaded("specs/hello.yaml", generation)
        assert build.outcome is Outcome.UNCHANGED, call
        if not died:
            return
    pytest.fail("it died at each call")


def test_triggers_that_fail_in_a_row_are_paused_announced_and_resumed(desk: Desk) -> None:
    first = desk.upload(BOTH)
    desk.world.backend = replace(desk.world.backend, trigger_failures=2)
    for number in range(3):
        new_source(desk, 4712 + number)
        for build in builds(desk):
            if build.id != first.id and not build.finished and build.plan is not None:
                finish(desk, build, Outcome.FAILED)
        pull(desk)
    assert trigger(desk).paused
    said = [build for build in builds(desk) if build.plan is None]
    assert [build.reason.split(";")[0] for build in said] == [
        f"the triggers of {URI} are paused, since 2 builds in a row have failed"
    ]
    assert pull(desk) == []
    assert len([build for build in builds(desk) if build.plan is None]) == 1, "it is said once"
    assert desk.intake.published(f'{{"resume": "{URI}"}}'.encode(), "any") == ()
    assert len(pull(desk)) == 1
    with pytest.raises(PoisonMessage, match="which has none"):
        desk.intake.published(b'{"resume": "gs://nothing"}', "any")
    with pytest.raises(PoisonMessage, match="which has none"):
        desk.intake.published(b'{"resume": 7}', "any")


def test_builds_that_a_budget_has_no_room_for_pause_no_trigger(desk: Desk) -> None:
    first = desk.upload(f"{BOTH}output: {{family: hello}}\nbuild: {{machine_type: e2-standard-2}}\n")
    desk.world.backend = replace(desk.world.backend, trigger_failures=2)
    desk.world.clock.time += 3600
    finish(desk, first, Outcome.SUCCEEDED)
    stored = desk.world.store.load(first.id)
    desk.world.store.save(replace(stored.build, updated=desk.world.clock.time), stored.version)  # a disk for an hour
    desk.intake = desk.intake_with(Limits(budgets={"hello": FamilyBudget(0.0001, 30 * DAY)}))
    for number in range(4):
        new_source(desk, 4712 + number)
        assert len(pull(desk)) == 1
    refused = [build for build in builds(desk) if build.id != first.id]
    assert len(refused) == 4
    assert all(build.reason.startswith("budgets: hello: ") for build in refused)
    for build in refused:
        stored = desk.world.store.load(build.id)
        desk.world.store.save(replace(stored.build, state=State.FINISHED), stored.version)
    assert pull(desk) == [], "each cause has had its build"
    assert (trigger(desk).paused, trigger(desk).failures, trigger(desk).asked) == (0.0, 0, ())


def test_each_pause_is_announced_though_no_build_was_asked_for_in_between(desk: Desk) -> None:
    desk.upload(BOTH)
    asked = []
    for number in (4712, 4713):
        new_source(desk, number)
        asked += pull(desk)
    desk.world.backend = replace(desk.world.backend, trigger_failures=1)
    for times, build_id in enumerate(asked, start=1):
        finish(desk, desk.world.store.load(build_id).build, Outcome.FAILED)
        for _ in range(2):
            assert pull(desk) == []
            assert len([build for build in builds(desk) if build.plan is None]) == times
        desk.intake.published(f'{{"resume": "{URI}"}}'.encode(), "any")


def test_newer_requests_of_a_spec_supersede_queued_ones() -> None:
    desk = Desk(Limits(concurrency=1))
    running = desk.upload(PLAIN, "specs/busy.yaml")
    first, second = desk.upload(BOTH), desk.upload(f"{BOTH}description: two\n")
    other = desk.upload(BOTH, "specs/other.yaml")
    give_turns(desk.world.backend, 1e12)
    found = {build.id: build for build in builds(desk)}
    assert found[first.id].outcome is Outcome.CANCELLED
    assert found[first.id].reason == f"superseded by build {second.id}, a newer request of the same spec"
    assert [found[each.id].state for each in (running, second, other)] == [
        State.PREPARING,
        State.QUEUED,
        State.QUEUED,
    ]


def test_a_build_that_is_made_in_any_case_is_superseded_by_no_other() -> None:
    desk = Desk(Limits(concurrency=1))
    desk.upload(PLAIN, "specs/busy.yaml")
    text = f"{PLAIN}rebuild: changed\ntriggers: {{every: 7d}}\n"
    first = desk.upload(text)
    desk.world.clock.time += 7 * DAY
    [asked] = pull_triggers(desk.world.backend, desk.world.clock.time + 9)
    for message in requests(desk):
        desk.intake.published(message, "any")
    second = desk.upload(text)
    give_turns(desk.world.backend, 1e12)
    states = {build.id: build.state for build in builds(desk)}
    assert (states[asked], states[second.id]) == (State.QUEUED, State.QUEUED)
    assert desk.world.store.load(first.id).build.outcome is Outcome.CANCELLED
