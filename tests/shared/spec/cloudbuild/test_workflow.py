"""Cloud Build workflows as a whole: which ones they are, what is not taken over, several builds, their order, names."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import SpecError
from shared.spec.cloudbuild.workflow import is_customizer, is_workflow
from shared.spec.document import Problem, read_document
from shared.spec.read import SpecBuild, parse, read_specs
from tests.shared.spec.cloudbuild.test_flags import CUSTOMIZER, FINISH, START, workflow
from tests.shared.spec.reading import read_spec, read_text

SCRIPT = ("run-script", "-script=preload.sh")
OTHER = {"name": "gcr.io/cloud-builders/gsutil", "args": ["cp", "gs://b/preload.sh", "."]}


def step(*args: str, **more: Any) -> dict[str, Any]:
    return {"name": CUSTOMIZER, "args": args, **more}


def builds_of(*steps: dict[str, Any], **more: Any) -> tuple[SpecBuild, ...]:
    return read_text(json.dumps({"steps": steps, **more}, indent=0), "dir/cloudbuild.yaml")


def finish(name: str) -> tuple[str, ...]:
    return (*FINISH[:-1], f"-image-name={name}")


def problems(text: str, **overrides: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        read_text(text, "w", overrides)
    return [problem.removeprefix("w:") for problem in caught.value.problems]


@pytest.mark.parametrize(
    "image",
    [
        "cos-customizer",
        "gcr.io/cos-cloud/cos-customizer",
        "gcr.io/cos-cloud/cos-customizer:v20231201",
        "us-docker.pkg.dev/p/r/cos_customizer@sha256:" + "0" * 64,
        "localhost:5000/cos_customizer:latest@sha256:" + "0" * 64,
        "bazel:cos_customizer",
    ],
)
def test_customizer_by_any_name(image: str) -> None:
    assert is_customizer(image)


@pytest.mark.parametrize(
    "image", ["", "ubuntu:cos-customizer", "cos-customizer/gcloud", "my-cos-customizer", "bazel:x"]
)
def test_other_images_are_not_taken_for_it(image: str) -> None:
    assert not is_customizer(image)


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("steps: [{name: gcr.io/cos-cloud/cos-customizer}]", True),
        ("steps: [{name: cos-customizer, args: [run-script]}]", True),
        ("steps: [{name: bash, script: ls}]\ntimeout: 10s", True),
        ("name: x\nsteps: [{name: a, action: reboot}]", False),
        ("source: {project: p}\nsteps: [{name: gcr.io/x, args: []}]", False),
        ("steps: []", False),
        ("steps: [a]", False),
        ("[]", False),
        ("", False),
    ],
)
def test_workflows_are_known_by_their_shape(text: str, is_one: bool) -> None:
    assert is_workflow(read_document(text).data) is is_one


def test_a_spec_reads_as_one_build() -> None:
    text = "name: x\nsource: {project: local, family: f}\nsteps: []\nparameters: {a: '1'}\ndescription: ${a}"
    (build,) = read_text(text, "spec.yaml", {"a": "2"})
    assert build.spec == read_spec(text, "spec.yaml", {"a": "2"})
    assert (build.after, build.notes) == ((), ())
    with pytest.raises(SpecError, match="names its image in 2 ways"):
        read_text(text.replace("family: f", "family: f, image: i"), "spec.yaml")


def test_other_containers_are_listed_with_their_lines() -> None:
    (build,) = builds_of(OTHER, step(*START), step(*SCRIPT), step(*FINISH), {**OTHER, "name": "ubuntu"}, images=["a"])
    assert [note.split(": ", 1)[1] for note in build.notes] == [
        "steps[0]: not taken over: 'gcr.io/cloud-builders/gsutil' is not run; "
        "files that it makes for the build have to be there already",
        "steps[4]: not taken over: 'ubuntu' is not run",
        "images: not taken over: what it names is not stored",
    ]
    assert [note.split(": ")[0] for note in build.notes] == [
        "dir/cloudbuild.yaml:3:1",
        "dir/cloudbuild.yaml:37:1",
        "dir/cloudbuild.yaml:46:1",
    ]


def test_keys_without_effect_on_its_steps_are_listed() -> None:
    (build,) = builds_of(
        step(*START, volumes=[{"name": "v", "path": "/v"}]), step("help"), step(*FINISH, allow_failure=True)
    )
    assert [note.split(": ", 1)[1] for note in build.notes] == [
        "steps[0].volumes: not taken over: it has no effect here",
        "steps[1]: not taken over: it only prints",
        "steps[2].allow_failure: not taken over: it has no effect here",
    ]


def test_built_ins_without_a_value_are_told() -> None:
    """As on Cloud Build they are empty; what comes of it is easily overlooked, or hard to understand."""
    empty = "steps[1].args[3]: '$SHORT_SHA' is empty; give it with --set SHORT_SHA=..."
    (build,) = builds_of(step(*START), step(*(FINISH[:-1]), "-image-name=a-$SHORT_SHA-b"))
    assert [note.split(": ", 1)[1] for note in build.notes] == [empty]
    with pytest.raises(SpecError) as caught:
        builds_of(step(*START), step(*(FINISH[:-1]), "-image-name=a-$SHORT_SHA"))
    assert [line.split(": ", 1)[1] for line in str(caught.value).splitlines()][1:] == [empty]


def test_references_in_other_containers_are_not_judged() -> None:
    other = {"name": "ubuntu", "args": ["-c", "echo $HOME ${_A:-1} $_B"], "script": "$X"}
    assert len(builds_of(other, step(*START), step(*FINISH))) == 1


def test_timeout_is_the_least_that_is_given() -> None:
    def seconds(own: str, of_step: str | None, whole: str | None) -> float:
        last = step(*FINISH, *([own] if own else []), **({"timeout": of_step} if of_step else {}))
        (build,) = builds_of(step(*START), last, **({"timeout": whole} if whole else {}))
        return build.spec.build.timeout

    assert seconds("", None, None) == 3600
    assert seconds("", None, "1500s") == 1500
    assert seconds("-timeout=10m", None, "1500s") == 600
    assert seconds("-timeout=2h", "4000.2s", "5000s") == 4001
    assert seconds("-timeout=2h", None, None) == 7200
    assert seconds("", None, "7200s") == 3600  # the flag's own default
    assert seconds("", "0s", None) == 3600
    (build,) = builds_of(step(*START), step(*FINISH), timeout="${_T}s", substitutions={"_T": "900"})
    assert build.spec.build.timeout == 900
    told = " ".join(problems(workflow(START, FINISH, timeout="$_T")))
    assert "timeout: '$_T' is declared nowhere; declare it under substitutions" in told


def test_builds_one_after_the_other() -> None:
    first, second = builds_of(step(*START), step(*SCRIPT), step(*finish("one")), step(*START), step(*finish("two")))
    assert [first.spec.name, second.spec.name] == ["one", "two"]
    assert [len(first.spec.steps), len(second.spec.steps)] == [1, 0]
    assert [first.after, second.after] == [(), (0,)]


def test_builds_side_by_side_and_one_after_both() -> None:
    def one(name: str, state: str, **more: Any) -> list[dict[str, Any]]:
        flag = f"-local-state-workdir={state}"
        return [
            step(flag, *START, id=f"{name}-start", **more),
            step(flag, *finish(name), id=name, waitFor=[f"{name}-start"]),
        ]

    steps = [*one("a", "x", waitFor=["-"]), *one("b", "y", wait_for=["-"]), *one("c", "x", waitFor=["a", "b"])]
    assert [(build.spec.name, build.after) for build in builds_of(*steps)] == [("a", ()), ("b", ()), ("c", (0, 1))]


def test_what_its_finish_waits_for_is_what_a_build_comes_after() -> None:
    """The VM is made by finish-image-build; start-image-build only notes what will be done."""
    state = "-local-state-workdir=x"
    first, second = builds_of(
        step(*START),
        step(*finish("one"), id="one"),
        step(state, *START, waitFor=["-"], id="start"),
        step(state, *finish("two"), waitFor=["start", "one"]),
    )
    assert (first.after, second.after) == ((), (0,))


def test_notes_stand_with_the_build_that_they_are_before_the_end_of() -> None:
    first, second = builds_of(
        step(*START), OTHER, step(*finish("one")), step(*START), step(*finish("two")), {"name": "ubuntu", "args": []}
    )
    assert ["gsutil" in note for note in first.notes] == [True]
    assert ["ubuntu" in note for note in second.notes] == [True]


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        (("-image-name=my-image",), "my-image"),
        (("-image-name=" + "a" * 40,), "a" * 32),
        (("-image-suffix=-gs-prod", "-image-name="), "prod"),
        (("-image-name=a-very-long-name-of-an-image-0-that-goes-on",), "a-very-long-name-of-an-image-0-t"),
        (("-image-suffix=-hello",), "hello"),
        (("-image-suffix=-1", "-image-family=fam"), "fam"),
        (("-image-suffix=-1",), "my-workflow"),
    ],
)
def test_name_of_a_build(flags: tuple[str, ...], name: str) -> None:
    (build,) = read_text(workflow(START, (*FINISH[:-1], *flags)), "gs://bucket/specs/My_Workflow.yaml")
    assert build.spec.name == name


def test_names_of_builds_are_unlike() -> None:
    names = ["x" * 40 + "1", "x" * 40 + "2", "x" * 40 + "3"]
    builds = builds_of(*(part for name in names for part in (step(*START), step(*finish(name)))))
    assert [build.spec.name for build in builds] == ["x" * 32, "x" * 30 + "-2", "x" * 30 + "-3"]


def test_names_of_steps() -> None:
    (build,) = builds_of(
        step(*START),
        step("run-script", "-script=lib/preload.sh"),
        step("run-script", "-script=preload.sh"),
        step("run-script", "-script=other.sh", id="Say hello!"),
        step("run-script", "-script=..."),
        step("seal-oem"),
        step(*FINISH),
    )
    assert [each.name for each in build.spec.steps] == ["preload", "preload-2", "Say-hello-", "run-script", "seal-oem"]


@pytest.mark.parametrize(
    ("folder", "context", "deps", "expected"),
    [
        ("", ".", "deps", (".", "deps")),
        ("sub", ".", "deps", ("sub", "../deps")),
        ("sub", "..", "deps", (".", "deps")),
        ("/workspace/sub", "lib", "/workspace/sub/lib/deps", ("sub/lib", "deps")),
        ("", "/workspace/lib", "lib", ("lib", ".")),
    ],
)
def test_paths_start_at_the_folder_of_their_step(
    folder: str, context: str, deps: str, expected: tuple[str, str]
) -> None:
    """start-image-build -build-context, install-gpu -deps-dir: relative to `dir`, which is relative to the source."""
    gpu = step("install-gpu", "-version=450.51.06", f"-deps-dir={deps}")
    steps = [step(*START, f"-build-context={context}", dir=folder), gpu, step(*FINISH)]
    (build,) = builds_of(*steps)
    assert (build.spec.context, build.spec.steps[0].inputs["deps_dir"]) == expected


def test_checks_see_each_build_and_are_told_at_its_flags() -> None:
    text = workflow(START, SCRIPT, finish("one"), START, ("run-script", "-script=x.sh"), finish("two"))
    with pytest.raises(SpecError) as caught:
        read_specs(
            parse(text, "w"), check=lambda data: [Problem(("steps", 0, "inputs", "script"), f"no {data['name']}")]
        )
    assert [problem.split(": ", 1)[1] for problem in caught.value.problems] == [
        "steps[1] -script: no one",
        "steps[4] -script: no two",
    ]


def test_what_cannot_be_told_brings_no_further_problems() -> None:
    """A start-image-build that cannot be read does not leave its build without one."""
    steps = [step(*START) | {"args": {"start-image-build": ""}}, step(*SCRIPT), step(*FINISH)]
    (problem,) = problems(json.dumps({"steps": steps}))
    assert "steps[0].args[0]: needs text, not keys and values" in problem


def test_one_value_stands_for_a_list_of_it() -> None:
    """Every repeated field of Cloud Build's schema, as gcloud takes it: waitFor, args, env, steps, tags."""
    (build,) = builds_of(
        step(*START, id="start", waitFor="-", env="HOME=/x"),
        step(*SCRIPT, id="run", waitFor="start", env=["HOME=/x"]),
        {"name": CUSTOMIZER, "args": "help", "env": "A=1", "wait_for": "run"},
        step(*finish("one"), waitFor="run", env="HOME=/x"),
        tags="nightly",
    )
    assert [made.name for made in build.spec.steps] == ["run"]
    assert is_workflow({"steps": {"name": CUSTOMIZER, "args": ("help",)}})
    assert not is_workflow({"name": "x", "steps": "text"})


