"""Operators give an image of the project to others; no VM is needed for that."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from emulator.cloud.cloud import Cloud
from shared.clock import SystemClock
from shared.images.catalogue import Catalogue
from tests.cloud.person import Person
from tests.cloud.test_promotions import publish_image, request, wait_for
from tests.docs.reader import Reader

TEAM = "group:team@example.com"
ROBOT = "serviceAccount:123456789012@cloudservices.gserviceaccount.com"


def test_an_image_is_given_to_others_and_its_copies_go_with_it(cloud: Cloud, person: Person, tmp_path: Path) -> None:
    catalogue = Catalogue(cloud.home, SystemClock())
    for name in ("press-1", "press-2"):
        publish_image(catalogue, person, name, tmp_path / "disk.raw", family="press")
    wanted = ["--share", TEAM, "--share", "project:123456789012", "--copy", "project=their-project,name=press-theirs"]
    wanted += ["--copy", f"project={person.project},name=press-eu,storage_location=eu"]
    before = person.gcloud("compute", "images", "get-iam-policy", "press-2")
    assert before.get("bindings", []) == []
    told = json.loads(person.goldsmith("images", "distribute", "press-2", *wanted, "--json"))
    assert told["waiting"] == []
    places = [TEAM, ROBOT, "their-project/press-theirs", f"{person.project}/press-eu"]
    assert [(each["target"], each["refused"]) for each in told["targets"]] == [(place, "") for place in places]

    policy = person.gcloud("compute", "images", "get-iam-policy", "press-2")
    assert policy["bindings"] == [{"role": "roles/compute.imageUser", "members": [TEAM, ROBOT]}]
    original = person.gcloud("compute", "images", "describe", "press-2")
    theirs, here = described(person, "press-theirs", "their-project"), described(person, "press-eu", person.project)
    for copy in (theirs, here):
        assert copy["sourceImageId"] == original["id"]
        assert copy["labels"] == {**original["labels"], "goldsmith-copy-of": original["id"]}
        for key in ("licenses", "diskSizeGb", "architecture"):
            assert copy[key] == original[key], key
    assert (theirs.get("family"), here.get("family")) == ("press", None)
    assert here["storageLocations"] == ["eu"]
    again = person.goldsmith("images", "distribute", f"{person.project}/press-2", "--share", TEAM)
    assert [line.split() for line in again.splitlines()][1:] == [[TEAM, "done"]]
    assert person.gcloud("compute", "images", "get-iam-policy", "press-2") == policy

    names = {"web-20261120": "press-1", "their-project": "project=their-project,name=press-third"}
    Reader(person.folder, person.environment, {"PROJECT": person.project, **names}).types(
        "goldsmith images distribute web-20261120 --project PROJECT "
        "--share group:team@example.com --copy their-project",
        says="their-project/press-third",
    )
    request(person, "revoke", image="press-2", reason="its greeting is rude")
    wait_for(catalogue, "press", "press-1")
    for copy in (theirs, here):
        project = copy["selfLink"].split("/projects/")[1].split("/")[0]
        assert described(person, copy["name"], project)["deprecated"]["state"] == "OBSOLETE"
    late = person.goldsmith("images", "distribute", "press-2", "--share", "user:me@example.com", status=2)
    assert "was revoked at" in late


def described(person: Person, name: str, project: str) -> Any:
    """Return what gcloud shows of an image of any project."""
    words = ["gcloud", "compute", "images", "describe", name, f"--project={project}", "--format=json", "--quiet"]
    return json.loads(person.run(*words))
