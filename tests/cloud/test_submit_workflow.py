"""goldsmith submit of a cloudbuild.yaml: its builds get what they name, each its own, and all of them are followed."""

from __future__ import annotations

import json

import pytest

from tests.cloud.person import Person

pytestmark = pytest.mark.vm

STEPS = """\
- name: gcr.io/cos-cloud/cos-customizer
  args: [start-image-build, -image-project=$PROJECT_ID, -image-family=SOURCE, -build-context=NAME, -gcs-bucket=b,
         -gcs-workdir=$BUILD_ID]
- name: gcr.io/cos-cloud/cos-customizer
  args: [run-script, -script=NAME.sh]
- name: gcr.io/cos-cloud/cos-customizer
  args: [finish-image-build, -project=$PROJECT_ID, -zone=us-central1-a, -image-name=NAME-$_RELEASE, -image-family=NAME,
         -sbom-input-path=own.json, -sbom-output-path=gs://BUCKET/results/lists/]
"""


@pytest.mark.soak
def test_submit_follows_every_build_of_a_workflow(person: Person) -> None:
    folder = person.folder / "two"
    for name in ("left", "right"):
        (folder / name).mkdir(parents=True)
        (folder / name / f"{name}.sh").write_text(f"cat /var/lib/said >&2; echo {name} >>/var/lib/said\n")
        agent = {"SPDXID": f"SPDXRef-{name}", "name": f"agent-{name}", "versionInfo": "7"}
        (folder / name / "own.json").write_text(json.dumps({"SPDXPackages": [agent]}))
    steps = STEPS.replace("BUCKET", person.bucket)
    first = steps.replace("NAME", "left").replace("SOURCE", "debian-12")
    second = steps.replace("NAME", "right").replace("SOURCE", "left")
    (folder / "cloudbuild.yaml").write_text(f"steps:\n{first}{second}substitutions: {{_RELEASE: '1'}}\n")
    printed = person.goldsmith(
        "submit", folder / "cloudbuild.yaml", "--source", folder, "--set", "_RELEASE=2", "--json"
    )
    builds = [document["build"] for line in printed.splitlines() if "build" in (document := json.loads(line))]
    assert [(build["name"], build["outcome"]) for build in builds] == [
        ("left-2", "succeeded"),
        ("right-2", "succeeded"),
    ]
    assert builds[1]["plan"]["source"]["name"] == "left-2"
    assert len({build["plan"]["context"]["digest"] for build in builds}) == 2
    for name in ("left", "right"):
        written = person.run("gsutil", "cat", f"gs://{person.bucket}/results/lists/{name}-2_sbom.spdx.json")
        found = {package["name"] for package in json.loads(written)["packages"]}
        assert {f"agent-{name}", "bash"} <= found