def test_home_moves_the_state() -> None:
    env = ["HOME=/x", "A=1"]
    first = [step(*START, env=env), step(*START)]
    assert len(builds_of(*first, step(*finish("a"), env=env), step(*finish("b")))) == 2


def test_number_of_steps_is_bounded() -> None:
    """More would take memory with their square: which has ended before which."""
    (problem,) = problems(json.dumps({"steps": [step(*START)] * 301}))
    assert problem == "1:2: steps: has 301 entries, more than Cloud Build takes; write 300 at most"


def test_merge_keys() -> None:
    """As gcloud reads them: a step's own keys win; problems are reported where a value is written."""
    text = f"""\
options: {{env: [A=1]}}
steps:
- &first
  name: {CUSTOMIZER}
  args: [start-image-build, -image-project=p-123456, -image-family=f, -gcs-bucket=b, -gcs-workdir=w]
- {{<<: *first, args: [run-script, -script=a.sh]}}
- <<: [{{dir: x}}, *first, {{dir: y}}]
  args: [finish-image-build, -project=p-123456, -zone=us-west1-b, -image-name=i]
"""
    (build,) = read_text(text, "w")
    assert [one.name for one in build.spec.steps] == ["a"]
    wrong = text.replace("-image-family=f,", "").replace("[{dir: x}, *first, {dir: y}]", "[*first, x]")
    assert problems(wrong) == [
        "3:3: steps[0]: names no image; write exactly one of -image-name, -image-milestone, -image-family",
        "7:16: steps[2].'<<'[1]: needs a mapping or a list of them, not the text 'x'; write an alias such as *step",
    ]


