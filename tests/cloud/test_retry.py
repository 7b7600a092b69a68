"""A build that fails once its steps are done, and a retry that publishes its image: with goldsmith, and with gcloud."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from emulator.cloud.cloud import Cloud
from shared.build.build import Outcome, State
from shared.build.events import MachineStarted
from shared.planning.retries import retry_id
from tests.cloud.person import Person
from tests.docs.reader import Reader

pytestmark = pytest.mark.vm


def test_what_failed_late_is_published_by_retries_without_a_second_build_vm(person: Person, cloud: Cloud) -> None:
    """Its image cannot be made; then no VM can verify it; then it cannot join its family."""
    reader = Reader(person.folder, person.environment, {"PROJECT": person.project})
    folder = person.spec("unmade", replace={"family: hello": "family: again"}, add="verify: {}\n")
    with denied(cloud, "compute.images.create"):
        printed = person.goldsmith("submit", folder / "build.yaml", status=1)
    [first] = [build for build in person.builds() if build.name == "unmade"]
    disk = f"gs-{first.id}-a1-boot"
    assert (first.outcome, first.state, first.image) == (Outcome.FAILED, State.HELD, None), first.reason
    assert (person.resources("instances"), person.resources("disks")) == ([], [disk])
    assert f"  goldsmith builds retry {first.id} --project" in printed

    with denied(cloud, "compute.instances.create"):
        printed = person.goldsmith("builds", "retry", first.id, status=1)
    unverified = person.until("unmade", lambda build: build.retry_of == first.id and build.finished)
    assert (unverified.outcome, unverified.failed_in) == (Outcome.FAILED, State.VERIFYING), unverified.reason
    refused = person.goldsmith("builds", "retry", unverified.id, "--from", "publish", status=2)
    assert f"build {unverified.id} failed at verify; a retry begins there or earlier" in refused

    with denied(cloud, "compute.images.update"):
        reader.types(
            "gcloud pubsub topics publish build-requests --project PROJECT "
            """--message '{"retry": "BUILD", "from": "verify"}'""",
            BUILD=unverified.id,
        )
        person.until("unmade", lambda build: build.retry_of == unverified.id and build.outcome is not None)
    second = person.until("unmade", lambda build: build.retry_of == unverified.id and build.finished)
    assert second.image is not None, second.reason
    assert {step.status for step in second.verify_steps} == {"done"}
    assert f"goldsmith builds retry {second.id}" in person.goldsmith("builds", "show", second.id)
    assert person.gcloud("compute", "images", "list", "--no-standard-images", "--filter=family=again") == []
    assert person.resources("disks") == []
    cloud.scheduler.step("expire-builds")
    assert person.until("unmade", lambda build: build.id == first.id and build.finished).outcome is Outcome.FAILED

    printed = reader.types("goldsmith builds retry BUILD --project PROJECT", BUILD=second.id)
    assert "newest of family again" in printed.splitlines()[-1]
    [image] = person.gcloud("compute", "images", "list", "--no-standard-images", "--filter=family=again")
    assert (image["id"], image["labels"]["goldsmith-build"]) == (second.image.id, retry_id(second))
    assert image["sourceDisk"].endswith(f"/disks/{disk}")
    assert "goldsmith-expires" not in image["labels"]
    builds = (first.id, unverified.id, second.id, retry_id(second))
    started = [event for each in builds for event in person.events(each) if isinstance(event, MachineStarted)]
    assert {(event.build_id, event.phase) for event in started} == {(first.id, "build"), (second.id, "verify")}

    request = json.dumps({"retry": first.id})
    person.run("gcloud", "pubsub", "topics", "publish", "build-requests", f"--message={request}")
    refused = person.result(f"retry-of-{first.id}-", count=2)
    assert (refused["outcome"], refused["image"]) == ("failed", None)
    assert f"build {first.id} is failed and keeps no image to go on with" in refused["reason"]


@contextmanager
def denied(cloud: Cloud, permission: str) -> Iterator[None]:
    cloud.compute.deny(permission)
    try:
        yield
    finally:
        cloud.compute.faults.clear()
