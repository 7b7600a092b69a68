"""start_build: which objects are specs, and what a request on build-requests becomes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shared.build import Outcome, State
from shared.identity import build_id
from shared.ports import Image, Message
from shared.submission import object_request
from tests import values
from tests.functions.deployed import BUCKET, Deployment

FINALIZED = "google.cloud.storage.object.v1.finalized"
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
    generation = deployment.objects.put(f"gs://{BUCKET}/{name}", text)
    data = {"kind": "storage#object", "bucket": BUCKET, "name": name, "generation": generation, "metageneration": "1"}
    source = f"//storage.googleapis.com/projects/_/buckets/{BUCKET}"
    return deployment.event("start_build", FINALIZED, data, source).status_code


@pytest.mark.parametrize("name", ["specs/hello.yaml", "specs/hello.YML", "specs/team/hello.json"])
def test_uploaded_spec_is_built(deployment: Deployment, name: str) -> None:
    assert upload(deployment, name) == 200
    [build] = deployment.world.store.builds()
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
    [build] = deployment.world.store.builds()
    assert (build.state, build.outcome) == (State.FINISHED, Outcome.FAILED)
    document = json.loads(deployment.world.bucket.objects[f"gs://{BUCKET}/results/team/hello-1.json"])
    assert document["reason"].startswith(f"gs://{BUCKET}/specs/team/hello.yaml:2:1: ")


def test_request_is_built_once_however_often_it_comes(deployment: Deployment) -> None:
    message = Message("build-requests", json.dumps({"spec": SPEC}).encode(), {})
    assert deployment.push("start_build", message).status_code == 200
    assert deployment.push("start_build", message).status_code == 200
    assert len(deployment.world.store.builds()) == 1
    assert deployment.push("start_build", message, "18").status_code == 200
    assert len(deployment.world.store.builds()) == 2


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
    assert deployment.event("start_build", FINALIZED, data).status_code == 200
    assert deployment.event("start_build", "google.cloud.storage.object.v1.deleted", data).status_code == 200
    assert deployment.world.store.builds() == []
