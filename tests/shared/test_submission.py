"""What an upload says beside the spec: where its packed contexts lie, of which a workflow may have several."""

from __future__ import annotations

import hashlib

import pytest

from goldsmith.commands.submit import identities
from shared.errors import InputError
from shared.spec.read import parse
from shared.submission import CONTEXT_METADATA, LIST, brought_list, context_metadata, upload_uri
from shared.submission import packed_context as packed_for
from tests.shared.intake.test_workflows import image, workflow
from tests.world.intake import BUCKET, SPEC, Desk, planned, reason
from tests.world.packed_context import packed_context

(DATA_1, DIGEST_1), (DATA_2, DIGEST_2) = (packed_context({"preload.sh": f"echo {digit}"}) for digit in "12")
ONE, TWO = (f"gs://{BUCKET}/uploads/{digest}.tar" for digest in (DIGEST_1, DIGEST_2))
KEPT = [f"gs://{BUCKET}/contexts/2026-11/{digest}.tar" for digest in (DIGEST_1, DIGEST_2)]
LIST_OF_PACKAGES = b"{}"
NAME = "specs/team/cloudbuild.yaml"


@pytest.fixture
def desk() -> Desk:
    made = Desk()
    for uri, data in ((ONE, DATA_1), (TWO, DATA_2)):
        made.objects.put(uri, data)
    return made


def test_a_single_context_goes_by_its_uri() -> None:
    written = context_metadata({".": ONE})
    assert written == ONE
    assert packed_for(written, ".") == packed_for(written, "other") == ONE


def test_several_contexts_go_by_their_names() -> None:
    written = context_metadata({"a": ONE, "b": TWO})
    assert [packed_for(written, name) for name in "ab"] == [ONE, TWO]
    with pytest.raises(InputError, match="does not name it; upload it with goldsmith submit"):
        packed_for(written, "c")
    with pytest.raises(InputError, match="is not JSON"):
        packed_for("{", "a")


def test_list_of_packages_goes_with_the_contexts() -> None:
    alone, both = context_metadata({LIST + "own.json": TWO}), context_metadata({".": ONE, LIST + "own.json": TWO})
    assert [brought_list(written, "own.json") for written in (alone, both, ONE, None, "{")] == [
        TWO,
        TWO,
        None,
        None,
        None,
    ]
    assert packed_for(both, ".") == ONE
    assert brought_list(both, ".") is None


def test_list_of_packages_that_was_brought_is_the_one_that_is_merged(desk: Desk) -> None:
    """finish-image-build -sbom-input-path: by goldsmith submit."""
    digest = hashlib.sha256(LIST_OF_PACKAGES).hexdigest()
    uri = upload_uri(BUCKET, digest, ".json")
    desk.objects.put(uri, LIST_OF_PACKAGES)
    metadata = {CONTEXT_METADATA: context_metadata({".": ONE, LIST + "own.json": uri})}
    build = desk.upload(SPEC + "output: {sbom: {input: own.json}}\n", **metadata)
    assert planned(build).image.sbom_input == f"gs://{BUCKET}/contexts/2026-11/{digest}.json"
    desk.objects.put(uri, b"{} ")
    told = reason(desk.upload(SPEC + "output: {sbom: {input: own.json}}\n", **metadata))
    assert f"output.sbom.input: {uri} does not hold what its name says" in told


def test_each_build_of_a_workflow_gets_its_context(desk: Desk) -> None:
    text = workflow(image("one", context="a"), image("two", context="b"))
    metadata = {CONTEXT_METADATA: context_metadata({"a": ONE, "b": TWO})}
    builds = desk.intake.uploaded(NAME, desk.put(NAME, text, metadata))
    assert [context and context.uri for context in (planned(build).context for build in builds)] == KEPT


def test_context_that_was_not_packed_is_a_fault_of_the_workflow(desk: Desk) -> None:
    metadata = {CONTEXT_METADATA: context_metadata({"a": ONE, "b": TWO})}
    [build] = desk.intake.uploaded(NAME, desk.put(NAME, workflow(image("one", context="c")), metadata))
    assert reason(build).endswith(
        "steps[0] -build-context: goldsmith-context of the upload does not name it; upload it with goldsmith submit"
    )


def test_both_sides_know_the_builds_of_an_upload(desk: Desk) -> None:
    """The command line follows builds by ids that it computes itself; a name may hold the id of the request."""
    text = workflow(image("one"), image("two"), image("three-$BUILD_ID")).replace("two", "$_NAME")
    text += "substitutions: {_NAME: x}\n"
    metadata = {CONTEXT_METADATA: ONE, "goldsmith-parameters": '{"_NAME": "other"}'}
    generation = desk.put(NAME, text, metadata)
    begun = desk.intake.uploaded(NAME, generation)
    assert [build.outcome for build in begun] == [None] * 3
    parsed = parse(text, "cloudbuild.yaml")
    parameters = {"_NAME": "other"}
    assert [build.id for build in begun] == identities(parsed, BUCKET, NAME, generation, parameters, "my-project")
