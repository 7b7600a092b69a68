"""A spec that is built again by itself: uploaded with gsutil, its source replaced with gcloud, asked for by a tick."""

from __future__ import annotations

import time

import pytest

from emulator.cloud.cloud import Cloud
from shared.build.build import Build
from shared.build.trigger import trigger_id
from tests.cloud.person import LIMIT, POLL, Person

pytestmark = pytest.mark.vm


def cancelled(person: Person, build: Build) -> Build:
    """End a build, which is only to begin here."""
    person.goldsmith("builds", "cancel", build.id)
    return person.until("fresh", lambda found: found.id == build.id and found.finished)


def sources(person: Person) -> list[str]:
    found = [build for build in person.builds() if build.name == "fresh" and build.plan is not None]
    return sorted(build.plan.source.name for build in found if build.plan is not None)


def is_active(person: Person) -> bool:
    found = person._store.trigger(trigger_id(f"gs://{person.bucket}/specs/fresh/build.yaml"))
    assert found is not None
    return found.is_active


def test_a_new_source_image_is_built_once(person: Person, cloud: Cloud) -> None:
    def new_source(number: int) -> None:
        origin = ("--source-image=debian-12-base", f"--source-image-project={person.project}")
        person.gcloud("compute", "images", "create", f"fresh-{number}", "--family=fresh", *origin)

    new_source(1)
    changes = {"family: hello": "family: freshened", "family: debian-12": "family: fresh"}
    changes["project: local"] = f"project: {person.project}"
    folder = person.spec("fresh", replace=changes, add="triggers: {source_changed: true, every: 7d}\n")
    person.upload(folder)
    cancelled(person, person.build("fresh"))
    cloud.scheduler.step("expire-builds")
    assert sources(person) == ["fresh-1"]
    new_source(2)
    for _ in range(3):
        cloud.scheduler.step("expire-builds")
    build = person.until("fresh", lambda found: found.plan is not None and found.plan.source.name == "fresh-2")
    cancelled(person, build)
    cloud.scheduler.step("expire-builds")
    assert sources(person) == ["fresh-1", "fresh-2"]
    assert person.result("fresh/build-source-1")["build"] == build.id
    person.run("gsutil", "-q", "rm", f"gs://{person.bucket}/specs/fresh/build.yaml")
    new_source(3)
    cloud.scheduler.step("expire-builds")
    give_up = time.monotonic() + LIMIT
    while is_active(person):
        assert time.monotonic() < give_up, "the spec is gone, and its triggers are not"
        time.sleep(POLL)
    assert sources(person) == ["fresh-1", "fresh-2"]
