"""The JSON schema of the spec: as the models and the page have it, and of one mind with them on examples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from docs.generate_schema import TARGET, text
from tests.shared.spec.test_model import KEYS

ROOT = Path(__file__).parents[3]
SPECS = [*sorted(ROOT.glob("examples/*/build.yaml")), *sorted(ROOT.glob("tests/shared/golden/*.yaml"))]
SCHEMA = json.loads(TARGET.read_text(encoding="utf-8"))
CHECK = jsonschema.Draft202012Validator(SCHEMA)
HELLO: dict[str, Any] = yaml.safe_load((ROOT / "examples/hello/build.yaml").read_text(encoding="utf-8"))


def test_it_is_made_from_the_models_and_the_page() -> None:
    assert TARGET.read_text(encoding="utf-8") == text(), "run: python -m docs.generate_schema"
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_each_key_is_explained() -> None:
    assert text().count('"description": ""') == 0
    assert text().count('"description"') > len(KEYS)


@pytest.mark.parametrize("path", SPECS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_good_spec_is_good(path: Path) -> None:
    assert [error.message for error in CHECK.iter_errors(yaml.safe_load(path.read_text(encoding="utf-8")))] == []


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"nmae": "hello"}, []),
        ({"steps": [{"name": "a", "action": "run-scrip"}]}, ["steps", 0, "action"]),
        ({"steps": [{"name": "a", "action": "run-script", "inputs": {"scirpt": "a"}}]}, ["steps", 0, "inputs"]),
        ({"steps": [{"name": "a", "action": "run-script", "inputs": {}}]}, ["steps", 0, "inputs"]),
        ({"verify": {"steps": [{"name": "a b", "action": "reboot"}]}}, ["verify", "steps", 0, "name"]),
        ({"build": {"timeout": 90}}, ["build", "timeout"]),
        ({"build": {"timeout": "90"}}, ["build", "timeout"]),
        ({"build": {"attempts": 11}}, ["build", "attempts"]),
        ({"output": {"oem_size": "16 M"}}, ["output", "oem_size"]),
        ({"output": {"formats": ["qcow3"]}}, ["output", "formats", 0]),
        ({"hygiene": "wran"}, ["hygiene"]),
        ({"disk": "whole"}, ["disk"]),
        ({"rebuild": "sometimes"}, ["rebuild"]),
        ({"parameters": {"9": "x"}}, ["parameters"]),
        ({"verify": None}, ["verify"]),
    ],
)
def test_a_mistake_is_seen_where_it_is(change: dict[str, Any], place: list[str | int]) -> None:
    found = [list(error.absolute_path) for error in CHECK.iter_errors({**HELLO, **change})]
    assert found
    assert all(each == place for each in found)


@pytest.mark.parametrize(
    "change",
    [
        {"build": {"timeout": "${wait}", "attempts": "${tries}", "spot": "${cheap}"}},
        {"rebuild": "${how}"},
        {"hygiene": "warn"},
        {"disk": "filesystem"},
        {"output": {"oem_size": "16M", "formats": ["raw", "qcow2"], "labels": {"team": "${team}"}}},
        {"steps": [{"name": "a", "action": "reboot"}, {"name": "b", "action": "reboot", "timeout": "1h30m"}]},
    ],
)
def test_what_can_stand_there_can(change: dict[str, Any]) -> None:
    assert [error.message for error in CHECK.iter_errors({**HELLO, **change})] == []
