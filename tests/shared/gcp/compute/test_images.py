"""Images on Compute Engine: found, made, labelled, deprecated; each done any number of times."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from google.api_core import exceptions
from google.cloud import compute_v1

from emulator.web.identity import Identity
from shared.build.build import ArchiveRecord
from shared.build.image.guest_features import GUEST_FEATURES
from shared.build.image.secure_boot import BootKey, SecureBootKeys
from shared.errors import AlreadyExists, DiskGone, NotFound, Permanent, Transient
from shared.gcp.compute.calls import Answer
from shared.gcp.compute.images import Images
from shared.names import BUILD_LABEL
from shared.ports import Image, ImageRequest
from tests.shared.gcp.compute.compute_cloud import IDLE, PROJECT, ZONES, Cloud, FusedCalls, open_cloud
from tests.world.fuse import Died, Fuse
from tests.world.values import BUILD_ID

DISK = f"gs-{BUILD_ID}-a1-boot"
LICENSES = ("projects/my-project/global/licenses/mine",)
REQUEST = ImageRequest(
    project=PROJECT,
    name="hello-1",
    source_disk=DISK,
    source_project=PROJECT,
    zone=ZONES[0],
    description="says hello",
    labels={BUILD_LABEL: BUILD_ID},
    licenses=LICENSES,
    architecture="x86_64",
)


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    with open_cloud(tmp_path, Identity(tmp_path / "identity")) as cloud:
        yield cloud


def make_disk(cloud: Cloud, name: str = DISK) -> None:
    disk = compute_v1.Disk(name=name, source_image=f"projects/{PROJECT}/global/images/{IDLE}", size_gb=10)
    operation = cloud.client(compute_v1.DisksClient).insert_unary(project=PROJECT, zone=ZONES[0], disk_resource=disk)
    cloud.client(compute_v1.ZoneOperationsClient).wait(project=PROJECT, zone=ZONES[0], operation=operation.name)


def test_a_project_of_a_domain(cloud: Cloud) -> None:
    """example.com:my-project: its images are found, made and changed as those of any project."""
    project, compute = "example.com:my-project", cloud.compute()
    make_disk(cloud)
    made = compute.create_image(replace(REQUEST, project=project))
    assert (made.project, made.name) == (project, "hello-1")
    compute.set_family(project, made.name, "hello")
    assert [image.project for image in compute.images(project, family="hello")] == [project]


KEY = f"projects/{PROJECT}/locations/global/keyRings/images/cryptoKeys/k"
CERTIFICATE, REVOKED = BootKey("MIIABTAFAgEA", "X509"), BootKey("AAECAw==", "BIN")


def test_what_an_image_has_beside_its_disk(cloud: Cloud) -> None:
    cloud.endpoint.provide_key(KEY)
    make_disk(cloud)
    asked = replace(
        REQUEST,
        guest_os_features=("GVNIC", "UEFI_COMPATIBLE"),
        storage_locations=("europe-west4",),
        kms_key=KEY,
        secure_boot_keys=SecureBootKeys(pk=CERTIFICATE, db=(CERTIFICATE,), dbx=(REVOKED,)),
    )
    cloud.compute().create_image(asked)
    made = cloud.client(compute_v1.ImagesClient).get(project=PROJECT, image=REQUEST.name)
    assert {feature.type_ for feature in made.guest_os_features} == {"GVNIC", "UEFI_COMPATIBLE"}
    assert list(made.storage_locations) == ["europe-west4"]
    assert made.image_encryption_key.kms_key_name == KEY
    state = made.shielded_instance_initial_state
    assert (state.pk.content, state.pk.file_type, list(state.keks)) == ("MIIABTAFAgEA", "X509", [])
    assert [(key.content, key.file_type) for key in (*state.dbs, *state.dbxs)] == [
        ("MIIABTAFAgEA", "X509"),
        ("AAECAw==", "BIN"),
    ]


def test_a_key_that_is_not_there_is_told_with_its_remedy(cloud: Cloud) -> None:
    make_disk(cloud)
    remedy = f"using key {KEY}: .*write an existing key in output.kms_key, and grant roles/cloudkms"
    with pytest.raises(Permanent, match=remedy):
        cloud.compute().create_image(replace(REQUEST, kms_key=KEY))
    assert cloud.compute().image(PROJECT, REQUEST.name) is None


def test_features_are_those_that_compute_engine_knows() -> None:
    """The kinds without a meaning, and one that Compute Engine sets itself by other fields, are left out."""
    known = set(compute_v1.GuestOsFeature.Type.__members__)
    assert set(GUEST_FEATURES) == known - {"UNDEFINED_TYPE", "FEATURE_TYPE_UNSPECIFIED", "SECURE_BOOT", "BMSAI_CAPABLE"}


def test_an_image_is_made_of_a_disk_in_no_family(cloud: Cloud) -> None:
    make_disk(cloud)
    compute = cloud.fused()
    made = compute.create_image(REQUEST)
    assert compute.calls.made == ["Images.get", "Images.insert_unary", "GlobalOperations.wait", "Images.get"]
    assert (made.name, made.family, made.source_disk, made.disk_size_gb) == ("hello-1", None, DISK, 10)
    assert (made.labels, made.licenses, made.description) == (REQUEST.labels, LICENSES, "says hello")
    assert (made.architecture, made.deprecated, made.id.isdigit()) == ("x86_64", None, True)
    assert compute.image(PROJECT, "hello-1") == made == compute.create_image(REQUEST)


def test_an_image_of_another_disk_is_not_ours(cloud: Cloud) -> None:
    make_disk(cloud)
    make_disk(cloud, "other")
    cloud.compute().create_image(replace(REQUEST, source_disk="other"))
    with pytest.raises(AlreadyExists, match=f"was made of other, not of {DISK}"):
        cloud.compute().create_image(REQUEST)


def test_a_disk_that_is_gone_makes_no_image(cloud: Cloud) -> None:
    with pytest.raises(DiskGone, match=f"disk {DISK} in .* is gone"):
        cloud.compute().create_image(REQUEST)


def test_one_image_is_made_wherever_the_process_dies(cloud: Cloud) -> None:
    make_disk(cloud)
    for number in range(1, 8):  # before and after four calls, of which the first finds nothing
        request = replace(REQUEST, name=f"hello-{number}")
        with pytest.raises(Died):
            cloud.fused(number).create_image(request)
        assert cloud.compute().create_image(request).name == request.name


def test_several_at_once_make_one_image(cloud: Cloud) -> None:
    make_disk(cloud)
    ids: list[str] = []
    threads = [threading.Thread(target=lambda: ids.append(cloud.compute().create_image(REQUEST).id)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ids) == 4
    assert len(set(ids)) == 1


def test_images_are_listed_newest_first_by_family_and_by_prefix(cloud: Cloud) -> None:
    make_disk(cloud)
    compute = cloud.compute()
    for name, family in (("one-1", "one"), ("one-2", "one"), ("two-1", "two"), ("one.x", "")):
        if "." not in name:
            compute.create_image(replace(REQUEST, name=name))
            compute.set_family(PROJECT, name, family)
    compute.deprecate_image(PROJECT, "one-1", "one-2", None)
    assert [image.name for image in compute.images(PROJECT, family="one")] == ["one-2", "one-1"]
    assert [image.name for image in compute.images(PROJECT, prefix="two")] == ["two-1"]
    assert [image.name for image in compute.images(PROJECT, family="one", prefix="one-2")] == ["one-2"]
    assert [image.name for image in compute.images(PROJECT)] == ["two-1", "one-2", "one-1", IDLE]
    assert compute.images(PROJECT, family="none") == []
    assert compute.image(PROJECT, "none") is None


def test_labels_come_before_the_family_and_once(cloud: Cloud) -> None:
    make_disk(cloud)
    made = cloud.compute().create_image(REQUEST)
    compute = cloud.fused()
    labels = {BUILD_LABEL: BUILD_ID, "team": "infra"}
    compute.label_image(made, labels)
    compute.set_family(PROJECT, "hello-1", "hello")
    wait = "GlobalOperations.wait"
    labelled, joined = (
        ["Images.get", "Images.set_labels_unary", wait],
        ["Images.get", "Images.patch_unary", wait, "Images.get"],
    )
    assert compute.calls.made == labelled + joined
    image = compute.image(PROJECT, "hello-1")
    assert image is not None
    assert (image.labels, image.family) == (labels, "hello")
    again = cloud.fused()
    again.label_image(made, labels)
    again.set_family(PROJECT, "hello-1", "hello")
    assert again.calls.made == ["Images.get"] * 2


def test_an_image_leaves_its_family_for_one_of_ours_and_can_come_back(cloud: Cloud) -> None:
    """Compute Engine refuses an empty family, and takes null for no change."""
    make_disk(cloud)
    compute = cloud.compute()
    compute.create_image(REQUEST)
    images = cloud.client(compute_v1.ImagesClient)
    for family in ("hello", None, None, "hello"):
        compute.set_family(PROJECT, "hello-1", family)
        image = compute.image(PROJECT, "hello-1")
        assert image is not None
        assert image.family == family
        assert images.get(project=PROJECT, image="hello-1").family == (family or "gs-withdrawn")
    with pytest.raises(exceptions.BadRequest, match=r"resource\.family"):
        images.patch_unary(project=PROJECT, image="hello-1", image_resource=compute_v1.Image(family=""))


class Deaf(FusedCalls):
    """Compute Engine says that it has changed an image's family, and has not."""

    def call(self, method: Callable[..., Answer], request: object, seconds: float) -> Answer:
        if isinstance(request, compute_v1.PatchImageRequest):
            request = compute_v1.PatchImageRequest(
                project=request.project, image=request.image, image_resource=compute_v1.Image(description="else")
            )
        return super().call(method, request, seconds)


