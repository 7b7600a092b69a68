"""A cloudbuild.yaml, unchanged, built on this machine: the example, and an image that is made from the example's."""

from __future__ import annotations

import shutil

import pytest

from tests.system.archives import debugfs, root_partition
from tests.system.command import ROOT, Goldsmith

pytestmark = pytest.mark.vm

SECOND = """\
- {name: gcr.io/cloud-builders/gcloud, args: [version]}
- name: gcr.io/cos-cloud/cos-customizer
  args: [start-image-build, -image-project=$PROJECT_ID, -image-family=greeting, -gcs-bucket=b, -gcs-workdir=$BUILD_ID]
- name: gcr.io/cos-cloud/cos-customizer
  args: [finish-image-build, -project=$PROJECT_ID, -zone=us-west1-b, -image-name=second, -inherit-labels]
substitutions:
"""


def test_workflow_of_two_images(goldsmith: Goldsmith) -> None:
    folder = goldsmith.folder / "workflow"
    shutil.copytree(ROOT / "examples" / "cos-customizer", folder)
    text = (folder / "cloudbuild.yaml").read_text()
    (folder / "cloudbuild.yaml").write_text(text.replace("substitutions:\n", SECOND))
    done = goldsmith.run(
        "build", folder / "cloudbuild.yaml", "--source", folder, "--set", "_GREETING=good morning", "--json"
    )
    assert done.status == 0, done.text
    assert "steps[3]: not taken over: 'gcr.io/cloud-builders/gcloud' is not run" in done.err
    builds = [document["build"] for document in done.documents() if "build" in document]
    assert [(build["name"], build["outcome"]) for build in builds] == [
        ("greeting", "succeeded"),
        ("second", "succeeded"),
    ]
    images = {image["name"]: image for image in goldsmith.images()}
    assert sorted(images) == ["debian-12-base-greeting", "second"]
    first, second = images["debian-12-base-greeting"], images["second"]
    assert (first["family"], first["labels"]["team"], first["labels"]["stage"]) == ("greeting", "infra", "trial")
    assert second["labels"]["team"] == "infra"
    own = [key for image in (first, second) for key in image["labels"] if key.startswith("goldsmith-")]
    assert own == []  # as those who come from COS Customizer expect: what was asked for, and nothing else
    [source] = [build["plan"]["source"]["name"] for build in builds if build["name"] == "second"]
    assert source == first["name"]
    disk = goldsmith.home / "images" / "second" / "disk.raw"
    assert root_partition(disk)[0] > 0
    assert debugfs(disk, "cat /etc/motd").startswith("good morning from ")
    goldsmith.traces.assert_none()
