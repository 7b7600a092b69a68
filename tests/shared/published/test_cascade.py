"""What was built from a revoked image is built again, each spec once, when its source leads to a good image."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from shared.build.build import Build, ImageRecord, Outcome, Sibling, State, WorkflowPart
from shared.build.damage import readable_builds
from shared.build.image.people import PersonRule
from shared.build.limits import NO_LIMITS
from shared.build.plan import Plan, SourceImage
from shared.build.trigger import MOST_TRIGGERS, Cascade, Trigger, trigger_id
from shared.ports import Image
from shared.published import cascade
from shared.published.image_requests import shown_result, take_image_request
from shared.published.revocation import RevokedImage
from shared.topology import REQUESTS_TOPIC
from shared.upkeep.triggers import pull_triggers
from tests.world import values
from tests.world.intake import BUCKET, Desk, planned
from tests.world.packed_context import packed_context
from tests.world.published import add_build, build_of, image_of

BASE = "name: {name}\nsource: {{project: my-project, family: {source}}}\nsteps: []\noutput: {{family: {name}}}\n"


class Fleet:
    """Images of my-project: base from debian-12, web from base, app from web; each spec was uploaded, and built."""

    def __init__(self) -> None:
        self.desk = Desk()
        self.world = self.desk.world
        self.world.clock.time = values.NOON
        debian = self.desk.world.compute.all_images["debian-12-1"]
        self.world.compute.all_images["debian-12-1"] = replace(debian, project="my-project")
        for name, source in (("base", "debian-12"), ("base", "debian-12"), ("web", "base"), ("app", "web")):
            self.built(name, source)

    def built(self, name: str, source: str, text: str = "") -> Build:
        """Upload a spec, and have its build succeed."""
        self.pass_time(60)
        text = text or BASE.format(name=name, source=source)
        return self.end(self.desk.upload(text, f"specs/{name}.yaml"))

    def end(self, build: Build) -> Build:
        stored, plan = self.world.store.load(build.id), planned(build)
        image = Image(
            plan.image.project,
            plan.image.name,
            f"id-{plan.image.name}",
            self.world.clock.time,
            family=plan.image.family,
            labels=plan.image.labels,
        )
        self.world.compute.all_images[image.name] = image
        record = ImageRecord(image.project, image.name, image.id)
        done = replace(stored.build, state=State.FINISHED, outcome=Outcome.SUCCEEDED, committed=1.0, image=record)
        known = self.world.store.image(image.project, image.name)
        assert known is not None
        published = replace(known, state="published", id=image.id, verified=True, source_id=plan.source.id)
        assert self.world.store.save_image(published, known)
        self.world.store.save(done, stored.version)
        return done

    def pass_time(self, seconds: float) -> None:
        self.world.clock.time += seconds

    def newest(self, family: str) -> Image:
        found = [each for each in self.world.compute.all_images.values() if each.family == family]
        return max((each for each in found if each.deprecated is None), key=lambda each: each.created)

    def revoke(self, name: str, **more: object) -> RevokedImage:
        data = json.dumps({"revoke": {"image": name, "reason": "bad", "cascade": True, **more}}).encode()
        done = take_image_request(data, "my-project", self.world.backend)
        assert isinstance(done, RevokedImage)
        return done

    def minute(self) -> list[Plan]:
        """Let a minute pass, have all requests taken, and end their builds; return what was planned."""
        self.pass_time(60)
        pull_triggers(self.world.backend, self.world.clock.time + 240)
        messages = [each for each in self.world.bus.published if each.topic == REQUESTS_TOPIC]
        self.world.bus.published.clear()
        begun = [build for each in messages for build in self.desk.intake.published(each.data, "any")]
        return [planned(build if build.plan is None else self.end(build)) for build in begun]


@pytest.fixture
def fleet() -> Fleet:
    return Fleet()


def uri(name: str) -> str:
    return f"gs://{BUCKET}/specs/{name}.yaml"


def test_a_spec_is_built_once_its_source_leads_to_a_good_image_and_those_from_it_after_that(fleet: Fleet) -> None:
    bad, before = fleet.newest("base"), fleet.newest("web")
    done = fleet.revoke(bad.name)
    assert sorted(done.rebuilt) == [uri("app"), uri("web")]
    assert f"built again: {uri('app')}, {uri('web')}" in shown_result(done)
    [web] = fleet.minute()
    assert (web.name, web.source.name, web.rebuild) == ("web", fleet.newest("base").name, "always")
    assert web.source.id != bad.id
    [app] = fleet.minute()
    assert (app.name, app.source.name) == ("app", fleet.newest("web").name)
    assert app.source.id != before.id
    assert [fleet.minute() for _ in range(3)] == [[], [], []]
    assert fleet.world.store.triggers() == []


def test_it_is_asked_for_once_however_often_the_image_is_revoked(fleet: Fleet) -> None:
    bad = fleet.newest("base").name
    first = fleet.revoke(bad)
    assert fleet.revoke(bad) == replace(first, restored=False)
    assert len(fleet.world.store.triggers()) == 2
    for _ in range(3):
        fleet.minute()
    again = fleet.revoke(bad)
    assert again.rebuilt == ()
    assert all("which was not built from it" in each for each in again.not_rebuilt)
    assert fleet.minute() == []


def test_what_a_build_makes_that_was_under_way_is_no_good_source(fleet: Fleet) -> None:
    """Its image is no descendant yet when its source is revoked."""
    fleet.pass_time(60)
    under_way = fleet.desk.upload(BASE.format(name="web", source="base"), "specs/web.yaml")
    bad = fleet.newest("base").name
    assert sorted(fleet.revoke(bad).rebuilt) == [uri("app"), uri("web")]
    late = planned(fleet.end(under_way)).image.name
    [web] = fleet.minute()
    assert (web.name, web.source.name == bad) == ("web", False)
    [app] = fleet.minute()
    assert (app.name, app.source.name, app.source.name == late) == ("app", web.image.name, False)


def test_the_results_of_two_revocations_are_two_objects(fleet: Fleet) -> None:
    for _ in range(2):
        for name, source in (("web", "base"), ("app", "web")):
            fleet.built(name, source)
        fleet.revoke(fleet.newest("web").name)
        assert [plan.name for plan in fleet.minute()] == ["app"]
    builds = readable_builds(fleet.world.store.builds())
    assert len({build.result for build in builds if "/app-revoked-" in build.result}) == 2


def test_where_no_good_image_is_left_it_waits_for_one_and_not_for_ever(
    fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    fleet.revoke(fleet.newest("web").name, alone=True)
    assert fleet.minute() == []
    fleet.built("web", "base")
    assert [plan.name for plan in fleet.minute()] == ["app"]
    fleet.revoke(fleet.newest("web").name, alone=True)
    fleet.pass_time(cascade.WAIT_SECONDS)
    caplog.clear()
    assert fleet.minute() == []
    assert fleet.world.store.triggers() == []
    [told] = [each for each in caplog.messages if "is not built again" in each]
    assert told.startswith(f"{uri('app')} is not built again for the revocation of my-project/web-")


def test_the_spec_is_read_as_it_is_then_and_one_that_is_gone_is_a_failed_build(fleet: Fleet) -> None:
    bad = fleet.newest("base").name
    fleet.desk.put("specs/web.yaml", BASE.format(name="web", source="base") + "description: the second\n")
    fleet.revoke(bad)
    [web] = fleet.minute()
    assert web.image.description == "the second"
    fleet.desk.objects.remove(uri("app"))
    fleet.pass_time(60)
    pull_triggers(fleet.world.backend, fleet.world.clock.time + 240)
    [message] = [each for each in fleet.world.bus.published if each.topic == REQUESTS_TOPIC]
    [rejected] = fleet.desk.intake.published(message.data, "any")
    assert (rejected.outcome, rejected.name) == (Outcome.FAILED, "app")
    assert "does not exist; upload the spec first" in rejected.reason
    assert fleet.world.store.triggers() == []


def test_parameters_and_packed_contexts_come_along(fleet: Fleet) -> None:
    data, digest = packed_context({"preload.sh": "true\n"})
    brought = f"gs://{BUCKET}/uploads/{digest}.tar"
    fleet.desk.objects.put(brought, data)
    text = BASE.format(name="site", source="base")
    text += "context: .\nparameters: {text: one}\ndescription: ${text}\n"
    metadata = {"goldsmith-parameters": '{"text": "two"}', "goldsmith-context": brought}
    [build] = fleet.desk.intake.uploaded("specs/site.yaml", fleet.desk.put("specs/site.yaml", text, metadata))
    fleet.end(build)
    fleet.desk.objects.remove(brought)
    assert uri("site") in fleet.revoke(fleet.newest("base").name).rebuilt
    [site] = [plan for plan in fleet.minute() if plan.name == "site"]
    assert site.context is not None
    assert (site.image.description, site.context.uri) == ("two", f"gs://{BUCKET}/contexts/2026-11/{digest}.tar")


def test_what_is_not_built_again_is_named_with_the_reason(fleet: Fleet) -> None:
    base = fleet.newest("base")
    fixed = f"name: fixed\nsource: {{project: my-project, image: {base.name}}}\nsteps: []\noutput: {{family: fixed}}\n"
    fleet.built("fixed", "base", fixed)
    inline = {"name": "inline", "source": {"project": "my-project", "family": "base"}, "steps": []}
    fleet.pass_time(60)
    fleet.end(fleet.desk.publish(spec=inline))
    fleet.built("twice", "base")
    fleet.built("twice", "debian-12")
    part = fleet.built("part", "base")
    stored = fleet.world.store.load(part.id)
    of_two = WorkflowPart("gs://b/cloudbuild.yaml", "1", "a", "r", 0, (Sibling("part"), Sibling("other")))
    workflow = replace(stored.build, workflow=of_two, plan=replace(planned(part), read_from=None))
    fleet.world.store.save(workflow, stored.version)
    told = {
        each.partition(":")[0].rpartition("-")[0].rpartition("-")[0]: each
        for each in fleet.revoke(base.name).not_rebuilt
    }
    assert sorted(told) == ["fixed", "inline", "part", "twice"]
    assert "specs/fixed.yaml names the image that it starts from" in told["fixed"]
    assert "where its spec lies is not known" in told["inline"]
    assert "it is one of several images of gs://b/cloudbuild.yaml" in told["part"]
    assert "family twice leads to twice-" in told["twice"]


def test_so_many_wait_at_once_and_no_more(fleet: Fleet) -> None:
    waiting = Trigger("", "gs://b/s", "s", "", "", values.NOON, cascade=Cascade("p/i", ("1",), values.NOON + 1e6))
    for number in range(cascade.MOST_REBUILDS - 1):
        fleet.world.store.save_trigger(replace(waiting, id=trigger_id(str(number))), None)
    done = fleet.revoke(fleet.newest("base").name)
    assert (len(done.rebuilt), len(done.not_rebuilt)) == (1, 1)
    assert "100 builds wait for revocations; ask again after these" in done.not_rebuilt[0]


def test_those_that_wait_take_no_room_of_specs_with_triggers(fleet: Fleet) -> None:
    assert len(fleet.revoke(fleet.newest("base").name).rebuilt) == 2
    for number in range(MOST_TRIGGERS - 1):
        fleet.world.store.save_trigger(values.trigger(id=trigger_id(str(number))), None)
    text = BASE.format(name="timed", source="debian-12") + "triggers: {every: 7d}\n"
    assert planned(fleet.desk.upload(text, "specs/timed.yaml")).name == "timed"
    refused = fleet.desk.upload(text, "specs/more.yaml")
    assert f"triggers: {MOST_TRIGGERS} specs of this deployment have some" in refused.reason


def test_without_cascade_nothing_is_asked_for(fleet: Fleet) -> None:
    done = fleet.revoke(fleet.newest("base").name, cascade=False)
    assert (done.rebuilt, fleet.minute()) == ((), [])


def test_a_build_of_the_release_before_has_no_known_place(fleet: Fleet) -> None:
    build = build_of("old", source=fleet.newest("base").name)
    assert build.plan is not None
    image = replace(build.plan.image, project="my-project", family="old")
    source = SourceImage("my-project", fleet.newest("base").name, fleet.newest("base").id)
    record = ImageRecord("my-project", "old", "sha256-old")
    build = replace(build, plan=replace(build.plan, image=image, source=source), image=record)
    add_build(fleet.world.store, build)
    fleet.world.compute.all_images["old"] = replace(image_of(build), project="my-project")
    left = fleet.revoke(fleet.newest("base").name).not_rebuilt
    assert left == ("old: where its spec lies is not known; build that again",)


def test_a_rebuild_has_the_author_of_the_spec_if_that_is_still_the_same() -> None:
    fleet = Fleet()
    people = {"ann": PersonRule(("ann@example.com",), folder=True)}
    fleet.world.backend = replace(fleet.world.backend, people=lambda: people)
    fleet.desk.intake = fleet.desk.intake_with(NO_LIMITS)
    for name in ("people/ann/shop", "people/ann/till"):
        fleet.built(name, "", BASE.format(name=name[-4:], source="base"))
    fleet.desk.put("specs/people/ann/till.yaml", BASE.format(name="till", source="base"))
    fleet.revoke(fleet.newest("base").name)
    authors = {each.name: each.author for each in fleet.minute()}
    assert authors == {"shop": "ann@example.com", "till": "", "web": ""}