def test_a_family_that_does_not_change_is_said(cloud: Cloud) -> None:
    make_disk(cloud)
    cloud.compute().create_image(REQUEST)
    images = Images(Deaf(cloud.settings, cloud.clock, Fuse()))
    with pytest.raises(Transient, match="its family is none after it was set to hello; it can be tried again"):
        images.set_family(PROJECT, "hello-1", "hello")
    cloud.compute().set_family(PROJECT, "hello-1", "hello")
    with pytest.raises(Permanent, match="its family is hello after it was set to gs-withdrawn"):
        images.set_family(PROJECT, "hello-1", None)


def test_labels_that_others_change_meanwhile_stay_theirs(cloud: Cloud) -> None:
    """Before our look at them, and between that and our write."""
    make_disk(cloud)
    made = cloud.compute().create_image(REQUEST)
    cloud.compute().label_image(made, {"team": "infra"})
    for seen in (made, replace(made, id="1", labels={"team": "infra"})):
        with pytest.raises(Transient, match=r"image hello-1 of project .* has changed meanwhile"):
            cloud.compute().label_image(seen, {})
    image = cloud.compute().image(PROJECT, "hello-1")
    assert image is not None
    assert (image.labels, image.family) == ({"team": "infra"}, None)
    cloud.endpoint.fail_next("POST .*/setLabels$", 412, reason="conditionNotMet")
    with pytest.raises(Transient, match="has changed meanwhile"):
        cloud.compute().label_image(image, {})


