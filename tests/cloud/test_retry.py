"""A build that fails once its steps are done, and a retry that publishes its image: with goldsmith, and with gcloud."""

from __future__ import annotations

import json

import pytest

from emulator.cloud.cloud import Cloud
from shared.build.build import Outcome
from shared.build.events import MachineStarted
from shared.planning.retries import retry_id
from tests.cloud.person import Person

pytestmark = pytest.mark.vm


def test_an_image_that_could_not_be_published_is_published_by_a_retry_without_a_vm(
    person: Person, cloud: Cloud
) -> None:
    folder = person.spec("late", replace={"family: hello": "family: again"})
    cloud.compute.deny("compute.images.update")  # by which an image joins its family
    try:
        printed = person.goldsmith("submit", folder / "build.yaml", status=1)
    finally:
        cloud.compute.faults.clear()
    [first] = [build for build in person.builds() if build.name == "late"]
    assert (first.outcome, first.finished, first.image is not None) == (Outcome.FAILED, True, True), first.reason
    assert f"goldsmith builds retry {first.id}" in printed
    assert person.gcloud("compute", "images", "list", "--no-standard-images", "--filter=family=again") == []

    printed = person.goldsmith("builds", "retry", first.id)
    assert "newest of family again" in printed.splitlines()[-1]
    [image] = person.gcloud("compute", "images", "list", "--no-standard-images", "--filter=family=again")
    assert first.image is not None
    assert (image["id"], image["labels"]["goldsmith-build"]) == (first.image.id, retry_id(first))
    assert "goldsmith-expires" not in image["labels"]
    assert [event for event in person.events(retry_id(first)) if isinstance(event, MachineStarted)] == []
    assert len([event for event in person.events(first.id) if isinstance(event, MachineStarted)]) == 1

    request = json.dumps({"retry": first.id})
    person.run("gcloud", "pubsub", "topics", "publish", "build-requests", f"--message={request}")
    refused = person.result(f"retry-of-{first.id}-", count=2)
    assert (refused["outcome"], refused["image"]) == ("failed", None)
    assert f"build {retry_id(first)} has published the image of build {first.id}" in refused["reason"]
