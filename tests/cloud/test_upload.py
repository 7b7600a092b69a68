"""gsutil cp, and nothing else, and an image appears: the way that most people take."""

from __future__ import annotations

import json
import time
import urllib.request
from typing import Any

import pytest

from emulator.cloud.cloud import Cloud
from tests.cloud.conftest import SIGNING_KEY
from tests.cloud.person import Person
from tests.shared.tracing.collector import TestCollector, tree
from tests.shared.webhooks.receiver import Receiver

pytestmark = pytest.mark.vm

VALUE = "the newest value"
LICENSE = "projects/debian-cloud/global/licenses/debian-12-bookworm"


def test_an_uploaded_spec_becomes_an_image_and_the_next_one_retires_it(
    person: Person, told: Receiver, traced: TestCollector, cloud: Cloud
) -> None:
    changes = {
        "  family: hello  #": "  deprecate_old: {ttl: 30d}\n  family: hello  #",
        "team: infra": f"team: upload\n  licenses: [{LICENSE}]\n  guest_os_features: [GVNIC]",
    }
    folder = person.spec("hello", replace=changes)
    person.upload(folder)
    first = person.result("hello/build-")
    assert (first["outcome"], first["reason"], first["left"]) == ("succeeded", "", [])
    assert [(step["name"], step["status"]) for step in first["steps"]] == [("greet", "done")]

    text = (folder / "build.yaml").read_text()
    text = text.replace("greeting: hello", "greeting: hi") + f"build: {{service_account: {cloud.email('vm')}}}\n"
    (folder / "build.yaml").write_text(with_secret(person, text))
    person.upload(folder)
    second = person.result("hello/build-", count=2)
    assert (second["outcome"], second["reason"]) == ("succeeded", "")
    assert second["build"] != first["build"]
    build = next(each for each in person.builds() if each.id == second["build"])
    assert build.plan is not None
    assert build.plan.steps[-1].secrets == {"TOKEN": f"projects/{person.project}/secrets/token/versions/2"}

    newest = person.gcloud("compute", "images", "describe-from-family", "hello")
    assert newest["name"] == second["image"]["name"]
    assert newest["labels"]["team"] == "upload"
    assert newest["labels"]["goldsmith-build"] == second["build"]
    assert newest["diskSizeGb"] == "10"
    assert newest["status"] == "READY"
    assert {"type": "GVNIC"} in newest["guestOsFeatures"]
    assert [path.partition("/v1/")[2] for path in newest["licenses"]] == [LICENSE]
    assert "deprecated" not in newest
    older = person.gcloud("compute", "images", "describe", first["image"]["name"])
    assert older["deprecated"]["state"] == "DEPRECATED"
    assert older["deprecated"]["replacement"].endswith(f"/{newest['name']}")
    assert {image["name"] for image in images(person, "hello")} == {newest["name"]}
    assert_signed(person, second, cloud)
    assert_shown(person, newest["name"], older["name"], cloud)
    take_back(person, newest["name"], older["name"])
    assert "was revoked" in person.goldsmith("images", "check", newest["name"], status=1)

    assert_listed(person, second)
    built = {first["build"], second["build"]}
    told.wait_for(lambda bodies: built <= {json.loads(body)["data"]["build"] for body in bodies})
    assert_traced(traced, second["build"])
    assert person.gcloud("compute", "instances", "list") == []
    assert person.gcloud("compute", "disks", "list") == []
    logs = person.run("gsutil", "cat", f"{second['logs']}/**")
    assert "[step greet]" in logs
    assert "it is (hidden)" in logs
    assert VALUE not in logs
    folders = set(person.run("gsutil", "ls", f"gs://{person.bucket}/").split())
    wanted = {f"gs://{person.bucket}/{folder}/" for folder in ("contexts", "keys", "logs", "results", "specs")}
    others = {f"gs://{person.bucket}/uploads/", f"gs://{person.bucket}/upkeep/"}  # of submits, and of each minute
    assert folders - others == wanted