def test_deprecation_names_replacement_and_time(cloud: Cloud) -> None:
    make_disk(cloud)
    compute = cloud.fused()
    for name in ("hello-1", "hello-2"):
        compute.create_image(replace(REQUEST, name=name))
    compute.deprecate_image(PROJECT, "hello-1", "hello-2", 1_900_000_000.0)
    image = compute.image(PROJECT, "hello-1")
    assert image is not None
    assert (image.deprecated, image.replacement, image.deletes_at) == ("DEPRECATED", "hello-2", 1_900_000_000.0)
    made = len(compute.calls.made)
    compute.deprecate_image(PROJECT, "hello-1", "hello-2", 1_900_000_000.0)
    assert compute.calls.made[made:] == ["Images.get"]


def test_an_image_that_is_gone(cloud: Cloud) -> None:
    compute = cloud.compute()
    compute.delete("image", "gone", PROJECT, "")
    with pytest.raises(NotFound, match="image gone is gone from project"):
        compute.label_image(Image(PROJECT, "gone", "1", 0.0), {})
    with pytest.raises(NotFound, match="image gone is gone from project"):
        compute.deprecate_image(PROJECT, "gone", "other", None)


def test_an_image_is_deleted(cloud: Cloud) -> None:
    make_disk(cloud)
    compute = cloud.compute()
    compute.create_image(REQUEST)
    compute.delete("image", "hello-1", PROJECT, "", image_id="1")
    made = compute.image(PROJECT, "hello-1")
    assert made is not None, "it has another id"
    compute.delete("image", "hello-1", PROJECT, "", image_id=made.id)
    assert compute.image(PROJECT, "hello-1") is None


