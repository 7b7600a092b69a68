"""expire_builds: Cloud Scheduler's POST."""

from __future__ import annotations

from dataclasses import replace

import pytest

from functions.dashboard import HEALTH_SECONDS
from shared.backlog import Backlog
from shared.build.build import Outcome, State
from shared.build.damage import readable_builds
from shared.build.image.approval import AskedPromotion
from shared.errors import Permanent, Transient
from shared.names import BUILD_LABEL, EXPIRES_LABEL
from shared.ports import Message
from shared.topology import DEAD_LETTERS_SUBSCRIPTION, FINALIZED, REQUESTS_TOPIC, UPLOADS_TOPIC
from tests.functions.deployed import BUCKET, Deployment
from tests.world import values
from tests.world.fakes import FakeDisk
from tests.world.intake import SOURCE


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
    keys = ("deleted", "faults", "late", "damaged", "triggered", "left", "unswept", "lapsed")
    assert response.get_json() == {"builds": 1} | {key: [] for key in keys}
    build = deployment.world.build()
    assert (build.state, build.outcome) == (State.CLEANING, Outcome.TIMED_OUT)


def test_a_promotion_that_is_not_approved_lapses(deployment: Deployment) -> None:
    world = deployment.world
    asked = AskedPromotion("my-project", "web-1", "4711", "prod", 1, world.clock.now(), world.clock.now() + 60.0)
    assert world.store.save_promotion(asked, None)
    with deployment.client("expire_builds") as client:
        assert client.post("/").get_json()["lapsed"] == []
        world.clock.time += 60.0
        assert client.post("/").get_json()["lapsed"] == ["my-project~web-1~prod"]
    ended = world.store.promotion(asked.id)
    assert ended is not None
    assert (ended.state, ended.ended) == ("lapsed", world.clock.now())


def test_only_a_post_lets_it_pass(deployment: Deployment) -> None:
    deployment.world.clock.time += values.plan().timeout
    with deployment.client("expire_builds") as client:
        response = client.get("/")
    assert (response.status_code, response.headers["Allow"]) == (405, "POST")
    assert deployment.world.build().state is State.PREPARING


def test_what_needs_a_person_is_written_for_the_dashboard(deployment: Deployment) -> None:
    """An orphan that cannot be deleted, and messages that wait; a fault of the count keeps nothing from being told."""
    world = deployment.world
    labels = {BUILD_LABEL: "old-0123456789ab", EXPIRES_LABEL: "1"}
    world.compute.disks["gs-old-a1-boot"] = FakeDisk("us-central1-a", labels, "")
    world.compute.faults["delete"] = Permanent("disk gs-old-a1-boot: it is in use")
    deployment.backlogs.measured = Backlog(3, world.clock.now() - 7200.0, world.clock.now())
    with deployment.client("expire_builds") as client, deployment.client("dashboard") as browser:
        before = {each["id"]: each for each in browser.get("/api/health").get_json()["checks"]}
        assert (before["leaked"]["count"], before["dead-letters"]["count"]) == (None, None)
        client.post("/")
        assert browser.get("/api/health").get_json()["checks"] == [*before.values()], "it is read once in a while"
        world.clock.time += HEALTH_SECONDS
        found = {each["id"]: each for each in browser.get("/api/health").get_json()["checks"]}
        assert (found["leaked"]["count"], found["dead-letters"]["count"], found["schedules"]["count"]) == (1, 3, 0)
        [left] = found["leaked"]["findings"]
        deployment.backlogs.fault = Transient("Cloud Monitoring: 503")
        client.post("/")
        world.clock.time += HEALTH_SECONDS
        found = {each["id"]: each for each in browser.get("/api/health").get_json()["checks"]}
    assert deployment.backlogs.asked == [DEAD_LETTERS_SUBSCRIPTION] * 2
    assert (found["dead-letters"]["count"], found["dead-letters"]["unknown"]) == (None, "Cloud Monitoring: 503")
    assert found["leaked"]["count"] == 0, "it could be deleted this time"
    assert left["command"] == "gcloud compute disks delete gs-old-a1-boot --zone us-central1-a --project local"
    assert "it is in use" in left["why"]


SPEC = """\
name: hello
source: {project: my-images, family: debian-12}
steps: []
triggers: {source_changed: true, every: 7d}
"""


def test_a_new_source_image_is_built_once_by_way_of_both_functions() -> None:
    made = Deployment()
    world = made.world
    world.compute.all_images["debian-12-1"] = SOURCE
    generation = made.objects.put(f"gs://{BUCKET}/specs/hello.yaml", SPEC)
    told = {"bucketId": BUCKET, "objectId": "specs/hello.yaml", "objectGeneration": generation}
    assert made.push("start_build", Message(UPLOADS_TOPIC, b"", {**told, "eventType": FINALIZED})).status_code == 200
    newer = replace(SOURCE, name="debian-12-2", id="4712", created=SOURCE.created + 1)
    world.compute.all_images[newer.name] = newer
    with made.client("expire_builds") as client:
        [asked] = client.post("/").get_json()["triggered"]
        assert client.post("/").get_json()["triggered"] == [asked], "no function has taken the request yet"
    requests = [message for message in world.bus.published if message.topic == REQUESTS_TOPIC]
    assert [made.push("start_build", message).status_code for message in requests] == [200, 200]
    sources = {build.id: build.plan and build.plan.source.id for build in readable_builds(world.store.builds())}
    assert (len(sources), sources[asked]) == (2, "4712")
    with made.client("expire_builds") as client:
        assert client.post("/").get_json()["triggered"] == []