def assert_traced(traced: TestCollector, build_id: str) -> None:
    """The collector has the build, from its request to what follows it, and no secret."""

    def is_whole(_bodies: object) -> bool:
        return {"BUILD hello", "webhook ci"} <= {span.name for span in traced.of_build(build_id)}

    traced.kept.wait_for(is_whole)
    spans = traced.of_build(build_id)
    assert tree(spans) == [
        *("BUILD hello", "  preparing", "  provisioning", "    build machine", "      boot", "      greet"),
        *("      fetch", "  exporting", "  publishing", "  cleaning", "    deprecation", "  webhook ci"),
    ]
    assert {span.failure for span in spans} == {None}
    assert VALUE not in repr(spans)


def assert_shown(person: Person, newest: str, older: str, cloud: Cloud) -> None:
    """The dashboard tells of images by what their builds have recorded, with the rights of its own account."""
    address = f"{cloud.functions.urls['dashboard']}/api"
    shown = read_page(f"{address}/images/{person.project}/{newest}")
    assert (shown["is_usable"], shown["replaced"]) == (True, [older])
    assert [each["kind"] for each in shown["downloads"]] == ["spdx", "cyclonedx", "provenance", "manifest"]
    url = address.removesuffix("/api") + shown["downloads"][0]["href"]
    assert read_page(url)["spdxVersion"] == "SPDX-2.3"
    inside = read_page(f"{address}/images/{person.project}/{newest}/contents?q=bash")
    assert ("bash" in {each["name"] for each in inside["packages"]}, inside["folders"]["path"]) == (True, "/")
    assert "/usr" in {each["path"] for each in inside["folders"]["folders"]}
    difference = read_page(f"{address}/diff?a={older}&b={newest}")["difference"]
    assert "content digest" in {each["name"] for each in difference["settings"]}
    [family] = [each for each in read_page(f"{address}/families")["families"] if each["family"] == "hello"]
    assert family["leads_to"]["name"] == newest


def read_page(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=60) as answer:
        return json.load(answer)


def with_secret(person: Person, text: str) -> str:
    """Add a step that needs the newest version of a secret, of which there are two."""
    for value in ("the value before", VALUE):
        (person.folder / "value").write_text(value)
        make = ("create",) if value != VALUE else ("versions", "add")
        file = f"--data-file={person.folder / 'value'}"
        person.run("gcloud", "secrets", *make, "token", file, f"--project={person.project}", "--quiet")
    (person.folder / "hello" / "fetch.sh").write_text(f'test "$TOKEN" = "{VALUE}" && echo "it is $TOKEN"\n')
    person.run("gsutil", "-q", "cp", person.folder / "hello" / "fetch.sh", f"gs://{person.bucket}/specs/hello/")
    place = f"projects/{person.project}/secrets/token/versions/latest"
    step = f"  - {{name: fetch, action: run-script, inputs: {{script: fetch.sh}}, secrets: {{TOKEN: {place}}}}}\n"
    before, found, after = text.partition("\noutput:")
    assert found, text
    return f"{before}\n{step}output:{after}"