def test_an_image_of_the_same_name_is_deleted_too_and_at_once(cloud: Cloud) -> None:
    """The same request again would be taken for the one that has been carried out already."""
    make_disk(cloud)
    images = cloud.client(compute_v1.ImagesClient)
    for _time in range(2):
        disk = f"projects/{PROJECT}/zones/{ZONES[0]}/disks/{DISK}"
        operation = images.insert_unary(
            project=PROJECT, image_resource=compute_v1.Image(name="hello-1", source_disk=disk)
        )
        cloud.client(compute_v1.GlobalOperationsClient).wait(project=PROJECT, operation=operation.name)
        cloud.compute().delete("image", "hello-1", PROJECT, "")
        assert cloud.compute().image(PROJECT, "hello-1") is None


def test_an_image_of_two_builds_is_made_for_the_second_at_once(cloud: Cloud) -> None:
    """The second has taken the name over, and has deleted what the first could not publish."""
    make_disk(cloud)
    make_disk(cloud, "other")
    compute = cloud.compute()
    first = compute.create_image(REQUEST)
    compute.delete("image", "hello-1", PROJECT, "")
    second = compute.create_image(replace(REQUEST, source_disk="other", labels={BUILD_LABEL: "other"}))
    assert (first.source_disk, second.source_disk) == (DISK, "other")


def test_a_deprecation_at_another_time_is_another_request(cloud: Cloud) -> None:
    make_disk(cloud)
    compute = cloud.compute()
    for name in ("hello-1", "hello-2", "hello-3"):
        compute.create_image(replace(REQUEST, name=name))
    for replacement, deletes_at in (("hello-2", 1_900_000_000.0), ("hello-3", None), ("hello-2", 1_950_000_000.0)):
        compute.deprecate_image(PROJECT, "hello-1", replacement, deletes_at)
        image = compute.image(PROJECT, "hello-1")
        assert image is not None
        assert (image.replacement, image.deletes_at) == (replacement, deletes_at)


def test_an_image_that_others_change_meanwhile_is_marked_at_another_try(cloud: Cloud) -> None:
    make_disk(cloud)
    compute = cloud.compute()
    for name in ("hello-1", "hello-2"):
        compute.create_image(replace(REQUEST, name=name))
    seen = compute.image(PROJECT, "hello-1")
    assert seen is not None
    marks: tuple[Callable[[], None], ...] = (
        lambda: compute.deprecate_image(PROJECT, "hello-1", "hello-2", None),
        lambda: compute.obsolete_image(replace(seen, deprecated="DEPRECATED"), "hello-2"),
    )
    for mark in marks:
        cloud.endpoint.fail_next("POST .*/deprecate$", 409)
        with pytest.raises(Transient, match="it can be tried again"):
            mark()
        mark()
    found = compute.image(PROJECT, "hello-1")
    assert found is not None
    assert (found.deprecated, found.replacement) == ("OBSOLETE", "hello-2")


def test_an_archive_is_refused_with_the_way_to_get_one(cloud: Cloud) -> None:
    def progress(what: str, done: int, total: int) -> None:
        raise AssertionError(what)

    def export() -> ArchiveRecord:
        return cloud.compute().export_image(PROJECT, "hello-1", "gs://b/hello.tar.gz", "fast", progress)

    with pytest.raises(Permanent, match=r"gcloud compute images export --image=hello-1 .*=gs://b/hello\.tar\.gz"):
        export()
    assert cloud.compute().packages(PROJECT, "hello-1") is None
