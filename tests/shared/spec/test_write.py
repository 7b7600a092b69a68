"""What spec_text writes is YAML that reads back as the same values, whatever they hold; so do converted workflows."""

from __future__ import annotations

import json
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import SpecError
from shared.spec.document import read_document
from shared.spec.parameters import substitute
from shared.spec.write import spec_text
from tests.shared.spec.cloudbuild.test_flags import FINISH, START, workflow
from tests.shared.spec.reading import read_spec, read_text

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    [
        "",
        ".",
        "-",
        "a: b",
        "# c",
        "yes",
        "null",
        "1",
        "1e3",
        "0x1",
        "10s",
        "${a}",
        "$${a}",
        "$$${a",
        "'",
        '"',
        "a\\nb",
        "~",
    ]
)
KEYS = TEXTS.filter(lambda key: key != "parameters")
LISTS = st.lists(TEXTS | st.integers(0, 99), max_size=3).map(tuple)
MAPPINGS = st.dictionaries(KEYS, TEXTS | st.booleans() | st.integers(-99, 99) | LISTS, max_size=4)
DOCUMENTS = st.dictionaries(
    KEYS, TEXTS | MAPPINGS | LISTS | st.lists(MAPPINGS.filter(bool), min_size=1, max_size=2).map(tuple), max_size=4
)


def read(text: str) -> Any:
    document = read_document(text)
    assert document.problems == []
    data, problems = substitute(document.data, {})
    assert problems == []
    return data


@settings(max_examples=300)
@given(DOCUMENTS.filter(bool), st.lists(TEXTS, max_size=2))
def test_what_is_written_reads_back(data: dict[str, Any], comments: list[str]) -> None:
    text = spec_text(data, tuple(comments))
    assert read(text) == data
    yaml.safe_load(text)  # other readers take it as well


def test_it_reads_as_a_person_would_write_it() -> None:
    data = {"name": "x", "steps": ({"name": "a", "inputs": {"env": {"A": "1", "B": "b c"}}},), "zones": ("z",), "o": {}}
    assert spec_text(data, ("From w.",)) == (
        '# From w.\nname: x\nsteps:\n- name: a\n  inputs:\n    env:\n      A: "1"\n      B: "b c"\nzones: [z]\no: {}\n'
    )


EVERY_FLAG = [
    *("-image-family=fam", "-labels=a=1,b=", "-inherit-labels", "-licenses=projects/p/global/licenses/l"),
    *("-disk-size-gb=20", "-oem-size=40960", "-gpu-type=nvidia-l4", "-network=n", "-timeout=1h1m0.5s"),
    *("-image-project=other-project", "-sbom-input-path=a b", "-sbom-output-path=gs://bucket/x"),
    *("-deprecate-old-images", "-old-image-ttl=86400"),
]
FLAGS = st.lists(st.sampled_from(EVERY_FLAG), unique=True)
STEPS = st.lists(
    st.tuples(st.just("run-script"), st.just("-script=a.sh"), TEXTS.map(lambda text: f"-env=A={text}"))
    | st.sampled_from([("seal-oem",), ("disable-auto-update",), ("install-gpu", "-version=450.51.06")]),
    max_size=3,
)


@settings(max_examples=150, deadline=None)
@given(STEPS, FLAGS)
def test_converted_workflow_is_the_same_spec(steps: list[tuple[str, ...]], flags: list[str]) -> None:
    text = workflow(START, *steps, (*FINISH, *flags))
    try:
        (build,) = read_text(text, "cloudbuild.yaml")
    except SpecError:
        return
    assert read_spec(spec_text(build.data, build.notes), "spec.yaml") == build.spec


def test_every_flag_converts() -> None:
    """The property above passes over workflows that are wrong, so that one with everything is tried as well."""
    text = workflow(START, ("run-script", "-script=a.sh", "-env=A=$${x}"), ("seal-oem",), (*FINISH, *EVERY_FLAG))
    (build,) = read_text(text, "cloudbuild.yaml")
    assert build.spec.steps[0].inputs["env"] == {"A": "${x}"}
    assert read_spec(spec_text(build.data), "spec.yaml") == build.spec
    assert json.loads(json.dumps(build.data))["output"]["disk_size_gb"] == 20
