"""Reading a spec's text: what YAML means here, parameters, limits, and that no text at all breaks the reader."""

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import SpecError
from shared.spec.document import TEXT_LIMIT, VALUE_LIMIT, read_document, read_values
from shared.spec.parameters import GROWTH_LIMIT
from tests.shared.spec.reading import read_spec

GOLDEN = Path(__file__).parents[1] / "golden"
GOOD = """\
name: hello
source: {project: local, family: debian-12}
steps: []
"""


def problems(text: str, **overrides: str) -> list[str]:
    """Return the problems of a spec's text, without the file's name."""
    with pytest.raises(SpecError) as caught:
        read_spec(text, "s", overrides)
    return [problem.removeprefix("s:") for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "1:1: spec: is empty; start with the lines name: and source:"),
        ("name: a\0b\n", "1:8: spec: holds the unprintable character U+0000; remove it"),
        ("a: 1\nb: \ufeff\n", "2:4: spec: holds the unprintable character U+FEFF; remove it"),
        (
            "# " + "x" * TEXT_LIMIT,
            "1:1: spec: is longer than 1048576 characters; move data into files of the context",
        ),
        ("a: " + "[" * 21 + "]" * 21, "1:24: spec: is nested more than 20 deep; write it flatter"),
        (
            "a: [" + "x," * VALUE_LIMIT + "]",
            "1:40001: a[19998]: holds more than 20000 values, aliases expanded; write less",
        ),
    ],
    ids=["empty", "NUL", "byte order mark inside", "too long", "too deep", "too many values"],
)
def test_text_that_cannot_be_read(text: str, message: str) -> None:
    assert problems(text) == [message]


@pytest.mark.parametrize(
    ("text", "place"), [("a: b: c\n", "1:5"), ("a: 'x\n", "2:1"), ("a: [1\n", "2:1"), ("a: @x\n", "1:4")]
)
def test_broken_yaml_says_where(text: str, place: str) -> None:
    (problem,) = problems(text)
    assert problem.startswith(f"{place}: spec: is not YAML: ")
    assert problem.endswith("; check the indentation, quotes and brackets here")


def test_aliases_that_nest_too_deep() -> None:
    levels = ["a0: &a0 [x]"] + [f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 25)]
    assert problems("\n".join(levels)) == ["1:10: a19" + "[0]" * 20 + ": is nested more than 20 deep; write it flatter"]


def test_depth_costs_no_time() -> None:
    """Libyaml alone takes a minute for this; Hypothesis never makes such a text."""
    started = time.monotonic()
    assert problems("a: " + "[" * 100_000) == ["1:24: spec: is nested more than 20 deep; write it flatter"]
    assert problems("{a: " * 100_000) == ["1:85: spec: is nested more than 20 deep; write it flatter"]
    assert time.monotonic() - started < 5


def test_number_of_problems_is_bounded() -> None:
    found = problems(GOOD + "".join(f"k{number}: 1\n" for number in range(150)))
    assert len(found) == 101
    assert found[-1] == "104:1: spec: has 50 more problems; mend those above first"


def test_yaml_bomb_is_refused() -> None:
    levels = ["a0: &a0 [x]"] + [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    (problem,) = problems("\n".join(levels))
    assert "holds more than 20000 values, aliases expanded; write less" in problem


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD + "output: {name: gs-x-a1-vm-ci}", "4:10: output.name: 'gs-x-a1-vm-ci' begins with gs-, as the machines"),
        (GOOD.replace("name: hello", "name: gs-hello", 1), "1:1: name: 'gs-hello' begins with gs-, as the machines"),
    ],
)
def test_names_of_what_builds_make_for_themselves_are_refused(text: str, message: str) -> None:
    [found] = problems(text)
    assert found.startswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD.replace("[]", f"[{','.join(f'{{name: s{n}, action: reboot}}' for n in range(101))}]"), "3:1: steps: 100"),
        (GOOD + f"output: {{labels: {{{','.join(f'k{n}: x' for n in range(61))}}}}}", "4:10: output.labels: 60"),
    ],
)
def test_too_many_entries(text: str, message: str) -> None:
    place, limit = message.rsplit(" ", 1)
    assert problems(text) == [f"{place} has too many entries; write at most {limit}"]


