"""What publication writes about an image's contents, and where; what it does when a part cannot be had."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from provisioner.protocol import COMPLETED, INVENTORY
from shared.build.build import Outcome, State
from shared.build.plan import SourceImage
from shared.engine.history import each_event
from shared.errors import CloudError, ImageFileError, Permanent, Transient
from shared.planning.requests import admit
from shared.planning.retries import ask_for_retry
from shared.sbom.inventory import of_build
from shared.workers.bill_of_materials import LATE
from shared.workers.carry_out import carry_out
from tests.shared.sbom.checks import names, valid
from tests.world import given_orders, values
from tests.world.fakes import FakeCompute
from tests.world.given_orders import IMAGE, facts, kinds, order_of, put, whole_plan, world_at
from tests.world.memory_bucket import MemoryBucket
from tests.world.world import Guest, World

RESULT = "gs://bucket/results/hello-1.json"
SPDX, CYCLONEDX = "gs://bucket/results/hello-1.spdx.json", "gs://bucket/results/hello-1.cdx.json"
BASE = "gs://cos-tools/18613.75.37/lakitu/sbom.spdx.json"
COS = SourceImage("cos-cloud", "cos-stable-117-18613-75-37", "7")
LINE = "dpkg\tagent\t7\tamd64\t\t\t"


class Blind(FakeCompute):
    """Cannot look into an image, as Compute Engine cannot."""

    def packages(self, project: str, name: str) -> None:
        return None


class Refusing(MemoryBucket):
    """Refuses one object."""

    def __init__(self, refused: str, fault: CloudError) -> None:
        super().__init__()
        self._refused = refused
        self._fault = fault

    def read(self, uri: str) -> bytes:
        if uri == self._refused:
            raise self._fault
        return super().read(uri)

    def write(self, uri: str, data: bytes) -> None:
        if uri == self._refused:
            raise self._fault
        super().write(uri, data)

    def write_if_generation(self, uri: str, data: bytes, generation: str) -> str:
        if uri == self._refused:
            raise self._fault
        return super().write_if_generation(uri, data, generation)


def publish(world: World, bucket: MemoryBucket | None = None, *, blind: bool = False, **image: Any) -> Any:
    """Carry out the order; return the SPDX document beside the result. `image` are fields of the plan's image."""
    source = image.pop("source", None)
    plan = replace(whole_plan(**image), **({"source": source} if source else {}))
    put(world, State.PUBLISHING, plan=plan, result=RESULT)
    world.bucket.objects |= bucket.objects if bucket else {}
    if bucket is not None:
        bucket.objects = world.bucket.objects
    compute = Blind(world.clock, world.bucket) if blind else world.compute
    compute.all_images = world.compute.all_images
    backend = replace(world.backend, bucket=bucket or world.bucket, compute=compute)
    given_orders.publish(world, backend, plan=plan, result=RESULT)
    if "OrderFailed" in kinds(world):
        return [getattr(fact, "reason", "") for fact in facts(world)]
    spdx, cyclonedx = (world.bucket.objects[uri] for uri in (SPDX, CYCLONEDX))
    valid(spdx, cyclonedx)
    return json.loads(spdx)


def listed(document: Any) -> list[tuple[str, str]]:
    return names(json.dumps(document).encode())


def test_both_are_beside_the_result_and_the_image_is_labelled() -> None:
    world = world_at("label_image")
    document = publish(world)
    assert listed(document) == [("base-files", "12.4"), ("libc6", "2.36-9")]
    assert world.compute.all_images[IMAGE].family == "hello"


def test_on_one_machine_they_are_with_the_logs() -> None:
    world = world_at("label_image", whole_plan(export_to=None))
    carry_out(order_of(world, "label_image"), world.backend)
    stem = f"logs/{values.BUILD_ID}/hello-20261120"
    assert {f"{stem}.spdx.json", f"{stem}.cdx.json"} <= set(world.bucket.objects)


def test_an_order_that_comes_again_writes_the_same() -> None:
    world = world_at("label_image")
    publish(world)
    before = dict(world.bucket.objects)
    world.bus.waiting.clear()
    given_orders.publish(world)
    assert world.bucket.objects == before


def test_a_list_that_the_last_word_has_overtaken_is_waited_for() -> None:
    world = world_at("label_image")
    world.backend = replace(world.backend, reports=replace(world.backend.reports, of_contents=True))
    ended = values.reported(kind=COMPLETED, sequence=9, time=world.clock.now())
    world.store.save(world.build(), world.store.load(values.BUILD_ID).version, ended)
    world.clock.time += LATE - 1
    with pytest.raises(Transient, match="has not come yet"):
        publish(world, blind=True)
    listing = values.reported(kind=INVENTORY, output=LINE, sequence=8)
    world.store.save(world.build(), world.store.load(values.BUILD_ID).version, listing)
    assert listed(publish(world, blind=True)) == [("agent", "7")]


