"""The two ways in which a VM gets its files, and the two programs of an image that may start them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from emulator.cloud.cloud import Cloud
from shared.build.build import Outcome
from shared.clock import SystemClock
from shared.images.catalogue import Catalogue
from tests.cloud.person import Person

pytestmark = pytest.mark.vm


@pytest.mark.soak
def test_cloud_init_starts_the_build_of_an_image_that_boots_by_its_firmware(person: Person, cloud: Cloud) -> None:
    """As in the cloud: boot loader, cloud-init, its GCE data source, user-data, download by a signed URL."""
    folder = person.spec("booted", replace={"family: hello": "family: booted"})
    cloud.compute.boot = "firmware"
    try:
        person.upload(folder)
        build = person.finished("booted")
    finally:
        cloud.compute.boot = "direct"
    assert build.outcome is Outcome.SUCCEEDED, build.reason
    log = person.run("gsutil", "cat", f"gs://{person.bucket}/logs/{build.id}/**")
    assert f"gs-{build.id}-a1-vm login:" in log  # its host's name is the instance's: it has read the metadata
    assert "No 'config' modules to run" in log  # and this is our user-data
    assert log.count("[step greet]") == 1


@pytest.fixture
def isolated(tmp_path: Path, debian_disk: Path) -> Iterator[Person]:
    """A cloud of its own, whose VMs get a CIDATA disk and reach nothing at all."""
    home = tmp_path / "isolated"
    Catalogue(home, SystemClock()).add(debian_disk, "debian-12-base", transfer="link", family="debian-12")
    with Cloud(home, delivery="disk") as cloud:
        cloud.compute.cut_off()
        person = Person(tmp_path, cloud.environment(tmp_path / "home"), cloud.project, cloud.bucket, cloud.compute.url)
        yield person
        assert person.resources("instances") == person.resources("disks") == []


def test_a_vm_that_reaches_nothing_is_heard_on_its_serial_port(isolated: Person) -> None:
    isolated.upload(isolated.spec("island", replace={"family: hello": "family: island"}))
    build = isolated.finished("island")  # by the minute tick: nothing else brings its reports
    assert build.outcome is Outcome.SUCCEEDED, build.reason
    assert [step.status for step in build.steps] == ["done"]
    images = isolated.gcloud("compute", "images", "list", "--no-standard-images")
    assert sorted(image["name"] for image in images if not image["name"].startswith("debian")) == [
        build.image.name if build.image else ""
    ]