def test_long_description() -> None:
    assert problems(GOOD + f"description: {'x' * 2049}\n") == [
        "4:1: description: is too long; write at most 2048 characters"
    ]


def test_all_problems_are_told_in_the_order_of_the_file() -> None:
    text = "nam: x\nsource: {project: local}\nsteps:\n- {name: a, action: reboot, retries: -1}\n- {name: a}\nlocal:\n"
    assert [problem.split(": ")[:2] for problem in problems(text)] == [
        ["1:1", "nam"],
        ["1:1", "name"],
        ["2:1", "source"],
        ["4:29", "steps[0].retries"],
        ["5:3", "steps[1].action"],
        ["5:4", "steps[1].name"],
        ["6:1", "local"],
    ]


YAML_1_1_TRAPS = """\
name: "on"
description: 2026-11-20
source: {project: local, family: no}
steps:
  - {name: y, action: run-script, inputs: {script: "off", env: {A: on, B: no, C: 1:30, D: 0644, E: 0x1F, F: .inf}}}
  - {name: n, action: copy-files, inputs: {source: a, destination: /a, mode: 0644}}
"""


def test_yaml_1_1_does_not_surprise() -> None:
    spec = read_spec(YAML_1_1_TRAPS, "s")
    assert (spec.name, spec.description, spec.source.family, spec.steps[0].name) == ("on", "2026-11-20", "no", "y")
    assert spec.steps[0].inputs["env"] == {"A": "on", "B": "no", "C": "1:30", "D": "0644", "E": "0x1F", "F": ".inf"}
    assert spec.steps[1].inputs["mode"] == "0644"


def test_json_is_read_as_well() -> None:
    document = {"name": "hello", "description": 'tab\t"\\ud83d\\ude00" 😀', "source": {"file": "a.raw"}, "steps": []}
    for text in (json.dumps(document), json.dumps(document, indent="\t", ensure_ascii=False)):
        assert read_spec(text, "s").description == document["description"]


def test_byte_order_mark_at_the_start_is_ignored() -> None:
    assert read_spec("\ufeff" + GOOD, "s") == read_spec(GOOD, "s")


def test_alias_stands_for_what_it_names() -> None:
    step = "{name: a, action: run-script, inputs: &i {script: a}}"
    text = GOOD.replace("[]", f"[{step}, {{name: b, action: run-script, inputs: *i}}]")
    first, second = read_spec(text, "s").steps
    assert first.inputs == second.inputs == {"script": "a", "env": {}, "interpreter": None}


PARAMETERS = GOOD + "parameters: {release: '1', size: '20', yes: 'true'}\n"


def test_parameters_are_put_into_text() -> None:
    spec = read_spec(PARAMETERS + "description: a ${release}.${release} $${release} $x {y} $$${release}\n", "s")
    assert spec.description == "a 1.1 ${release} $x {y} $${release}"
    assert type(spec.description) is str


def test_parameters_are_set_from_outside_and_recorded() -> None:
    spec = read_spec(PARAMETERS + "description: a ${release}\n", "s", {"release": "${size}"})
    assert spec.description == "a ${size}"
    assert spec.parameters == {"release": "${size}", "size": "20", "yes": "true"}


def test_parameter_alone_may_be_a_number_or_boolean() -> None:
    text = PARAMETERS + "output: {disk_size_gb: '${size}', labels: {size: '${size}'}}\nbuild: {spot: '${yes}'}\n"
    spec = read_spec(text, "s")
    assert spec.output.disk_size_gb == 20
    assert spec.output.labels == {"size": "20"}
    assert spec.build.spot is True
    assert problems(text, size="many", yes="maybe") == [
        "5:10: output.disk_size_gb: needs a whole number, not the text 'many'; write that instead",
        "6:9: build.spot: needs true or false, not the text 'maybe'; write that instead",
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "description: ${relase}",
            "'${relase}' names no parameter; write $${relase} to keep it as text; did you mean release?",
        ),
        (
            "description: ${HOME}/x",
            "'${HOME}' names no parameter; write $${HOME} to keep it as text; write one of: release, size, yes",
        ),
        (
            "description: ${source.nam}",
            "'${source.nam}' names no parameter; write $${source.nam} to keep it as text; did you mean source.name?",
        ),
        ("description: ${release", "'${release' has no closing brace; close it, or write $${ for text"),
    ],
)
def test_reference_that_cannot_be_replaced(line: str, message: str) -> None:
    assert problems(PARAMETERS + line) == [f"5:1: description: {message}"]