def test_a_list_that_never_comes_is_not_waited_for_longer() -> None:
    world = world_at("label_image")
    world.backend = replace(world.backend, reports=replace(world.backend.reports, of_contents=True))
    ended = values.reported(kind=COMPLETED, sequence=9, time=world.clock.now())
    world.store.save(world.build(), world.store.load(values.BUILD_ID).version, ended)
    world.clock.time += LATE
    assert listed(publish(world, blind=True)) == []


def test_where_the_image_cannot_be_read_its_vm_is_believed() -> None:
    world = world_at("label_image")
    text = f"os\tID\tdebian\n{LINE}\ncut\t3"
    event = values.reported(kind=INVENTORY, output=text, message="4 packages; rpm: exit status 1", sequence=8)
    world.store.save(world.build(), world.store.load(values.BUILD_ID).version, event)
    document = publish(world, blind=True)
    assert listed(document) == [("agent", "7")]
    comment = document["packages"][0]["comment"]
    assert comment == "3 packages did not fit into the build machine's report; rpm: exit status 1"
    manifest = json.loads(world.bucket.objects["out/hello.json"])
    assert manifest["packages"] == [
        {"name": "agent", "version": "7", "architecture": "amd64", "kind": "dpkg", "distribution": "debian"}
    ]


def test_a_list_that_comes_after_the_vm_s_last_word_is_kept() -> None:
    """Pub/Sub delivers in any order."""
    world = world_at("export_image")
    world.engine.receive(values.reported(kind=INVENTORY, output=LINE, sequence=8))
    assert of_build(each_event(world.store, values.BUILD_ID)) is not None


def test_a_vm_that_told_nothing_leaves_the_packages_unknown() -> None:
    document = publish(world_at("label_image"), blind=True)
    assert listed(document) == []
    assert "are unknown" in document["packages"][0]["comment"]


@pytest.mark.parametrize("kept", ["disk", "image", "verified image"])
def test_a_build_that_takes_over_an_image_or_disk_says_what_the_vm_before_has_told(kept: str) -> None:
    world, second = World(), "hello-ba9876543210"
    world.compute = Blind(world.clock, world.bucket)
    world.backend = replace(world.backend, compute=world.compute)
    fails = {"disk": "create_image", "image": "", "verified image": "set_family"}[kept]
    world.guest = Guest(fails_at=0, phase="verify" if kept == "image" else "")
    plan = values.plan(retry_for=3600.0, retry_disk_for=3600.0, verify_steps=values.plan().steps)
    if fails:
        world.compute.faults[fails] = Permanent("403: refused")
    world.engine.request(values.requested(plan=plan))
    while not (first := world.build()).ended:
        world.settle()
        world.tick()
    world.store.save(
        first, world.store.load(first.id).version, values.reported(kind=INVENTORY, output=LINE, sequence=8)
    )
    world.compute.faults.clear()
    world.guest = Guest()
    again = replace(plan, build_id=second, request="b" * 64)
    request = admit(again, world.backend) if kept == "verified image" else ask_for_retry(first, None, world.backend)
    world.engine.request(request)
    world.finish()
    done = world.build(request.build_id)
    assert (done.outcome, done.taken_up) == (Outcome.SUCCEEDED, kept == "verified image")
    spdx = world.bucket.objects[f"logs/{done.id}/{IMAGE}.spdx.json"]
    assert names(spdx) == [("agent", "7")]


def test_a_damaged_database_fails_the_publication_and_the_image_stays_out_of_its_family() -> None:
    world = world_at("label_image")
    world.compute.faults["packages"] = ImageFileError("/var/lib/dpkg/status: a package has no name or version")
    assert publish(world) == ["/var/lib/dpkg/status: a package has no name or version"]
    assert world.compute.all_images[IMAGE].family is None


