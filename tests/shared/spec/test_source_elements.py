"""What a step of elements takes of a source of elements, and where its problems are told."""

from __future__ import annotations

from typing import Any

import pytest

from shared.errors import SpecError
from shared.spec.read import parse, read_specs

HEAD = "name: tiny\ncontext: .\nsource:\n  elements:\n"
SOURCE = "    elements: [debian-minimal, vm]\n    path: [own, elements]\n    env: {DIB_RELEASE: bookworm, A: one}\n"


def steps_of(text: str) -> list[dict[str, Any]]:
    (build,) = read_specs(parse(text, "spec.yaml"))
    return [step.inputs for step in build.spec.steps]


def problems_of(text: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        read_specs(parse(text, "spec.yaml"))
    return list(caught.value.problems)


def test_a_step_without_elements_takes_those_of_the_source() -> None:
    text = f"{HEAD}{SOURCE}steps:\n- {{name: one, action: elements}}\n"
    assert steps_of(text) == [
        {
            "elements": ["debian-minimal", "vm"],
            "path": ["own", "elements"],
            "env": {"DIB_RELEASE": "bookworm", "A": "one"},
            "packages": [],
        }
    ]


def test_variables_of_the_step_win() -> None:
    text = f"{HEAD}{SOURCE}steps:\n- {{name: one, action: elements, inputs: {{path: [other], env: {{A: two}}}}}}\n"
    (inputs,) = steps_of(text)
    assert (inputs["path"], inputs["env"]) == (["other"], {"DIB_RELEASE": "bookworm", "A": "two"})


def test_a_step_with_elements_takes_nothing() -> None:
    text = f"{HEAD}{SOURCE}steps:\n- {{name: one, action: elements, inputs: {{elements: [app]}}}}\n"
    assert steps_of(text) == [{"elements": ["app"], "path": ["elements"], "env": {}, "packages": []}]


@pytest.mark.parametrize(
    ("source", "steps", "problem"),
    [
        (
            SOURCE,
            "[]",
            "spec.yaml:4:3: source.elements: run root.d alone; add a step with action: elements, which runs the other "
            "phases",
        ),
        ("    path: [a]\n", "[{name: one, action: elements}]", "source.elements.elements: is missing"),
        ("    elements: []\n", "[{name: one, action: elements}]", "source.elements.elements: is empty"),
        ("    elements: [a b]\n", "[{name: one, action: elements}]", "source.elements.elements[0]"),
        ("    elements: [a]\n    env: {TARGET_ROOT: x}\n", "[{name: one, action: elements}]", "TARGET_ROOT is set by"),
        ("    elements: [a]\n    more: b\n", "[{name: one, action: elements}]", "source.elements.more"),
    ],
)
def test_a_source_of_elements_is_checked(source: str, steps: str, problem: str) -> None:
    found = problems_of(f"{HEAD}{source}steps: {steps}\n")
    assert [line for line in found if problem in line] == found
    assert len(found) == 1


@pytest.mark.parametrize("inputs", ["7", "[]", "{elements: 7}", "{env: 7}", "{path: 7}"])
def test_wrong_inputs_are_told_and_not_read(inputs: str) -> None:
    text = f"{HEAD}{SOURCE}steps:\n- {{name: one, action: elements, inputs: {inputs}}}\n"
    assert all(line.startswith("spec.yaml:9:") for line in problems_of(text))
