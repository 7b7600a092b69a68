"""gsutil cp cloudbuild.yaml, unchanged: what COS Customizer would have made of it, as real gcloud describes it."""

from __future__ import annotations

import json

import pytest

from tests.cloud.person import Person

pytestmark = pytest.mark.vm

CUSTOMIZER = "gcr.io/cos-cloud/cos-customizer"
GOOGLE = "https://www.googleapis.com/compute/v1/"
LICENSE = "projects/debian-cloud/global/licenses/debian-12-bookworm"


def workflow(*states: str) -> str:
    """Write a workflow with one build for each state, all of which make the same image."""
    builds = "".join(
        f"""\
- name: {CUSTOMIZER}
  args: [-local-state-workdir={state}, start-image-build, -image-project=$PROJECT_ID, -image-family=debian-12,
         '-gcs-bucket=${{PROJECT_ID}}_cloudbuild', -gcs-workdir=image-build-$BUILD_ID, -build-context=files]
- name: {CUSTOMIZER}
  args: [-local-state-workdir={state}, run-script, -script=preload.sh, -env=GREETING=$_GREETING]
- name: {CUSTOMIZER}
  args: [-local-state-workdir={state}, finish-image-build, -project=$PROJECT_ID, -image-project=$PROJECT_ID,
         -zone=us-west1-b, -image-name=web-$_RELEASE, -image-family=web, '-labels=team=infra,release=$_RELEASE',
         -inherit-labels, -licenses={GOOGLE}{LICENSE}, -disk-size-gb=11,
         -deprecate-old-images, -old-image-ttl=3600, -timeout=20m]
"""
        for state in states
    )
    return f"steps:\n{builds}substitutions: {{_GREETING: hello, _RELEASE: '1'}}\ntimeout: 1500s\n"


def test_an_uploaded_workflow_becomes_its_images_one_after_the_other(person: Person) -> None:
    """The second build asks for what the first one makes: it is unchanged, and would fail if both began at once.

    Of the image, all is compared with what the workflow says, word for word, as COS Customizer's own image_test and
    deprecate_test do: nothing may be added to labels and licences, and an image of the family that nothing of ours has
    made is deprecated, where the deployment has adopted the family.
    """
    old = "--source-image=debian-12-base", "--source-image-project=debian-cloud", "--family=web"
    person.gcloud("compute", "images", "create", "web-old", *old)
    folder = person.spec("web")
    (folder / "cloudbuild.yaml").write_text(workflow("first", "second"))
    there = f"gs://{person.bucket}/specs/web"
    person.run("gsutil", "-q", "cp", folder / "preload.sh", f"{there}/files/")
    person.run("gsutil", "-q", "cp", folder / "cloudbuild.yaml", f"{there}/")

    first = person.finished("web-1")
    assert first.outcome == "succeeded", first.reason
    second = person.finished("web-1-2")
    assert second.outcome == "unchanged", second.reason
    assert second.created > first.created
    assert json.loads(person.run("gsutil", "cat", second.result))["image"]["name"] == "web-1"

    image = person.gcloud("compute", "images", "describe", "web-1")
    assert image["family"] == "web"
    assert (image["diskSizeGb"], image["status"]) == ("11", "READY")
    assert image["licenses"] == [GOOGLE + LICENSE]
    assert image["labels"] == {"team": "infra", "release": "1"}
    assert "deprecated" not in image
    before = person.gcloud("compute", "images", "describe", "web-old")["deprecated"]
    assert (before["state"], before["replacement"]) == ("DEPRECATED", image["selfLink"])
    assert image["selfLink"] == f"{GOOGLE}projects/{person.project}/global/images/web-1"
    assert image["description"] == f"Derivative of projects/{person.project}/global/images/debian-12-base."
    assert person.results("web/cloudbuild-")[0]["name"] == "web-1"
