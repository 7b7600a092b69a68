"""Write shared/spec/spec.schema.json, the JSON schema of the spec, from its models and the tables of docs/spec.md.

python -m docs.generate_schema

It is for editors, which complete and explain keys by it. It knows each key and the form of each value, and not the
rules between keys: `goldsmith validate` has the last word.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import create_model
from pydantic.fields import FieldInfo

from provisioner.protocol import ACTIONS, CHECKS
from shared.build.export_formats import EXPORT_FORMATS
from shared.build.image.guest_features import GUEST_FEATURES
from shared.spec.actions import INPUTS
from shared.spec.closed import Closed
from shared.spec.fields import OR_FINDINGS
from shared.spec.model import Spec

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "shared" / "spec" / "spec.schema.json"
ROW = re.compile(r"^\| `([^`]+)` \| (?:`([^`]*)`|\w+) \| (.*) \|$", re.MULTILINE)
SEE = re.compile(r" See (?:also )?\[[^]]*\]\([^)]*\)\.")
LINK = re.compile(r"\[([^]]*)\]\([^)]*\)")
PARAMETER = {"type": "string", "pattern": r"\$\{[A-Za-z_][A-Za-z0-9_]*\}", "description": "A parameter stands here."}
CHOICES: Mapping[str, tuple[str, ...]] = {
    "output.formats": tuple(EXPORT_FORMATS),
    "output.guest_os_features": tuple(GUEST_FEATURES),
    "verify.skip": tuple(CHECKS),
}
DIGITS = ("copy-files.mode",)  # texts that YAML takes for numbers, and a spec for what is written
_WORDS = {"ge": "minimum", "le": "maximum"}  # pydantic's own, of a number with a check before
Schema = dict[str, Any]


def schema() -> Schema:
    """Return the whole schema, of draft 2020-12."""
    rows = {
        path: (default, LINK.sub(r"\1", SEE.sub("", meaning)).replace("\\|", "|"))
        for path, default, meaning in ROW.findall((ROOT / "docs" / "spec.md").read_text(encoding="utf-8"))
    }
    example = yaml.safe_load((ROOT / "examples" / "hello" / "build.yaml").read_text(encoding="utf-8"))
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A spec of Goldsmith",
        "description": "One image build. docs/spec.md has every key.",
        **_mapping(Spec, "", rows),
        "examples": [example],
        "$defs": {
            "parameter": PARAMETER,
            "inputs": {action: _mapping(INPUTS[action], f"{action}.", rows) for action in ACTIONS},
        },
    }


def _mapping(model: type[Closed], prefix: str, rows: Mapping[str, tuple[str, str]]) -> Schema:
    made: Schema = {
        "type": "object",
        "additionalProperties": False,
        "properties": {name: _key(prefix + name, key, rows) for name, key in model.model_fields.items()},
    }
    if required := [name for name, key in model.model_fields.items() if key.is_required()]:
        made["required"] = required
    if "action" in made["properties"]:
        made["allOf"] = [_inputs_of(action) for action in ACTIONS]
    return made


def _inputs_of(action: str) -> Schema:
    return {
        "if": {"properties": {"action": {"const": action}}, "required": ["action"]},
        "then": {"properties": {"inputs": {"$ref": f"#/$defs/inputs/{action}"}}},
    }


def _key(path: str, key: FieldInfo, rows: Mapping[str, tuple[str, str]]) -> Schema:
    default, meaning = rows.get(path.replace("verify.steps[].", "steps[]."), ("", ""))
    made = _value(path, key, rows)
    if default:
        made["default"] = yaml.safe_load(default)
    return {"description": meaning, **made}


def _value(path: str, key: FieldInfo, rows: Mapping[str, tuple[str, str]]) -> Schema:
    if path.endswith("steps[].action"):
        return {"type": "string", "enum": list(ACTIONS)}
    if path.endswith("steps[].inputs"):
        return {"type": "object"}
    for model, stands_in in _models_in(key.annotation):
        if stands_in is dict:
            return _by_name(key, _mapping(model, f"{path}.*.", rows))
        if stands_in is tuple:
            inner = _mapping(model, f"{path}[].", rows)
            most = [each.max_length for each in key.metadata if hasattr(each, "max_length")]
            return {"type": "array", "items": inner, **({"maxItems": most[0]} if most else {})}
        inner = _mapping(model, f"{path}.", rows)
        return {"anyOf": [inner, {"enum": ["fail", "warn"]}]} if OR_FINDINGS in key.metadata else inner
    made = _or_parameter(_without_null(_alone(key)))
    if path in DIGITS:
        made = {"anyOf": [*made["anyOf"], {"type": "integer"}]}
    if choices := CHOICES.get(path):
        made["items"] = {"enum": list(choices)}
    return made


def _alone(key: FieldInfo) -> Schema:
    """Return a key's schema as pydantic has it, with JSON Schema's words for what it leaves in its own."""
    alone: dict[str, Any] = {"key": (key.annotation, key)}
    made: Schema = create_model("Alone", **alone).model_json_schema(mode="validation")["properties"]["key"]
    return _in_its_words(made)


def _in_its_words(made: Schema) -> Schema:
    forms = {"anyOf": [_in_its_words(form) for form in made["anyOf"]]} if "anyOf" in made else {}
    return {_WORDS.get(name, name): value for name, value in (made | forms).items()}


def _by_name(key: FieldInfo, inner: Schema) -> Schema:
    """Return the schema of models by names of a form."""
    made = _without_null(_alone(key))
    [pattern] = made["patternProperties"]
    return {**made, "patternProperties": {pattern: inner}, "additionalProperties": False}


def _models_in(annotation: Any) -> list[tuple[type[Closed], type | None]]:
    """Find the model of a key's type, and whether it stands in a list, or in a mapping from names."""
    if isinstance(annotation, type) and issubclass(annotation, Closed):
        return [(annotation, None)]
    origin = getattr(annotation, "__origin__", None)
    here = origin if origin in (tuple, dict) else None
    return [(model, within or here) for part in get_args(annotation) for model, within in _models_in(part)]


def _without_null(made: Schema) -> Schema:
    """Leave out null, which no key of a spec can be, and what pydantic says of its own."""
    kept = {name: value for name, value in made.items() if name not in ("title", "default")}
    if "anyOf" not in kept:
        return kept
    forms = [form for form in kept.pop("anyOf") if form != {"type": "null"}]
    return {**kept, **forms[0]} if len(forms) == 1 else {**kept, "anyOf": forms}


def _or_parameter(made: Schema) -> Schema:
    """Let a `${parameter}` stand for a value of a closer form than text."""
    if made.get("type") == "array" and isinstance(made.get("items"), dict):
        return {**made, "items": _or_parameter(made["items"])}
    if made.get("type") == "object":
        if "patternProperties" in made:
            return {**made, "additionalProperties": False}
        inner = made.get("additionalProperties")
        return {**made, "additionalProperties": _or_parameter(inner)} if isinstance(inner, dict) and inner else made
    if "anyOf" in made or (made.get("type") == "string" and not {"pattern", "enum"} & set(made)):
        return made
    return {"anyOf": [made, {"$ref": "#/$defs/parameter"}]}


def text() -> str:
    """Return the file."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    TARGET.write_text(text(), encoding="utf-8")