def test_reference_where_nothing_is_declared() -> None:
    message = "'${x}' names no parameter; declare it under parameters, or write $${x} to keep it as text"
    assert problems(GOOD + "description: ${x}\n") == [f"4:1: description: {message}"]


def test_parameters_do_not_refer_to_each_other() -> None:
    assert problems(GOOD + "parameters: {a: b, c: '${a}'}\n") == [
        "4:20: parameters.c: refers to '${a}', and parameters cannot refer to each other; write its value out"
    ]
    assert read_spec(GOOD + "parameters: {c: '$${a}'}\ndescription: ${c}\n", "s").description == "${a}"


def test_value_for_an_undeclared_parameter() -> None:
    assert problems(PARAMETERS, relese="2") == [
        "4:1: parameters: a value is given for 'relese', which the spec does not declare; did you mean release?"
    ]
    assert problems(GOOD, release="2") == [
        "1:1: parameters: a value is given for 'release', and the spec declares no parameters; "
        "declare it under parameters"
    ]


def test_references_cannot_make_a_spec_explode() -> None:
    (problem,) = problems(GOOD + f"parameters: {{a: {'x' * 10_000}}}\ndescription: {'${a}' * 10_000}\n")
    assert problem == (
        f"5:1: description: makes the spec longer than {GROWTH_LIMIT} characters; "
        "put long text into files of the context"
    )


PROBLEM = re.compile(r"s:[1-9][0-9]*:[1-9][0-9]*: \S.*: \S.*[;?] ?.*", re.DOTALL)


def refusal(text: str) -> tuple[str, ...]:
    """Return the problems of any text; none for a spec."""
    try:
        read_spec(text, "s")
    except SpecError as error:
        return error.problems or ("refused without a problem",)
    return ()


def check_any(text: str) -> None:
    """Read any text: a spec, or problems of the promised form and in plain words."""
    for problem in refusal(text):
        assert PROBLEM.fullmatch(problem), problem
        assert "Input should" not in problem
        assert "docs/spec.md" not in problem  # the words for an error without words of its own


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    check_any(text)


@given(st.text(alphabet="ab:-[]{}&*!|>'\"%@`#,? \n\t\r$\\\x85\u2028\ufeff0.~<", max_size=60))
def test_any_punctuation_is_read_or_refused(text: str) -> None:
    check_any(text)


FULL = read_document((GOLDEN / "everything.yaml").read_text()).data
SCALARS: st.SearchStrategy[Any] = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """List the paths of all values in a document."""
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, item in children for place in places(item, (*path, key)))]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(places(json.loads(json.dumps(FULL)))[1:]), ANYTHING)
def test_any_value_in_any_place_is_read_or_refused(place: tuple[Any, ...], value: Any) -> None:
    document = json.loads(json.dumps(FULL))
    parent = document
    for key in place[:-1]:
        parent = parent[key]
    parent[place[-1]] = value
    check_any(json.dumps(document))


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("a:\nb: ~\nc: [null, 1]\n", {"a": None, "b": None, "c": (None, 1)}),
        ("- a\n-\n", ("a", None)),
        ("text", "text"),
        ('{"a": null}', {"a": None}),
        ("", None),
        ("# only this\n", None),
        ("~", None),
        ("a: {b", None),
    ],
)
def test_values_that_are_no_spec_may_be_empty(text: str, data: Any) -> None:
    document = read_values(text)
    assert document.data == data
    assert [problem.text.split(":")[0] for problem in document.problems] == (["is not YAML"] if "{b" in text else [])
