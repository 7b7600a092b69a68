"""Cloud Build's substitutions in workflows: references, defaults, values from outside, bash's expansions."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import SpecError
from shared.spec.cloudbuild.bash_expansions import ExpansionError, expand
from shared.spec.cloudbuild.substitutions import BUILT_IN, UNKNOWN_SUBSTITUTIONS
from tests.shared.spec.cloudbuild.test_flags import FINISH, START, workflow
from tests.shared.spec.reading import read_text

BUILTIN = {"PROJECT_ID": "my-project", "BUILD_ID": "0000"}


def env(text: str, overrides: dict[str, str] | None = None, **more: Any) -> str:
    """Return what a text in -env becomes."""
    script = ("run-script", "-script=a.sh", f"-env=A={text}")
    (build,) = read_text(workflow(START, script, FINISH, **more), "w", overrides or {}, builtin=BUILTIN)
    value: str = build.spec.steps[0].inputs["env"]["A"]
    return value


def fault(text: str, overrides: dict[str, str] | None = None, **more: Any) -> str:
    with pytest.raises(SpecError) as caught:
        env(text, overrides, **more)
    (problem,) = caught.value.problems
    return re.sub(r"^w:\d+:\d+: ", "", problem)


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("$PROJECT_ID", "my-project"),
        ("${PROJECT_ID}_cloudbuild", "my-project_cloudbuild"),
        ("a-$BUILD_ID-b", "a-0000-b"),
        ("$_A$_B", "onetwo"),
        ("${_A}B$_B.", "oneBtwo."),
        ("$$_A $$$_A $${_A} $$$$", "$_A $one ${_A} $$"),
        ("$COMMIT_SHA|$TAG_NAME|", "||"),
        ("$a $ $1 ${} ${a}", "$a $ $1 ${} ${a}"),
        ("$_C", "$_A"),
    ],
)
def test_references(text: str, result: str) -> None:
    """Go on to the end of the name; values are not looked at again; what is no reference stays."""
    assert env(text, substitutions={"_A": "one", "_B": "two", "_C": "$_A"}) == result


def test_every_built_in_is_empty_unless_it_is_given() -> None:
    names = [name for name in BUILT_IN if name not in UNKNOWN_SUBSTITUTIONS]
    text = "".join(f"{name}=${{{name}}};" for name in names)
    assert env(text) == "".join(f"{name}={BUILTIN.get(name, '')};" for name in names)


@pytest.mark.parametrize("name", UNKNOWN_SUBSTITUTIONS)
def test_a_built_in_without_a_value_here_has_to_be_given(name: str) -> None:
    assert f"'${name}' is not known here; write its value out, or give it: --set {name}=..." in fault(f"${name}")
    assert env(f"${name}", {name: "12"}) == "12"


def test_values_from_outside_win() -> None:
    assert env("$_A $PROJECT_ID", {"_A": "2", "PROJECT_ID": "other"}, substitutions={"_A": "1"}) == "2 other"
    assert env("$_A", {"_A": "2"}) == "2"
    assert env("x", {"_A": "2"}, substitutions={"_A": "1"}) == "x"


def test_values_from_outside_that_mean_nothing() -> None:
    said = fault("x", {"_RELESE": "2"}, substitutions={"_RELEASE": "1"})
    assert said == (
        "substitutions: a value is given for '_RELESE', which the workflow neither declares nor uses; it knows _RELEASE"
    )
    assert "a value is given for 'release'; substitutions have names such as _RELEASE" in fault("x", {"release": "2"})
    assert "a value is given for 'BUILD_ID', of which every request has its own; leave it out" in fault(
        "x", {"BUILD_ID": "2"}
    )


def test_undeclared_names_are_faults_unless_loose() -> None:
    loose = {"options": {"substitutionOption": "ALLOW_LOOSE"}}
    assert env("$_A|$USER|", **loose) == "||"
    assert env("$_A|", options={"substitution_option": "ALLOW_LOOSE"}) == "|"
    assert "'$_A' is declared nowhere; declare it under substitutions" in fault("$_A")
    assert "'$_RELESE' is declared nowhere; did you mean _RELEASE?" in fault("$_RELESE", substitutions={"_RELEASE": ""})


def test_images_and_folders_take_part() -> None:
    steps = [
        {"name": "gcr.io/$_P/cos-customizer", "args": START, "dir": "${_P}"},
        {"name": "gcr.io/$_P/cos-customizer:$_P", "args": FINISH},
        {"name": "$_P", "args": ["$UNKNOWN"]},
    ]
    (build,) = read_text(json.dumps({"steps": steps, "substitutions": {"_P": "p"}, "timeout": "10s"}), "w")
    assert build.spec.context == "p"
    assert "steps[2]: not taken over: 'p' is not run" in build.notes[0]


def test_growth_is_bounded() -> None:
    args = ["run-script", "-script=a.sh", "-env=A=" + "$_A" * 2000]
    with pytest.raises(SpecError, match="makes the workflow longer than 4194304 characters"):
        read_text(workflow(START, tuple(args), FINISH, substitutions={"_A": "x" * 4000}), "w")


VALUES = {"A": "Hello-World", "B": "", "C": "feature/some-branch", "D": "1.2.3.4"}


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("$A", "Hello-World"),
        ("${A}x", "Hello-Worldx"),
        ("${B:-none}", "none"),
        ("${B:-${A}}", "Hello-World"),
        ("${A:-none}", "Hello-World"),
        ("${X:-none}", "none"),
        ("${B:=x}", "x"),
        ("${A^^}", "HELLO-WORLD"),
        ("${A,,}", "hello-world"),
        ("${A,}", "hello-World"),
        ("${C^}", "Feature/some-branch"),
        ("${#A}", "11"),
        ("${A:6}", "World"),
        ("${A:0:5}", "Hello"),
        ("${A: -5}", "World"),
        ("${C##*/}", "some-branch"),
        ("${C#*/}", "some-branch"),
        ("${D#*.}", "2.3.4"),
        ("${D##*.}", "4"),
        ("${D%.*}", "1.2.3"),
        ("${D%%.*}", "1"),
        ("${D/./-}", "1-2.3.4"),
        ("${D//./-}", "1-2-3-4"),
        ("${C//[a-f]/_}", "___tur_/som_-_r_n_h"),
        ("${C/$B/x}", "feature/some-branch"),
        ("$$A $ a$", "$A $ a$"),
    ],
)
def test_expansions(text: str, result: str) -> None:
    assert expand(text, lambda name: VALUES.get(name, "")) == result


@pytest.mark.parametrize(
    "text", ["${A", "${A:-${B}", "${}", "${A@Q}", "${A:x}", "${A^a}", "${!A}", "${A:-" * 12 + "}" * 12, "$A" * 400]
)
def test_no_expansions(text: str) -> None:
    with pytest.raises(ExpansionError):
        expand(text, lambda name: VALUES.get(name, ""))


@given(st.text(alphabet="${}A:-#%/^,*?[]a1", max_size=24))
def test_expanding_ends_and_raises_nothing_else(text: str) -> None:
    done = True
    try:
        expand(text, lambda name: VALUES.get(name, ""))
    except ExpansionError:
        done = False
    assert done in (True, False)


def test_patterns_on_long_values_are_refused() -> None:
    with pytest.raises(ExpansionError, match="compares patterns with too long a value"):
        expand("${A//*a*b/x}", lambda name: "a" * 4000)
    assert expand("${A//a/b}", lambda name: "a" * 4000) == "b" * 4000


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ({f"_A{number}": "" for number in range(201)}, "substitutions: has more than 200 entries"),
        ({"_A": "x" * 4001}, "substitutions._A: is longer than 4000 characters; write less"),
    ],
)
def test_more_than_cloud_build_takes_is_refused(written: dict[str, str], said: str) -> None:
    assert fault("x", substitutions=written).startswith(said)


def test_long_chains_of_declared_values_are_refused() -> None:
    chain = {f"_A{number}": f"$_A{number + 1}" for number in range(200)}
    with pytest.raises(SpecError, match="refers to another that refers to another, more than 50 times; write it out"):
        env("x", substitutions=chain, options={"dynamicSubstitutions": True})


def test_declared_values_refer_to_others_when_dynamic() -> None:
    written = {"_IMAGE": "${_NAME^^}-$PROJECT_ID", "_NAME": "${_BASE:-Web}", "_BASE": ""}
    dynamic = {"dynamicSubstitutions": True}
    assert env("$_IMAGE", substitutions=written, options=dynamic) == "WEB-my-project"
    assert env("$_IMAGE", {"_BASE": "Api"}, substitutions=written, options=dynamic) == "API-my-project"
    assert env("$_IMAGE", substitutions=written) == "${_NAME^^}-$PROJECT_ID"
