"""What asks for builds, before a spec is read: uploads, messages, and workflows that go on."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from shared.build.build import Sibling, WorkflowPart
from shared.errors import InputError, PoisonMessage
from shared.intake.request import REQUEST_LIMIT, may_be_spec, name_in, of_message, of_part, of_upload, stem
from shared.ports import StoredObject
from shared.spec.document import read_document
from shared.spec.read import parse
from shared.submission import CONTEXT_METADATA, KEEP_METADATA, PARAMETERS_METADATA, result_uri

BUCKET = "my-bucket"
URI = f"gs://{BUCKET}/specs/team/Web.yaml"


def message(**document: object) -> bytes:
    return json.dumps(document).encode()


def test_upload_is_asked_for_by_its_generation() -> None:
    metadata = {PARAMETERS_METADATA: '{"a": "b"}', CONTEXT_METADATA: "gs://my-bucket/contexts/x.tar"}
    metadata |= {KEEP_METADATA: "90m"}
    request = of_upload(StoredObject(URI, "7", 10, metadata), BUCKET)
    assert (request.asked, request.stem, request.uri) == (f"{URI}#7", "web", URI)
    assert request.result == "gs://my-bucket/results/team/Web-7.json"
    assert (request.checked_parameters(), request.packed) == ({"a": "b"}, "gs://my-bucket/contexts/x.tar")
    assert request.checked_keep() == 5400.0


@pytest.mark.parametrize(
    ("document", "message_id", "asked", "result"),
    [
        ({"spec": URI}, "17", "message 17", "results/team/Web-17"),
        ({"spec": URI, "idempotency_key": "nightly"}, "17", "key ", "results/team/Web-nightly"),
        ({"spec": "gs://elsewhere/deep/a.yaml"}, "17", "message 17", "results/a-17"),
        ({"spec": {"name": "web"}}, "17", "message 17", "results/web-17"),
        ({"spec": "name: web\n"}, "17", "message 17", "results/web-17"),
        ({"spec": "steps: []\n"}, "17", "message 17", "results/spec-17"),
    ],
)
def test_message_is_asked_for_by_its_id_or_key(
    document: dict[str, object], message_id: str, asked: str, result: str
) -> None:
    request = of_message(message(**document), message_id, BUCKET)
    assert request.asked.startswith(asked)
    assert re.fullmatch(rf"gs://{BUCKET}/{result}-[0-9a-f]{{12}}\.request\.json", request.result)
    again = of_message(message(**document), message_id, BUCKET)
    assert again.with_text("a") == request.with_text("a")
    keyed = "idempotency_key" in document
    assert (again.with_text("b").asked != request.with_text("a").asked) == keyed
    assert (again.with_text("b").result != request.with_text("a").result) == keyed


def test_a_key_stands_for_the_disk_that_is_to_be_kept_as_well() -> None:
    asked = [
        of_message(message(spec=URI, idempotency_key="nightly", **kept), "17", BUCKET).with_text("a").asked
        for kept in ({}, {"keep_on_failure": None}, {"keep_on_failure": "1h"}, {"keep_on_failure": "2h"})
    ]
    assert asked[0] == asked[1]
    assert len(set(asked)) == 3


@pytest.mark.parametrize("text", ["name: web\n", "name: [\n", "steps: [{name: gcr.io/x, args: []}]\n"])
def test_inline_spec_is_parsed_where_its_name_is_read(text: str) -> None:
    assert of_message(message(spec=text), "17", BUCKET).inline == parse(text, "spec")
    assert of_message(message(spec=URI), "17", BUCKET).inline is None


@pytest.mark.parametrize(
    ("name", "result"),
    [
        ("specs/../logs/x.yaml", "_/logs/x"),
        ("specs/a/../../x.yaml", "a/_/_/x"),
        ("specs/a\nb.yaml", "a_b"),
        ("specs//x.yaml", "x"),
        ("specs/", "spec"),
        ("specs/.", "spec"),
        ("", "spec"),
    ],
)
def test_results_lie_below_results_whatever_an_object_is_called(name: str, result: str) -> None:
    assert result_uri(BUCKET, name, "1") == f"gs://{BUCKET}/results/{result}-1.json"


def test_message_that_names_no_spec_is_poison() -> None:
    with pytest.raises(PoisonMessage, match="a request without a spec"):
        of_message(message(spec=5), "17", BUCKET)


def test_a_request_that_is_too_large() -> None:
    with pytest.raises(PoisonMessage, match=r"a request of 4194305 bytes; 4194304 is the most: upload the spec"):
        of_message(b" " * (REQUEST_LIMIT + 1), "1", "bkt")


def test_wrong_keys_and_parameters_are_told_when_they_are_needed() -> None:
    with pytest.raises(InputError, match="'specs' is no key of a request"):
        of_message(message(spec=URI, specs=1), "17", BUCKET).checked_parameters()
    with pytest.raises(InputError, match="parameters are not texts by name"):
        of_message(message(spec=URI, parameters=["a"]), "17", BUCKET).checked_parameters()


def test_workflow_that_goes_on_is_the_request_that_it_was() -> None:
    upload = of_upload(StoredObject(URI, "7", 10, {PARAMETERS_METADATA: '{"_A": "b"}', KEEP_METADATA: "2h"}), BUCKET)
    part = WorkflowPart(URI, "7", upload.asked, upload.result, 1, (Sibling("a"), Sibling("b", (0,))), {"_A": "b"})
    part = replace(part, keep="2h")
    again = of_part(part)
    assert (again.asked, again.uri, again.generation, again.result) == (upload.asked, URI, "7", upload.result)
    assert again.checked_parameters() == upload.checked_parameters()
    assert again.checked_keep() == upload.checked_keep() == 7200.0


@pytest.mark.parametrize(("name", "made"), [("specs/team/Hello.yaml", "hello"), ("9-x.yaml", "x"), ("_.yaml", "spec")])
def test_builds_of_unreadable_specs_are_named_after_their_object(name: str, made: str) -> None:
    assert stem(name) == made


@pytest.mark.parametrize(
    ("text", "name"),
    [("name: web\nstepz: 1\n", "web"), ("name: ${a}\nparameters: {a: b}\n", "c"), ("name: Web\n", None), ("[", None)],
)
def test_name_is_read_whatever_else_is_wrong(text: str, name: str | None) -> None:
    assert name_in(read_document(text).data, {"a": "c"} if "${a}" in text else {}) == name


@pytest.mark.parametrize("text", ["source: {}", "steps: []", "", "a: [", "- a", "words"])
def test_what_may_have_been_meant_as_a_spec(text: str) -> None:
    assert may_be_spec(read_document(text).data)


@pytest.mark.parametrize("text", ["kind: Pod\nspec: {}\n", '{"spdxVersion": "SPDX-2.3", "packages": []}', "{}"])
def test_other_files_of_a_context(text: str) -> None:
    assert not may_be_spec(read_document(text).data)
