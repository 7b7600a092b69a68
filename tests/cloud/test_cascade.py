"""What was built from a revoked image is built again, bases first: asked for with gcloud. No VM is needed for that."""

from __future__ import annotations

from pathlib import Path

from emulator.cloud.cloud import Cloud
from shared.build.build import Outcome
from shared.build.plan import SourceImage, SpecPlace
from shared.build.trigger import Trigger
from shared.clock import SystemClock
from shared.images.catalogue import Catalogue
from tests.cloud.person import Person
from tests.cloud.test_promotions import leads_to, publish_image, request, wait_for, wait_until


def test_what_was_built_from_a_revoked_image_is_built_again_bases_first(
    cloud: Cloud, person: Person, tmp_path: Path
) -> None:
    """The yard has a shed, and that has a box. No build gets a VM here, so each ends as soon as it has begun."""
    catalogue = Catalogue(cloud.home, SystemClock())
    disk = tmp_path / "disk.raw"
    for name in ("yard-1", "yard-2"):
        publish_image(catalogue, person, name, disk, "yard")
    request(person, "promote", image="yard-1", to="dev")
    wait_for(catalogue, "yard-dev", "yard-1-dev")
    request(person, "promote", image="yard-2", to="dev")
    wait_for(catalogue, "yard-dev", "yard-2-dev")
    add_built(catalogue, person, "shed-1", disk, source="yard-2")
    add_built(catalogue, person, "box-1", disk, source="shed-1")

    try:
        cloud.compute.deny("compute.instances.create")
        for _ in range(2):  # the second one asks for nothing more
            request(person, "revoke", image="yard-2", reason="its gate is open", cascade=True)
        wait_for(catalogue, "yard", "yard-1")
        wait_for(catalogue, "yard-dev", "yard-1-dev")
        wait_until(lambda: waiting(person) == ["box", "shed"], "the rebuilds are not asked for")
        assert (leads_to(catalogue, "shed"), leads_to(catalogue, "box")) == ("shed-1", "box-1"), "they are not revoked"
        wait_until(lambda: told(cloud).count("box-1, shed-1") == 2, "what was built from it is not told")

        cloud.scheduler.step("expire-builds")
        shed = person.finished("shed")
        cloud.scheduler.step("expire-builds")
        assert waiting(person) == ["box"], "its source was still built from the revoked image"
        publish_image(catalogue, person, "shed-2", disk, "shed", source=image_of(person, "yard-1"))
        cloud.scheduler.step("expire-builds")
        box = person.finished("box")
        cloud.scheduler.step("expire-builds")
    finally:
        cloud.compute.faults.clear()
    assert waiting(person) == []
    for build, source in ((shed, "yard-1"), (box, "shed-2")):
        assert build.plan is not None
        assert (build.plan.source.name, build.plan.source.id) == (source, image_of(person, source).id)
        assert build.plan.read_from is not None
        assert build.plan.read_from.uri == place(person, build.name)
        assert (build.outcome, "compute.instances.create" in build.reason) == (Outcome.FAILED, True), build.reason
        [result] = person.results(f"{build.name}/request-revoked-")
        assert (result["build"], len(person.results(f"{build.name}/"))) == (build.id, 1), "it is built once"


def add_built(catalogue: Catalogue, person: Person, name: str, disk: Path, source: str) -> None:
    """Have an image that a spec of the bucket has made of another one; the spec lies where no upload is seen."""
    family, of = name.partition("-")[0], source.partition("-")[0]
    changes = {"family: hello": f"family: {family}", "family: debian-12": f"family: {of}"}
    folder = person.spec(family, replace={**changes, "project: local": f"project: {person.project}"})
    person.run("gsutil", "-q", "cp", folder / "preload.sh", place(person, family).replace("request.txt", "preload.sh"))
    person.run("gsutil", "-q", "cp", folder / "build.yaml", place(person, family))
    read_from = SpecPlace(place(person, family), source={"project": person.project, "family": of})
    publish_image(catalogue, person, name, disk, family, source=image_of(person, source), read_from=read_from)


def place(person: Person, family: str) -> str:
    return f"gs://{person.bucket}/specs/{family}/request.txt"


def image_of(person: Person, name: str) -> SourceImage:
    found = person.gcloud("compute", "images", "describe", name)
    return SourceImage(person.project, name, found["id"], family=found["family"])


def waiting(person: Person) -> list[str]:
    """Return the names of the specs whose builds a revocation has asked for, and that have not begun."""
    found = [each for each in person._store.triggers() if isinstance(each, Trigger) and each.is_active]
    image = f"{person.project}/yard-2"
    return sorted(each.name for each in found if each.cascade is not None and each.cascade.image == image)


def told(cloud: Cloud) -> str:
    return cloud.functions.log("deprecate_images").read_text()
