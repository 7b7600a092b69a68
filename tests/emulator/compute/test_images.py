"""Images, as Google's client library makes, finds, labels and deprecates them."""

from __future__ import annotations

import gzip
import io
import tarfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.api_core.exceptions import BadRequest, Conflict, NotFound, PreconditionFailed
from google.cloud.compute_v1 import (
    DeprecationStatus,
    Disk,
    GlobalSetLabelsRequest,
    GuestOsFeature,
    Image,
    Operation,
    RawDisk,
)

from emulator.web.identity import Identity
from shared.clock import SystemClock
from shared.images.catalogue import Catalogue
from tests.emulator.compute.clients import IDLE, PROJECT, ZONE, Cloud, idle_cloud

SOURCE = f"projects/debian-cloud/global/images/family/{IDLE}"


@pytest.fixture
def cloud(tmp_path: Path, identity: Identity) -> Iterator[Cloud]:
    with idle_cloud(tmp_path, identity) as cloud:
        yield cloud


def add(cloud: Cloud, name: str, **fields: object) -> Operation:
    image = Image({"source_image": SOURCE, "name": name, **fields})
    return cloud.done(cloud.images.insert_unary(project=PROJECT, image_resource=image))


def archive(name: str = "disk.raw", size: int = 1 << 30) -> bytes:
    """A disk of zeroes as Compute Engine imports it."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as tar:
        member = tarfile.TarInfo(name)
        member.size = size
        tar.addfile(member, io.BytesIO(bytes(size)))
    return gzip.compress(file.getvalue(), 1)


GOOGLE = "https://www.googleapis.com/compute/v1/"


def test_catalogue_is_seen_in_every_project(cloud: Cloud) -> None:
    for project in ("debian-cloud", PROJECT):
        [image] = cloud.images.list(project=project)
        assert (image.name, image.family, image.status, image.disk_size_gb) == (IDLE, IDLE, "READY", 1)
        assert image.self_link == f"{GOOGLE}projects/{project}/global/images/{IDLE}"  # whichever endpoint is asked
        assert cloud.images.get(project=project, image=IDLE) == image
        assert cloud.images.get_from_family(project=project, family=IDLE) == image


def test_image_of_a_disk_has_what_the_disk_and_the_request_say(cloud: Cloud) -> None:
    features = [GuestOsFeature(type_="UEFI_COMPATIBLE"), GuestOsFeature(type_="GVNIC")]
    licenses = ["projects/debian-cloud/global/licenses/debian-12"]
    assert not add(cloud, "first", guest_os_features=features, licenses=licenses).error.errors
    disk = Disk(name="copy", source_image="global/images/first", size_gb=2)
    assert not cloud.done(cloud.disks.insert_unary(project=PROJECT, zone=ZONE, disk_resource=disk)).error.errors
    made = Image(
        name="second",
        source_disk=f"zones/{ZONE}/disks/copy",
        family="made",
        description="of a disk",
        labels={"team": "infra"},
        licenses=["global/licenses/mine"],
    )
    request = {"project": PROJECT, "image_resource": made}
    assert not cloud.done(cloud.images.insert_unary(request=request)).error.errors
    image = cloud.images.get_from_family(project=PROJECT, family="made")
    assert (image.disk_size_gb, image.description, image.labels) == (2, "of a disk", {"team": "infra"})
    assert image.guest_os_features == features
    assert [url.rpartition("v1/")[2] for url in image.licenses] == [
        "projects/debian-cloud/global/licenses/debian-12",
        f"projects/{PROJECT}/global/licenses/mine",
    ]
    assert image.source_disk.endswith(f"/zones/{ZONE}/disks/copy")
    assert image.source_disk_id == str(cloud.disks.get(project=PROJECT, zone=ZONE, disk="copy").id)


def test_image_stays_when_the_endpoint_does_not(cloud: Cloud, identity: Identity) -> None:
    features = [GuestOsFeature(type_="GVNIC")]
    add(cloud, "kept", guest_os_features=features, labels={"a": "b"})
    before = cloud.images.get(project=PROJECT, image="kept")
    cloud.endpoint.close()
    with cloud.open(identity):
        after = cloud.images.get(project=PROJECT, image="kept")
    assert (after.id, after.creation_timestamp) == (before.id, before.creation_timestamp)
    assert (after.guest_os_features, after.labels) == (features, {"a": "b"})


def test_archive_in_cloud_storage_becomes_an_image(cloud: Cloud) -> None:
    cloud.objects["gs://bucket/folder/disk.tar.gz"] = archive()
    source = RawDisk(source="https://storage.googleapis.com/bucket/folder/disk.tar.gz")
    assert not add(cloud, "imported", source_image="", raw_disk=source).error.errors
    assert cloud.images.get(project=PROJECT, image="imported").disk_size_gb == 1


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (None, "RESOURCE_NOT_FOUND"),
        (b"no archive", "INVALID_USAGE"),
        (archive(size=1 << 20), "INVALID_USAGE"),
        (archive("other.raw", 512), "INVALID_USAGE"),
    ],
    ids=["absent", "not an archive", "not whole gigabytes", "not disk.raw"],
)
def test_bad_archive_fails_the_operation_and_leaves_nothing(cloud: Cloud, content: bytes | None, code: str) -> None:
    if content is not None:
        cloud.objects["gs://bucket/disk.tar.gz"] = content
    operation = add(cloud, "imported", source_image="", raw_disk=RawDisk(source="gs://bucket/disk.tar.gz"))
    assert [error.code for error in operation.error.errors] == [code]
    assert [image.name for image in cloud.images.list(project=PROJECT)] == [IDLE]


def test_same_request_is_done_once_and_another_one_conflicts(cloud: Cloud) -> None:
    image = Image(name="once", source_image=SOURCE)
    request = {"project": PROJECT, "image_resource": image, "request_id": str(uuid.uuid4())}
    first = cloud.images.insert_unary(request=request)
    assert cloud.images.insert_unary(request=request).name == first.name
    cloud.done(first)
    assert cloud.images.insert_unary(request=request).name == first.name
    with pytest.raises(Conflict) as conflict:
        cloud.images.insert_unary(request={**request, "request_id": str(uuid.uuid4())})
    assert conflict.value.errors[0]["reason"] == "alreadyExists"
    assert f"The resource 'projects/{PROJECT}/global/images/once' already exists" in str(conflict.value)
    with pytest.raises(BadRequest, match="must be a valid UUID"):
        cloud.images.insert_unary(request={**request, "request_id": str(uuid.UUID(int=0))})


def test_labels_need_the_fingerprint_of_those_there_are(cloud: Cloud) -> None:
    image = cloud.images.get(project=PROJECT, image=IDLE)
    labels = GlobalSetLabelsRequest(labels={"goldsmith-build": "b"}, label_fingerprint=image.label_fingerprint)
    request = {"project": PROJECT, "resource": IDLE, "global_set_labels_request_resource": labels}
    cloud.done(cloud.images.set_labels_unary(request=request))
    assert cloud.images.get(project=PROJECT, image=IDLE).labels == {"goldsmith-build": "b"}
    with pytest.raises(PreconditionFailed) as refused:
        cloud.images.set_labels_unary(request=request)
    assert refused.value.errors[0]["reason"] == "conditionNotMet"


def test_deprecated_image_leaves_its_family_until_it_is_active_again(cloud: Cloud) -> None:
    add(cloud, "newer", family=IDLE)

    def deprecate(**fields: str) -> Image:
        status = DeprecationStatus(fields)
        request = {"project": PROJECT, "image": "newer", "deprecation_status_resource": status}
        cloud.done(cloud.images.deprecate_unary(request=request))
        return cloud.images.get(project=PROJECT, image="newer")

    def newest() -> str:
        return cloud.images.get_from_family(project=PROJECT, family=IDLE).name

    assert newest() == "newer"
    deleted = "2030-01-01T00:00:00.000+00:00"
    status = deprecate(state="DEPRECATED", replacement=f"global/images/{IDLE}", deleted=deleted).deprecated
    assert (status.state, status.deleted) == ("DEPRECATED", deleted)
    assert status.replacement.endswith(f"/projects/{PROJECT}/global/images/{IDLE}")
    assert newest() == IDLE
    local = Catalogue(cloud.home, SystemClock()).get("newer")
    assert local is not None
    assert (local.deprecated, local.replacement) == ("DEPRECATED", IDLE)
    assert deprecate(state="OBSOLETE").deprecated.state == "OBSOLETE"
    assert not deprecate(state="ACTIVE").deprecated.state
    assert newest() == "newer"


def test_family_is_joined_by_patch(cloud: Cloud) -> None:
    add(cloud, "late")
    with pytest.raises(NotFound, match="images/family/made' was not found"):
        cloud.images.get_from_family(project=PROJECT, family="made")
    patch = {"project": PROJECT, "image": "late", "image_resource": Image(family="made")}
    cloud.done(cloud.images.patch_unary(request=patch))
    assert cloud.images.get_from_family(project=PROJECT, family="made").name == "late"


def test_lists_are_filtered_ordered_and_divided_into_pages(cloud: Cloud) -> None:
    for number in range(4):
        add(cloud, f"image-{number}", family="many", labels={"goldsmith-build": f"b-{number}", "odd": str(number % 2)})

    def names(**request: object) -> list[str]:
        return [image.name for image in cloud.images.list(request={"project": PROJECT, **request})]

    everything = ["idle", *(f"image-{number}" for number in range(4))]
    assert names(max_results=2) == everything
    assert names(max_results=2, order_by="creationTimestamp desc") == [*everything[:0:-1], IDLE]
    assert names(filter="labels.goldsmith-build:*") == names(filter="labels.goldsmith-build=*") == everything[1:]
    assert names(filter='(family = "many") AND (labels.odd = 1)') == ["image-1", "image-3"]
    assert names(filter="family=many NOT labels.odd=1") == ["image-0", "image-2"]
    assert names(filter='name eq ".*-[12]"') == ["image-1", "image-2"]
    assert names(filter="name ne image-.*") == [IDLE]
    assert names(filter="(name=idle) OR (name=image-3)") == [IDLE, "image-3"]
    assert names(filter="name : MAGE-2") == ["image-2"]
    assert names(filter="diskSizeGb > 1") == []
    for wrong in ("name ==", "(" * 2000 + "name = x", "-" * 4000 + "name = x", "NOT " * 1001 + "name = x"):
        with pytest.raises(BadRequest, match="Invalid list filter expression"):
            names(filter=wrong)


def test_deleted_image_is_gone(cloud: Cloud) -> None:
    add(cloud, "gone")
    assert not cloud.done(cloud.images.delete_unary(project=PROJECT, image="gone")).error.errors
    for call in (cloud.images.get, cloud.images.delete_unary):
        with pytest.raises(NotFound) as missing:
            call(project=PROJECT, image="gone")
        assert missing.value.errors[0]["reason"] == "notFound"
