"""Old images of a deployment go away by rule in two phases, and operators are told of it; no VM is needed for that."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from emulator.cloud.cloud import Cloud
from shared.build.build import ImageDocument
from shared.clock import SystemClock
from shared.images.catalogue import Catalogue
from shared.published.retire_verdict import SECOND_LOOK
from tests.cloud.person import Person
from tests.cloud.test_promotions import ZONE, publish_image


def test_old_images_become_obsolete_and_a_day_later_they_are_deleted(
    cloud: Cloud, person: Person, tmp_path: Path
) -> None:
    catalogue = Catalogue(cloud.home, SystemClock())
    for name in ("attic-1", "attic-2", "attic-3"):
        publish_image(catalogue, person, name, tmp_path / "disk.raw", "attic")
    person.gcloud("compute", "disks", "create", "of-attic", "--image=attic-2", f"--zone={ZONE}")
    cloud.scheduler.step("retire-images")
    assert person.gcloud("compute", "images", "describe", "attic-1")["deprecated"]["state"] == "OBSOLETE"
    assert told(person) == {
        "attic-1": ("obsolete", ""),
        "attic-2": ("keep", f"in use by disk of-attic of project {person.project} in {ZONE}"),
        "attic-3": ("keep", "its family leads to it"),
    }
    checked = person.goldsmith("images", "check", "attic-1", status=1)
    assert f"image {person.project}/attic-1 must not be used: it is OBSOLETE" in checked
    person.gcloud("compute", "disks", "delete", "of-attic", f"--zone={ZONE}")
    cloud.scheduler.step("retire-images")
    assert "attic-1" in names(person), "a day has not passed"
    let_a_day_pass(person, "attic-1")
    planned = {each["name"]: each["action"] for each in retirement(person, "--dry-run")}
    assert planned == {"attic-1": "delete", "attic-2": "wait", "attic-3": "keep"}
    cloud.scheduler.step("retire-images")
    assert names(person) == ["attic-2", "attic-3"]
    assert person._store.image(person.project, "attic-1") is None
    assert told(person)["attic-1"] == ("delete", "")


def names(person: Person) -> list[str]:
    words = ("--no-standard-images", "--show-deprecated", "--filter=family=attic")
    return sorted(image["name"] for image in person.gcloud("compute", "images", "list", *words))


def retirement(person: Person, *words: str) -> list[dict[str, str]]:
    found: list[dict[str, str]] = json.loads(person.goldsmith("images", "retire", "--json", *words))
    return found


def told(person: Person) -> dict[str, tuple[str, str]]:
    """What the command tells of the last run: the action of each image, and why it is kept."""
    listed = retirement(person)
    return {each["name"]: (each["action"], each["why"] if each["action"] == "keep" else "") for each in listed}


def known(person: Person, name: str) -> ImageDocument:
    found = person._store.image(person.project, name)
    assert found is not None
    return found


def let_a_day_pass(person: Person, name: str) -> None:
    """Date the mark back, as if it had been set a day before."""
    before = known(person, name)
    assert before.retired is not None
    earlier = replace(before.retired, obsolete=before.retired.obsolete - SECOND_LOOK)
    assert person._store.save_image(replace(before, retired=earlier), before)