class TestInput:
    """finish-image-build -sbom-input-path, -sbom-output-path."""

    def test_it_is_merged_and_the_document_goes_where_the_spec_wants_it(self) -> None:
        world = world_at("label_image")
        own = {"outputImageName": "ours", "SPDXPackages": [{"SPDXID": "SPDXRef-a", "name": "a", "versionInfo": "1"}]}
        world.bucket.objects["gs://ours/in.json"] = json.dumps(own).encode()
        document = publish(world, sbom_input="gs://ours/in.json", sbom_to="gs://ours/out/")
        assert ("a", "1") in listed(document)
        assert world.bucket.objects["gs://ours/out/ours_sbom.spdx.json"] == world.bucket.objects[SPDX]

    def test_an_object_is_taken_by_its_name(self) -> None:
        world = world_at("label_image")
        publish(world, sbom_to="gs://ours/out.json")
        assert world.bucket.objects["gs://ours/out.json"] == world.bucket.objects[SPDX]

    def test_one_that_has_gone_fails_the_publication_and_the_family_stays(self) -> None:
        world = world_at("label_image")
        [reason] = publish(world, sbom_input="gs://ours/in.json")
        assert reason.startswith("output.sbom.input: ")
        assert "it was there when the build began" in reason
        assert world.compute.all_images[IMAGE].family is None

    def test_one_that_was_changed_says_what_is_wrong(self) -> None:
        world = world_at("label_image")
        world.bucket.objects["gs://ours/in.json"] = b"["
        [reason] = publish(world, sbom_input="gs://ours/in.json")
        assert reason.startswith("output.sbom.input: it is not JSON")

    def test_a_place_that_may_not_be_written_names_the_key_and_what_is_missing(self) -> None:
        fault = Permanent("gs://ours/x: permission storage.objects.create is missing")
        [reason] = publish(world_at("label_image"), Refusing("gs://ours/x", fault), sbom_to="gs://ours/x")
        assert reason == "output.sbom.to: gs://ours/x: permission storage.objects.create is missing"

    def test_a_busy_bucket_is_tried_again(self) -> None:
        with pytest.raises(Transient):
            publish(world_at("label_image"), Refusing("gs://ours/x", Transient("busy")), sbom_to="gs://ours/x")


class TestSourceImage:
    """The public bill of materials of a Container-Optimized OS image."""

    def test_it_is_merged(self) -> None:
        world = world_at("label_image")
        package = {"SPDXID": "SPDXRef-kernel", "name": "kernel", "versionInfo": "6.6"}
        world.bucket.objects[BASE] = json.dumps({"spdxVersion": "SPDX-2.2", "packages": [package]}).encode()
        document = publish(world, source=COS)
        assert ("kernel", "6.6") in listed(document)
        assert [one["externalDocumentId"] for one in document["externalDocumentRefs"]] == [f"DocumentRef-{COS.name}"]

    def test_there_need_be_none(self) -> None:
        document = publish(world_at("label_image"), source=COS)
        assert "publish no bill of materials" in document["packages"][0]["comment"]
        assert "externalDocumentRefs" not in document

    def test_one_that_may_not_be_read_is_noted(self, caplog: pytest.LogCaptureFixture) -> None:
        document = publish(world_at("label_image"), Refusing(BASE, Permanent("forbidden")), source=COS)
        assert "could not be read" in document["packages"][0]["comment"]
        assert "forbidden" in caplog.text

    def test_one_that_cannot_be_reached_is_tried_again(self) -> None:
        with pytest.raises(Transient):
            publish(world_at("label_image"), Refusing(BASE, Transient("busy")), source=COS)

    def test_other_images_have_none_and_none_is_read(self) -> None:
        bucket = Refusing(BASE, Transient("busy"))
        document = publish(world_at("label_image"), bucket, source=replace(COS, project="my-project"))
        assert "comment" not in document["packages"][0]


def test_in_the_deployments_bucket_nothing_is_written_over() -> None:
    """RESULT's folder holds what builds of other authors have written."""
    target = RESULT.rpartition("/")[0] + "/lists/hello.json"
    world = world_at("label_image")
    theirs = MemoryBucket()
    theirs.objects[target] = b"another author's"
    [told] = [text for text in publish(world, theirs, sbom_to=target) if text]
    assert told.startswith(f"output.sbom.to: {target}")
    assert world.bucket.objects[target] == b"another author's"
    named = RESULT.replace("hello", "alice")
    [told] = [text for text in publish(world_at("label_image"), sbom_to=named) if text]
    assert "is named as results of builds are" in told


def test_elsewhere_an_older_one_is_written_over() -> None:
    world = world_at("label_image")
    theirs = MemoryBucket()
    theirs.objects["gs://other/latest.spdx.json"] = b"the one before"
    document = publish(world, theirs, sbom_to="gs://other/latest.spdx.json")
    assert json.loads(theirs.objects["gs://other/latest.spdx.json"]) == document


class Unread(MemoryBucket):
    """Lets its own older object be written over, and not be read: it may be larger than a function's memory."""

    def read(self, uri: str) -> bytes:
        assert uri != "gs://other/latest.spdx.json", "it is read"
        return super().read(uri)


def test_what_is_written_over_is_not_read() -> None:
    theirs = Unread()
    theirs.objects["gs://other/latest.spdx.json"] = b"the one before"
    document = publish(world_at("label_image"), theirs, sbom_to="gs://other/latest.spdx.json")
    assert json.loads(theirs.objects["gs://other/latest.spdx.json"]) == document
