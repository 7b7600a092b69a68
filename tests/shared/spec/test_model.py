"""The models: closed, held to the wire contract and to docs/spec.md."""

import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import ValidationError, create_model
from pydantic.fields import FieldInfo

from provisioner.protocol import ACTIONS, Step, decode_inputs
from shared.names import shown_value
from shared.spec.actions import CONTEXT_FILES, INPUTS
from shared.spec.closed import Closed, problems_of
from shared.spec.document import read_document
from shared.spec.model import Source, Spec, SpecStep

ROOT = Path(__file__).parents[3]
ROW = re.compile(r"^\| `([^`]+)` \| (?:`([^`]*)`|(\w+)) \|", re.MULTILINE)


def models_in(annotation: Any) -> list[tuple[type[Closed], str]]:
    """Find the models of a key's type, and what stands between its path and theirs: [] of a list, .* of names."""
    if isinstance(annotation, type) and issubclass(annotation, Closed):
        return [(annotation, "")]
    origin = getattr(annotation, "__origin__", None)
    between = "[]" if origin is tuple else ".*" if origin is dict else ""
    return [(model, within or between) for part in get_args(annotation) for model, within in models_in(part)]


def keys_of(model: type[Closed], prefix: str = "") -> dict[str, FieldInfo]:
    """List every key below a model by its path; `verify.steps` are steps, and not listed again."""
    found: dict[str, FieldInfo] = {}
    for name, key in model.model_fields.items():
        found[prefix + name] = key
        for inner, between in models_in(key.annotation):
            if (prefix, inner) != ("verify.", SpecStep):
                found |= keys_of(inner, f"{prefix}{name}{between}.")
    return found


KEYS = keys_of(Spec) | {
    f"{action}.{name}": key for action in INPUTS for name, key in INPUTS[action].model_fields.items()
}
DOCUMENTED = {
    path: (default, word) for path, default, word in ROW.findall((ROOT / "docs/spec.md").read_text(encoding="utf-8"))
}


def test_every_key_is_documented_and_no_other() -> None:
    assert sorted(DOCUMENTED) == sorted(KEYS)


@pytest.mark.parametrize("path", KEYS)
def test_documented_default_is_the_real_one(path: str) -> None:
    key, (default, word) = KEYS[path], DOCUMENTED[path]
    if key.is_required():
        assert word == "required"
    elif key.get_default(call_default_factory=True) is None:
        assert word == "none"
    else:
        value = read_document(f"a: {default}\n").data["a"]
        alone: dict[str, Any] = {"key": (key.annotation, key)}
        model = create_model("Alone", __base__=Closed, **alone)
        assert model.model_validate({"key": value}) == model()


@pytest.mark.parametrize("action", ACTIONS)
def test_inputs_are_those_of_the_wire_contract(action: str) -> None:
    planned = ["documents"] if action == "elements" else []
    assert {*INPUTS[action].model_fields, *planned} == {entry.name for entry in fields(ACTIONS[action])}


GOOD_INPUTS: dict[str, dict[str, Any]] = {
    "run-script": {"script": "a.sh"},
    "copy-files": {"source": "a", "destination": "/a"},
    "install-packages": {"packages": ["jq", "linux-image-cloud-amd64", "g++", "libc6:i386=2.36-9", "@core"]},
    "install-gpu": {"version": "535.104.05", "deps_dir": "deps"},
    "install-anthos": {"package_spec": "https://example.com/spec.yaml"},
    "seal-oem": {},
    "disable-auto-update": {},
    "kernel-command-line": {"add": ["nosmt", "panic=10"], "remove": ["quiet"]},
    "ansible": {"playbook": "site.yml", "extra_vars": {"a": "1"}, "tags": ["t"], "version": "image", "keep": True},
    "elements": {"elements": ["vm", "my-app"], "path": ["elements/"], "env": {"DIB_RELEASE": "bookworm"}},
    "reboot": {},
}


@pytest.mark.parametrize("action", ACTIONS)
def test_inputs_of_a_step_are_taken_by_the_provisioner(action: str) -> None:
    step = SpecStep(name="a", action=action, inputs=GOOD_INPUTS[action])
    lists = {key: tuple(value) for key, value in GOOD_INPUTS[action].items() if isinstance(value, list)}
    given = ACTIONS[action](**{**GOOD_INPUTS[action], **lists})
    assert decode_inputs(Step("a", action, step.inputs)) == given
    assert step.inputs == INPUTS[action].model_validate(GOOD_INPUTS[action]).model_dump(mode="json")


def test_files_of_the_context_are_inputs_of_their_actions() -> None:
    known = [(action, file.key) for action, files in CONTEXT_FILES.items() for file in files]
    assert all(key in INPUTS[action].model_fields for action, key in known)


def test_spec_can_be_made_in_python_and_not_be_changed() -> None:
    spec = Spec(name="hello", source=Source(file="a.raw"), steps=(SpecStep(name="a", action="reboot"),))
    assert spec == Spec.model_validate({"name": "hello", "source": {"file": "a.raw"}, "steps": [spec.steps[0]]})
    with pytest.raises(ValidationError, match="frozen"):
        spec.name = "other"


def test_problems_of_python_values_are_in_plain_words_too() -> None:
    with pytest.raises(ValidationError) as caught:
        Spec.model_validate({"name": None, "source": {}, "steps": [{"name": "a", "action": "reboot", "x": 1}]})
    assert sorted(problems_of(caught.value), key=str) == [
        (("name",), 'needs text, not nothing; put it in quotes: "..."'),
        (
            ("source",),
            "names no image; write exactly one of image, family, milestone, file, rootfs, oci, bootstrap, elements",
        ),
        (
            ("steps", 0, "x"),
            "unknown key; write one of: name, action, inputs, timeout, retries, when, idempotent, reads, network, "
            "cache, secrets",
        ),
    ]


def test_values_are_named_as_people_see_them() -> None:
    values: tuple[object, ...] = (None, True, False, 1, 1.5, "a", [], (), {})
    assert [shown_value(value) for value in values] == [
        "nothing",
        "true",
        "false",
        "the number 1",
        "the number 1.5",
        "the text 'a'",
        "a list",
        "a list",
        "keys and values",
    ]


def test_plans_are_read_without_pydantic() -> None:
    """Plans go everywhere; pydantic, which takes a tenth of a second, stays where specs are read."""
    program = "import sys, shared.build.plan; sys.exit('pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0