def test_yaml_and_json_say_the_same() -> None:
    yaml = f"""\
steps:
- name: '{CUSTOMIZER}'
  args: ['start-image-build',
         '-image-name=cos-stable-68-10718-86-0',
         '-image-project=cos-cloud',
         '-gcs-bucket=${{PROJECT_ID}}_cloudbuild',
         '-gcs-workdir=image-build-$BUILD_ID']
- name: '{CUSTOMIZER}'
  args: ['finish-image-build', '-zone=us-west1-b', '-project=$PROJECT_ID', '-image-name=my-custom-image',
         '-image-project=$PROJECT_ID']
timeout: '1500s'
"""
    builtin = {"PROJECT_ID": "my-project", "BUILD_ID": "x"}
    data = read_document(yaml).data
    assert read_text(json.dumps(data), "w", builtin=builtin) == read_text(yaml, "w", builtin=builtin)
    (build,) = read_text(yaml, "w", builtin=builtin)
    assert (build.spec.build.project, build.spec.output.project) == ("my-project", "my-project")


ARGUMENTS = st.one_of(
    st.sampled_from([*START, *SCRIPT, *FINISH, "seal-oem", "install-gpu", "-version=1", "--", "-", "-x", "-env", "$A"]),
    st.text(max_size=8),
    st.integers(),
)
STEPS = st.fixed_dictionaries(
    {"name": st.sampled_from([CUSTOMIZER, CUSTOMIZER, "ubuntu", "$_A"]), "args": st.lists(ARGUMENTS, max_size=8)},
    optional={
        "id": st.sampled_from(["a", "b", "-"]),
        "waitFor": st.lists(st.sampled_from(["a", "b", "-", "c"]), max_size=2),
        "dir": st.sampled_from(["", "..", "/x", 3]),
        "timeout": st.sampled_from(["10s", "x", 1]),
        "env": st.just(["HOME=/x"]),
    },
)


@settings(max_examples=150, deadline=None)
@given(st.lists(STEPS, max_size=6), st.dictionaries(st.sampled_from(["_A", "_B", "x"]), st.text(max_size=6)))
def test_no_workflow_breaks_the_reader(steps: list[Any], substitutions: dict[str, str]) -> None:
    text = json.dumps({"steps": [{"name": CUSTOMIZER}, *steps], "substitutions": substitutions})
    found: tuple[str, ...] = ()
    try:
        read_text(text, "w")
    except SpecError as error:
        found = error.problems
    assert all(problem.startswith("w:") for problem in found)
