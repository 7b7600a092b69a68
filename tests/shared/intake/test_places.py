"""What the paths of a spec mean in a bucket: what it reads lies beside it, what it writes below results/."""

from __future__ import annotations

import hashlib

import pytest

from shared.build.limits import Limits
from shared.errors import InputError
from shared.intake.places import UploadedPlaces
from tests.world import values
from tests.world.intake import BUCKET, PLAIN, Desk, Place, planned, reason
from tests.world.uploaded import MemoryObjects

SPEC_URI = f"gs://{BUCKET}/specs/team/hello.yaml"


def places(spec_uri: str = SPEC_URI) -> UploadedPlaces:
    return UploadedPlaces(Place(), MemoryObjects(), spec_uri, now=values.NOON)


@pytest.mark.parametrize(
    ("spec_uri", "place", "uri"),
    [
        (SPEC_URI, "sbom.json", f"gs://{BUCKET}/results/team/sbom.json"),
        (SPEC_URI, "../web/sbom.json", f"gs://{BUCKET}/results/web/sbom.json"),
        (SPEC_URI, f"gs://{BUCKET}/results/sbom.json", f"gs://{BUCKET}/results/sbom.json"),
        (SPEC_URI, "gs://elsewhere/sbom.json", "gs://elsewhere/sbom.json"),
        (SPEC_URI, "gs://elsewhere/", "gs://elsewhere/"),
        (SPEC_URI, "sboms/", f"gs://{BUCKET}/results/team/sboms/"),
        ("gs://elsewhere/specs/hello.yaml", "sbom.json", f"gs://{BUCKET}/results/sbom.json"),
        ("", "sbom.json", f"gs://{BUCKET}/results/sbom.json"),
    ],
)
def test_what_is_written_goes_below_results(spec_uri: str, place: str, uri: str) -> None:
    assert places(spec_uri).target(place) == uri


@pytest.mark.parametrize(
    ("place", "told"),
    [
        (f"gs://{BUCKET}/cidata/gs-x-a1-vm.tar", "is not below results/; write it there, or to another bucket"),
        (f"gs://{BUCKET}/specs/evil.yaml", "is not below results/"),
        ("../../cidata/x", "leads out of"),
        ("/etc/passwd", "leads out of"),
        ("gs://elsewhere", "names no object"),
    ],
)
def test_what_makes_builds_cannot_be_written(place: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        places().target(place)


def test_bill_of_materials_is_read_beside_the_spec_and_written_below_results() -> None:
    """finish-image-build -sbom-input-path, -sbom-output-path."""
    desk = Desk()
    desk.put("specs/team/own.txt", "{}")
    build = desk.upload(PLAIN + "output: {sbom: {input: own.txt, to: sbom.json}}\n", "specs/team/hello.yaml")
    image = planned(build).image
    assert image.sbom_input == f"gs://{BUCKET}/contexts/2026-11/{hashlib.sha256(b'{}').hexdigest()}.json"
    assert image.sbom_to == f"gs://{BUCKET}/results/team/sbom.json"


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ("input: own.txt", "output.sbom.input: gs://goldsmith-test/specs/own.txt does not exist; upload it first"),
        ("input: ../cidata/x", "output.sbom.input: ../cidata/x leads out of gs://goldsmith-test/specs/"),
        ("input: hello.yaml", "output.sbom.input: gs://goldsmith-test/specs/hello.yaml: it is not JSON"),
        (f"input: gs://{BUCKET}/logs/x", "output.sbom.input: gs://goldsmith-test/logs/x is neither below specs/ nor"),
        (f"to: gs://{BUCKET}/cidata/x", "output.sbom.to: gs://goldsmith-test/cidata/x is not below results/"),
    ],
)
def test_bad_places_are_told_with_the_spec(keys: str, told: str) -> None:
    found = reason(Desk().upload(f"{PLAIN}output: {{sbom: {{{keys}}}}}\n"))
    assert found.startswith(f"gs://{BUCKET}/specs/hello.yaml:4:")
    assert told in found


@pytest.mark.parametrize(
    ("to", "told"),
    [
        (f"gs://{BUCKET}/results/alice/nightly-1795176000.json", "is named as results of builds are"),
        (f"gs://{BUCKET}/results/alice/nightly-1795176000.spdx.json", "is named as results of builds are"),
        (f"gs://{BUCKET}/results/nightly-k1-0123456789ab.request.cdx.json", "is named as results of builds are"),
        ("../alice/cloudbuild-1795176000~2.json", "is named as results of builds are"),
        ("taken.json", f"gs://{BUCKET}/results/team/taken.json is there already; write another name, or a folder"),
    ],
)
def test_a_bill_of_materials_reaches_no_object_of_another_author(to: str, told: str) -> None:
    desk = Desk()
    desk.put("results/team/taken.json", "another author's")
    build = desk.upload(PLAIN + f"output: {{sbom: {{to: '{to}'}}}}\n", "specs/team/hello.yaml")
    assert told in reason(build)


WITH_SECRETS = """\
name: hello
source: {project: my-images, family: debian-12}
context: .
steps:
- {name: a, action: run-script, inputs: {script: s}, secrets: {TOKEN: PLACE}}
"""
VERSION = "projects/p/secrets/s/versions/3"


def test_secrets_of_one_machine_or_without_an_account_are_rejected() -> None:
    told = reason(Desk().upload(WITH_SECRETS.replace("PLACE", "env:TOKEN")))
    assert ":5:54: steps[0].secrets: need an account that may read them, which steps then have" in told
    told = reason(Desk().upload(WITH_SECRETS.replace("PLACE", "env:TOKEN") + "build: {service_account: a@b.c}\n"))
    assert ":5:64: steps[0].secrets.TOKEN: is a secret of one machine; write projects/PROJECT" in told


def test_secrets_go_with_an_account_that_the_deployment_gives() -> None:
    text = WITH_SECRETS.replace("PLACE", VERSION) + "build: {service_account: a@b.c}\n"
    desk = Desk(Limits(vm_service_accounts=("x@y.z",)))
    desk.put("specs/s", "echo\n")
    told = reason(desk.upload(text))
    assert told.startswith("build.service_account: a@b.c is refused: vm_service_accounts of this deployment is x@y.z;")