def assert_signed(person: Person, told: Any, cloud: Cloud) -> None:
    """The statement is signed by the deployment's key, and holds as long as that key counts."""
    name, check = told["image"]["name"], ("images", "check", "--provenance")
    builder = f"urn:goldsmith:deployment:{person.project}"
    assert "may be used" in person.goldsmith(*check, name, "--builder", builder, "--source", "debian-12-base")
    assert "and not by urn:other" in person.goldsmith(*check, name, "--builder", "urn:other", status=1)
    place, pem = ("--location=us-central1", "--keyring=images", "--key=statements"), person.folder / "key.pem"
    person.run("gcloud", "kms", "keys", "versions", "create", *place, "--project=key-project")  # a rotation
    newer = SIGNING_KEY[:-1] + "2"
    cloud.trust(newer)
    refused = person.goldsmith(*check, name, status=1)
    assert f"signed by '{SIGNING_KEY}'" in refused
    assert f"keys/trusted.json has {newer}" in refused
    assert "may be used" in person.goldsmith(*check, name, "--key", SIGNING_KEY)
    public = ("gcloud", "kms", "keys", "versions", "get-public-key", "1", *place, "--project=key-project")
    person.run(*public, f"--output-file={pem}")
    assert "may be used" in person.goldsmith(*check, name, "--key", pem)
    cloud.trust(newer, SIGNING_KEY)
    assert "may be used" in person.goldsmith(*check, name)
    stored = told["result"] if "result" in told else told["sbom"]["spdx"].replace(".spdx.json", ".json")
    envelope = json.loads(person.run("gsutil", "cat", stored.removesuffix(".json") + ".intoto.jsonl"))
    assert [entry["keyid"] for entry in envelope["signatures"]] == [SIGNING_KEY]


def take_back(person: Person, bad: str, before: str) -> None:
    """An operator revokes the newest image, twice: the family leads to the one before."""
    request = {"revoke": {"image": bad, "reason": "its greeting is rude"}}
    for _ in range(2):
        person.run("gcloud", "pubsub", "topics", "publish", "image-requests", f"--message={json.dumps(request)}")
    give_up = time.monotonic() + 300
    while "goldsmith-revoked" not in (found := person.gcloud("compute", "images", "describe", bad)).get("labels", {}):
        assert time.monotonic() < give_up, found
        time.sleep(0.5)
    assert found["deprecated"]["state"] == "OBSOLETE"
    assert found["deprecated"]["replacement"].endswith(f"/{before}")
    again = person.gcloud("compute", "images", "describe-from-family", "hello")
    assert (again["name"], again.get("deprecated")) == (before, None)
    assert {image["name"] for image in images(person, "hello")} == {before}


def assert_listed(person: Person, told: Any) -> None:
    """The image's bill of materials is there in both formats, with the packages that the VM has told."""
    spdx, cyclonedx = (json.loads(person.run("gsutil", "cat", told["sbom"][key])) for key in ("spdx", "cyclonedx"))
    assert spdx["packages"][0]["name"] == told["image"]["name"]
    assert {"bash", "libc6"} <= {package["name"] for package in spdx["packages"]}
    assert {component["name"] for component in cyclonedx["components"]} == {one["name"] for one in spdx["packages"][2:]}


def images(person: Person, family: str) -> list[Any]:
    """What `gcloud compute images list` shows of a family: deprecated ones only when asked."""
    found: list[Any] = person.gcloud("compute", "images", "list", "--no-standard-images", f"--filter=family={family}")
    return found


def test_a_message_from_another_pipeline_becomes_an_image(person: Person) -> None:
    """The spec comes with the message, and asks for what its family has already: nothing is built twice."""
    folder = person.spec("piped", replace={"family: hello": "family: piped"})
    there = f"gs://{person.bucket}/specs/piped"
    person.run("gsutil", "-q", "cp", folder / "preload.sh", f"{there}/files/")
    text = (folder / "build.yaml").read_text().replace("context: .", "context: files")
    (folder / "build.yaml").write_text(text)
    person.run("gsutil", "-q", "cp", folder / "build.yaml", f"{there}/request.txt")  # no spec by its name
    request = {"spec": f"{there}/request.txt", "parameters": {"greeting": "ahoy"}, "idempotency_key": "pipeline-7"}
    for _ in range(2):  # the same key is the same build
        person.run("gcloud", "pubsub", "topics", "publish", "build-requests", f"--message={json.dumps(request)}")
    build = person.finished("piped")
    assert build.outcome == "succeeded", build.reason
    assert build.plan is not None
    assert build.plan.steps[0].inputs["env"] == {"GREETING": "ahoy"}
    assert [each.id for each in person.builds() if each.name == "piped"] == [build.id]
    assert images(person, "piped")[0]["labels"]["goldsmith-build"] == build.id
