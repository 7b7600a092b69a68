"""Statements are of the published forms, tell all that is known, and tell no input of a step."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import jsonschema

from tests.shared.provenance.statements import DISK, FACTS, finished_build, stated
from tests.world import values

DIGESTS = {
    "type": "object",
    "minProperties": 1,
    "additionalProperties": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
}
RESOURCE = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "uri": {"type": "string", "format": "uri"},
        "digest": DIGESTS,
        "content": {"type": "string"},
        "downloadLocation": {"type": "string"},
        "mediaType": {"type": "string"},
        "annotations": {"type": "object"},
    },
    "anyOf": [{"required": ["uri"]}, {"required": ["digest"]}, {"required": ["content"]}],
    "additionalProperties": False,
}
TIME = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$"}
SCHEMA = {
    # attestation/spec/v1/statement.md and resource_descriptor.md of in-toto; spec/v1.0/provenance of slsa.dev
    "type": "object",
    "required": ["_type", "subject", "predicateType", "predicate"],
    "additionalProperties": False,
    "properties": {
        "_type": {"const": "https://in-toto.io/Statement/v1"},
        "subject": {"type": "array", "minItems": 1, "items": {**RESOURCE, "required": ["name", "digest"]}},
        "predicateType": {"const": "https://slsa.dev/provenance/v1"},
        "predicate": {
            "type": "object",
            "required": ["buildDefinition", "runDetails"],
            "additionalProperties": False,
            "properties": {
                "buildDefinition": {
                    "type": "object",
                    "required": ["buildType", "externalParameters"],
                    "additionalProperties": False,
                    "properties": {
                        "buildType": {"type": "string", "pattern": "^[a-z]+:"},
                        "externalParameters": {"type": "object"},
                        "internalParameters": {"type": "object"},
                        "resolvedDependencies": {"type": "array", "items": RESOURCE},
                    },
                },
                "runDetails": {
                    "type": "object",
                    "required": ["builder"],
                    "additionalProperties": False,
                    "properties": {
                        "builder": {
                            "type": "object",
                            "required": ["id"],
                            "additionalProperties": False,
                            "properties": {
                                "id": {"type": "string", "pattern": "^[a-z]+:"},
                                "version": {"type": "object", "additionalProperties": {"type": "string"}},
                                "builderDependencies": {"type": "array", "items": RESOURCE},
                            },
                        },
                        "metadata": {
                            "type": "object",
                            "additionalProperties": False,
                            "properties": {"invocationId": {"type": "string"}, "startedOn": TIME, "finishedOn": TIME},
                        },
                        "byproducts": {"type": "array", "items": RESOURCE},
                    },
                },
            },
        },
    },
}


def document(**changes: Any) -> Any:
    return json.loads(stated(finished_build(**changes)))


def test_it_is_of_the_published_forms() -> None:
    found = document()
    jsonschema.Draft202012Validator(SCHEMA).validate(found)
    names = [entry["name"] for entry in found["subject"]]
    assert names == ["local/hello-20261120", "hello-20261120.tar.gz"]
    assert found["subject"][0]["digest"] == {"goldsmithDisk": DISK}


def test_it_tells_of_what_the_image_was_made() -> None:
    source, provisioner, context = document()["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert source == {
        "name": "source",
        "uri": "urn:goldsmith:image:local/debian-12-20261101",
        "digest": {"goldsmithDisk": "b2" * 32},
        "annotations": {"id": "sha256-0001", "statement_sha256": "b1" * 32},
    }
    assert provisioner["digest"] == {"sha256": "f0" * 32}
    assert context["digest"] == {"sha256": "c1" * 32}


def test_it_tells_which_build_was_retried() -> None:
    found = [
        document(**changes)["predicate"]["buildDefinition"] for changes in ({}, {"retry_of": "hello-ba9876543210"})
    ]
    assert [each["internalParameters"]["retry_of"] for each in found] == [None, "hello-ba9876543210"]


def test_a_source_of_which_nothing_is_stated_has_its_id() -> None:
    [source, _provisioner] = json.loads(stated(values.build(), replace(FACTS, source=None)))["predicate"][
        "buildDefinition"
    ]["resolvedDependencies"]
    assert source["annotations"] == {"id": "sha256-0001"}
    assert "digest" not in source


def test_it_tells_when_it_ran_and_what_it_left() -> None:
    run = document()["predicate"]["runDetails"]
    assert run["metadata"] == {
        "invocationId": values.BUILD_ID,
        "startedOn": "2026-11-20T12:00:00Z",
        "finishedOn": "2026-11-20T12:01:30Z",
    }
    step, cyclonedx, spdx = run["byproducts"]
    assert (step["name"], step["annotations"]["from_cache"]) == ("steps/0/greet", True)
    assert (cyclonedx["name"], spdx["name"]) == ("hello.cdx.json", "hello.spdx.json")


def test_a_queued_build_began_when_its_turn_came() -> None:
    run = document(turn=values.NOON + 60)["predicate"]["runDetails"]
    assert run["metadata"]["startedOn"] == "2026-11-20T12:01:00Z"


def test_inputs_of_steps_are_told_as_digests_alone() -> None:
    plan = values.plan()
    secret = replace(plan.steps[0], inputs={"script": "preload.sh", "env": {"TOKEN": "hunter2"}})
    other = replace(secret, inputs={"script": "preload.sh", "env": {"TOKEN": "hunter3"}})
    first, second = (
        stated(finished_build(plan=replace(plan, steps=(step,), verify_steps=(step,)))) for step in (secret, other)
    )
    assert b"hunter" not in first
    assert b"preload.sh" not in first
    asked = [json.loads(each)["predicate"]["buildDefinition"]["externalParameters"] for each in (first, second)]
    for part in ("steps", "verify", "plan"):
        assert asked[0][part] != asked[1][part]
    assert asked[0]["image"] == asked[1]["image"]


def test_a_step_that_gets_its_secrets_from_elsewhere_is_another_step() -> None:
    step = values.plan().steps[0]
    digests = []
    for secrets in ({}, {"TOKEN": "env:TOKEN"}, {"TOKEN": "file:/run/token"}):
        asked = document(plan=replace(values.plan(), steps=(replace(step, secrets=secrets),)))
        [told] = asked["predicate"]["buildDefinition"]["externalParameters"]["steps"]
        digests.append(told["digest"]["sha256"])
        assert "/run/token" not in json.dumps(asked)
    assert len(set(digests)) == 3


def test_a_deployment_is_a_builder_of_its_own() -> None:
    plan = values.plan()
    cloud = replace(plan, machine=replace(plan.machine, project="my-project"))
    builder = document(plan=cloud)["predicate"]["runDetails"]["builder"]
    assert builder["id"] == "urn:goldsmith:deployment:my-project"
