"""Requests to write files of an image that is published: what they make, and what they leave alone."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from shared.build.build import Build, ImageRecord, Outcome, Revocation
from shared.build.limits import Limits
from shared.build.resources import image_document
from shared.errors import InputError, Permanent, PoisonMessage
from shared.intake.exported import wanted_export
from shared.planning.retries import check_retry
from shared.ports import Image
from tests.world import values
from tests.world.intake import BUCKET, Desk, planned, reason
from tests.world.published import add_build, build_of, image_of
from tests.world.world import World

TO = "gs://parcels/web.tar.gz"


@pytest.fixture
def desk() -> Desk:
    """A deployment with a published image, which was built on a large VM with an account."""
    desk = Desk()
    desk.world.clock.time = values.NOON
    build = build_of("web")
    plan = planned(build)
    machine = replace(plan.machine, project="my-project", machine_type="n2-standard-8", service_account="its-own")
    image = replace(plan.image, project="my-project")
    build = replace(build, plan=replace(plan, image=image, machine=machine))
    add_build(desk.world.store, replace(build, image=ImageRecord("my-project", "web", "sha256-web")))
    desk.world.compute.all_images["web"] = replace(image_of(build), project="my-project", disk_size_gb=10)
    return desk


def asked(desk: Desk, message: str = "17", **more: Any) -> Build:
    return desk.publish(message, export={"image": "web", "to": TO, **more})


def ended(desk: Desk, build: Build) -> Build:
    desk.world.finish()
    return desk.world.build(build.id)


def exported(desk: Desk) -> dict[str, bytes]:
    return {uri: data for uri, data in desk.world.bucket.objects.items() if uri.startswith("gs://parcels/")}


def state_of(world: World) -> tuple[Image, object, list[str]]:
    """What must stay as it is."""
    return world.compute.all_images["web"], world.store.image("my-project", "web"), sorted(world.compute.all_images)


def test_files_of_a_published_image_are_written_and_it_stays_as_it_was(desk: Desk) -> None:
    before = state_of(desk.world)
    build = asked(desk, formats=["qcow2", "gce"])
    assert build.id == wanted_export("web", "17", BUCKET).id
    machine = planned(build).machine
    assert (machine.machine_type, machine.service_account) == ("n2-standard-8", "vm@my-project.iam.gserviceaccount.com")
    done = ended(desk, build)
    assert (done.outcome, done.reason) == (Outcome.SUCCEEDED, "")
    assert sorted(exported(desk)) == [f"gs://parcels/web.{each}" for each in (
        "qcow2", "qcow2.sha256", "tar.gz", "tar.gz.sha256"
    )]  # fmt: skip
    assert state_of(desk.world) == before
    left = desk.world.left()
    assert (left["machines"], left["disks"]) == ([], [])
    told = json.loads(desk.world.bucket.objects[build.result])
    assert (told["outcome"], told["sbom"], told["image"]["name"]) == ("succeeded", None, "web")
    assert [name for name in desk.world.bucket.objects if name.startswith(build.result.removesuffix(".json"))] == [
        build.result
    ]
    with pytest.raises(InputError, match="there is nothing to retry"):
        check_retry(done, None)


def test_the_archive_is_written_into_a_folder_and_the_same_message_does_it_once(desk: Desk) -> None:
    build = asked(desk, to="gs://parcels/")
    assert asked(desk, to="gs://parcels/").id == build.id
    assert ended(desk, build).outcome is Outcome.SUCCEEDED
    assert list(exported(desk)) == ["gs://parcels/web.tar.gz"]
    assert asked(desk, to="gs://parcels/").outcome is Outcome.SUCCEEDED


@pytest.mark.parametrize("fault", ["upload", "publication", "revoked"])
def test_a_failed_build_takes_back_its_files_and_leaves_the_image(desk: Desk, fault: str) -> None:
    before = state_of(desk.world)
    build = asked(desk)
    if fault == "upload":
        desk.world.compute.faults["create_machine"] = Permanent("403: compute.instances.create is missing")
    elif fault == "publication":
        desk.world.bucket.write(TO, b"another's")
    else:
        known = desk.world.store.image("my-project", "web")
        assert known is not None
        assert desk.world.store.save_image(replace(known, revoked=Revocation("bad", values.NOON)), known)
        before = state_of(desk.world)
    done = ended(desk, build)
    assert (done.outcome, done.kept_until, done.finished) == (Outcome.FAILED, 0.0, True)
    assert exported(desk) == ({TO: b"another's"} if fault == "publication" else {})
    assert state_of(desk.world) == before
    assert image_document(done) is None
    with pytest.raises(InputError, match="has only written files of image web; ask for them again"):
        check_retry(done, None)


def test_a_committed_publication_that_fails_takes_back_what_it_has_shown(desk: Desk) -> None:
    """The second of two files cannot get its name; the first has it by then."""
    before = state_of(desk.world)
    build = asked(desk, formats=["gce", "qcow2"])
    desk.world.bucket.write("gs://parcels/web.qcow2", b"another's")
    done = ended(desk, build)
    assert (done.outcome, done.committed > 0) == (Outcome.FAILED, True)
    assert exported(desk) == {"gs://parcels/web.qcow2": b"another's"}
    assert state_of(desk.world) == before


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"to": "/tmp/web.tar.gz"}, "is no object; write gs://bucket/object.tar.gz"),
        ({"to": f"gs://{BUCKET}/web.tar.gz"}, "write another bucket"),
        ({"to": 7}, "output.export.to: "),
        ({"formats": ["oci"]}, "output.formats"),
        ({"formats": ["qcow3"]}, "qcow2"),
        ({"zone": "a"}, "a request for files has the keys image, to, formats"),
        ({"image": "none"}, "there is no image none in project my-project that Goldsmith has published"),
    ],
)
def test_a_request_that_cannot_be_is_a_failed_build_with_the_reason(desk: Desk, more: dict[str, Any], why: str) -> None:
    assert why in reason(asked(desk, **more))
    assert exported(desk) == {}


def test_an_image_that_is_bad_is_not_exported(desk: Desk) -> None:
    image, known = desk.world.compute.all_images["web"], desk.world.store.image("my-project", "web")
    assert known is not None
    desk.world.compute.all_images["web"] = replace(image, deprecated="OBSOLETE")
    assert reason(asked(desk, "1")) == "image web of project my-project is OBSOLETE; export another one"
    desk.world.compute.all_images["web"] = image
    desk.world.store.save_image(replace(known, revoked=Revocation("bad", values.NOON)), known)
    assert "image web of project my-project was revoked at" in reason(asked(desk, "2"))


def test_the_deployment_says_which_buckets_there_are(desk: Desk) -> None:
    desk.intake = desk.intake_with(Limits(export_buckets=("others",)))
    assert "export_buckets" in reason(asked(desk))


@pytest.mark.parametrize("data", ['{"export": {}}', '{"export": 1}', '{"export": {"image": "a/b/c", "to": "x"}}'])
def test_what_names_no_image_is_dropped(desk: Desk, data: str) -> None:
    with pytest.raises(PoisonMessage, match="a request for files"):
        desk.intake.published(data.encode(), "17")
    assert desk.made() == 1
