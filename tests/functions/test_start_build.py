"""start_build: which objects are specs, and what a request on build-requests becomes."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from emulator.pubsub.message_filter import message_filter
from emulator.pubsub.router import notification
from shared.build.build import Outcome, State
from shared.build.cost.usage import build_usage
from shared.build.damage import readable_builds
from shared.build.identity import build_id
from shared.build.limits import FamilyBudget, Limits
from shared.ports import Image, Message
from shared.submission import object_request
from shared.topology import FINISHED_TOPIC, SUBSCRIPTIONS, UPLOADS_TOPIC
from tests.functions.deployed import BUCKET, SETTINGS, Deployment
from tests.world import values

FOLLOWED_FILTER = next(each.filter for each in SUBSCRIPTIONS if each.topic == FINISHED_TOPIC)
EVENTARC = "google.cloud.storage.object.v1.finalized"
SPEC = """\
name: hello
source: {project: my-images, family: debian-12}
steps: []
"""


@pytest.fixture
def deployment() -> Deployment:
    made = Deployment()
    image = Image("my-images", "debian-12-1", "4711", created=values.NOON, family="debian-12")
    made.world.compute.all_images[image.name] = image
    return made


def upload(deployment: Deployment, name: str, text: str = SPEC) -> int:
    return notify(deployment, name, deployment.objects.put(f"gs://{BUCKET}/{name}", text))


def notify(deployment: Deployment, name: str, generation: str) -> int:
    """Push what Cloud Storage publishes of an object that was written."""
    resource = {"kind": "storage#object", "bucket": BUCKET, "name": name, "generation": generation}
    return deployment.push("start_build", notification(UPLOADS_TOPIC, resource)).status_code


def call_by_eventarc(deployment: Deployment, name: str, generation: str) -> int:
    """Send the event of the same object that the release before was called by."""
    data = {"kind": "storage#object", "bucket": BUCKET, "name": name, "generation": generation}
    source = f"//storage.googleapis.com/projects/_/buckets/{BUCKET}"
    return deployment.event("start_build", EVENTARC, data, source).status_code


@pytest.mark.parametrize("name", ["specs/hello.yaml", "specs/hello.YML", "specs/team/hello.json"])
def test_uploaded_spec_is_built(deployment: Deployment, name: str) -> None:
    assert upload(deployment, name) == 200
    [build] = readable_builds(deployment.world.store.builds())
    assert (build.id, build.state) == (build_id("hello", object_request(BUCKET, name, "1")), State.PREPARING)
    assert [message.attributes["order"] for message in deployment.world.bus.published] == ["create_resources"]


@pytest.mark.parametrize("name", ["hello.yaml", "results/hello.json", "specs/preload.sh", "specs/", "xspecs/a.yaml"])
def test_other_objects_are_left_alone(deployment: Deployment, name: str) -> None:
    assert upload(deployment, name) == 200
    assert deployment.world.store.builds() == []
    assert deployment.objects.downloaded == []


def test_bad_spec_is_a_failed_build_and_acknowledged(deployment: Deployment) -> None:
    assert upload(deployment, "specs/team/hello.yaml", "name: [") == 200
    deployment.world.finish()
    [build] = readable_builds(deployment.world.store.builds())
    assert (build.state, build.outcome) == (State.FINISHED, Outcome.FAILED)
    document = json.loads(deployment.world.bucket.objects[f"gs://{BUCKET}/results/team/hello-1.json"])
    assert document["reason"].startswith(f"gs://{BUCKET}/specs/team/hello.yaml:2:1: ")


CUSTOMIZER = "gcr.io/cos-cloud/cos-customizer"
START = "[start-image-build, -image-name=debian-12-1, -image-project=my-images, -gcs-bucket=b, -gcs-workdir=w]"
FINISH = "[finish-image-build, -zone=us-west1-b, -project=$PROJECT_ID, -image-project=$PROJECT_ID, -image-name={name}]"
WORKFLOW = "steps:\n" + "".join(
    f"- {{name: {CUSTOMIZER}, args: {args}}}\n"
    for name in ("one", "two")
    for args in (START, FINISH.replace("{name}", name))
)


def test_uploaded_workflow_is_built_one_image_after_the_other(deployment: Deployment) -> None:
    assert upload(deployment, "specs/cloudbuild.yaml", WORKFLOW) == 200
    deployment.world.finish()
    [announced] = deployment.world.announced
    assert message_filter(FOLLOWED_FILTER)(announced.attributes)
    for _ in range(2):
        assert deployment.push("start_build", announced).status_code == 200
    deployment.world.finish()
    assert {build.name: build.outcome for build in readable_builds(deployment.world.store.builds())} == {
        "one": Outcome.SUCCEEDED,
        "two": Outcome.SUCCEEDED,
    }
    assert not message_filter(FOLLOWED_FILTER)(deployment.world.announced[-1].attributes)


@pytest.mark.parametrize("attributes", [{}, {"build_id": "one-0123456789ab"}])
def test_word_of_a_build_that_there_is_not_is_dropped(deployment: Deployment, attributes: dict[str, str]) -> None:
    message = Message(FINISHED_TOPIC, b'{"id": "one-0123456789ab"}', attributes)
    assert deployment.push("start_build", message).status_code == 200
    assert deployment.world.store.builds() == []


def test_request_is_built_once_however_often_it_comes(deployment: Deployment) -> None:
    message = Message("build-requests", json.dumps({"spec": SPEC}).encode(), {})
    assert deployment.push("start_build", message).status_code == 200
    assert deployment.push("start_build", message).status_code == 200
    assert len(deployment.world.store.builds()) == 1
    assert deployment.push("start_build", message, "18").status_code == 200
    assert len(deployment.world.store.builds()) == 2


def test_both_ways_of_an_upgrade_lead_to_one_build(deployment: Deployment) -> None:
    generation = deployment.objects.put(f"gs://{BUCKET}/specs/hello.yaml", SPEC)
    for tell in (call_by_eventarc, notify, call_by_eventarc, notify):
        assert tell(deployment, "specs/hello.yaml", generation) == 200
    [build] = readable_builds(deployment.world.store.builds())
    assert build.id == build_id("hello", object_request(BUCKET, "specs/hello.yaml", generation))


def test_each_generation_is_a_build_of_its_own(deployment: Deployment) -> None:
    for _ in range(2):
        assert upload(deployment, "specs/hello.yaml") == 200
    assert len(deployment.world.store.builds()) == 2


@pytest.mark.parametrize("name", ["specs/hello.yaml", "results/hello.json"])
def test_event_of_the_release_before_is_taken(deployment: Deployment, name: str) -> None:
    generation = deployment.objects.put(f"gs://{BUCKET}/{name}", SPEC)
    assert call_by_eventarc(deployment, name, generation) == 200
    assert len(deployment.world.store.builds()) == (1 if name.startswith("specs/") else 0)


NOTIFIED = {"eventType": "OBJECT_FINALIZE", "bucketId": BUCKET, "objectId": "specs/a.yaml", "objectGeneration": "1"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"eventType": "OBJECT_DELETE"},
        {"eventType": ""},
        {"bucketId": "another"},
        {"bucketId": ""},
        {"objectId": ""},
        {"objectGeneration": ""},
        {"objectGeneration": "1; drop"},
        {"objectGeneration": "١"},
    ],
)
def test_notification_that_is_none_of_ours_is_dropped(deployment: Deployment, wrong: dict[str, str]) -> None:
    deployment.objects.put(f"gs://{BUCKET}/specs/a.yaml", SPEC)
    message = Message(UPLOADS_TOPIC, b"{}", {**NOTIFIED, **wrong})
    assert deployment.push("start_build", message).status_code == 200
    assert deployment.world.store.builds() == []
    assert deployment.push("start_build", Message(UPLOADS_TOPIC, b"{}", NOTIFIED)).status_code == 200
    assert len(deployment.world.store.builds()) == 1


@pytest.mark.parametrize(
    "data",
    [
        {"bucket": "another", "name": "specs/a.yaml", "generation": "1"},
        {"bucket": BUCKET, "name": 5, "generation": "1"},
        {"bucket": BUCKET, "name": "specs/a.yaml"},
        {"bucket": BUCKET, "name": "specs/a.yaml", "generation": "1; drop"},
        [],
        b"no JSON",
    ],
)
def test_event_that_is_none_of_ours_is_dropped(deployment: Deployment, data: Any) -> None:
    assert deployment.event("start_build", EVENTARC, data).status_code == 200
    assert deployment.event("start_build", "google.cloud.storage.object.v1.deleted", data).status_code == 200
    assert deployment.world.store.builds() == []


def test_what_a_budget_has_no_room_for_is_a_failed_build_with_a_result_and_makes_nothing(
    deployment: Deployment,
) -> None:
    limits = Limits(budgets={"hello": FamilyBudget(0.001, 86_400.0)})
    deployment.backend = replace(deployment.backend, settings=replace(SETTINGS, limits=limits))
    text = f"{SPEC}output: {{family: hello}}\nbuild: {{machine_type: e2-standard-2}}\n"
    assert upload(deployment, "specs/hello.yaml", text) == 200
    deployment.world.finish()
    made = set(deployment.world.compute.all_images)
    assert upload(deployment, "specs/hello.yaml", text) == 200
    deployment.world.finish()
    assert set(deployment.world.compute.all_images) == made
    first, second = sorted(readable_builds(deployment.world.store.builds()), key=lambda build: build.created)
    assert (first.outcome, second.outcome, second.plan, second.ledger) == (
        Outcome.SUCCEEDED,
        Outcome.FAILED,
        None,
        (),
    )
    document = json.loads(deployment.world.bucket.objects[f"gs://{BUCKET}/results/hello-2.json"])
    assert document["outcome"] == "failed"
    assert document["reason"].startswith("budgets: hello: the builds of family hello that were requested in the last")
    usage = build_usage(first)
    assert usage is not None
    assert f"have used ${usage.dollars:.4f}," in document["reason"]
    assert "the budget is $0.0010; " in document["reason"]
    upload(deployment, "specs/hello.yaml", text.replace("family: hello}", "family: other}"))
    [begun] = readable_builds(deployment.world.store.builds(unfinished=True))
    assert (begun.state, begun.plan is not None and begun.plan.image.family) == (State.PREPARING, "other")
