"""goldsmith triggers: what is kept, and what cron would read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from goldsmith.commands.build import BuildFlags
from goldsmith.commands.held import HoldFlags
from shared.build.plan import SpecPlace
from shared.context.packing import NOTICED_LIMIT
from shared.runtime.one_machine import open_one_machine
from tests.goldsmith.command_line import Commands

SPEC = """\
name: hello
source: {project: local, family: nothing}
steps: []
"""


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "hello.yaml"
    path.write_text(f"{SPEC}triggers: {{source_changed: true, every: 7d}}\n")
    return path


def test_a_spec_is_added_listed_and_removed(run: Commands, spec: Path) -> None:
    assert run("triggers", "list").out == "none\n"
    assert run("triggers", "run").out == "nothing is due\n"
    for _ in range(2):
        done = run("triggers", "add", spec)
        assert (done.status, done.err) == (0, "")
        assert done.out.endswith("then every 7d and for each new source image\n")
    [listed] = run("triggers", "list", "--json").document()
    assert (listed["spec"], listed["every"], listed["source_changed"]) == (str(spec), 604800, True)
    assert run("triggers", "list").out.splitlines()[1].startswith("hello  every 7d and for each new source image  now")
    assert run("triggers", "resume", spec).out == f"{spec} is built by itself again\n"
    assert run("triggers", "remove", spec).status == 0
    assert run("triggers", "list").out == "none\n"
    for word in ("resume", "remove"):
        assert run("triggers", word, spec).status == 2
    again = run("triggers", "remove", spec)
    assert (again.status, again.out) == (2, "")
    assert "has not been added; see: goldsmith triggers list" in again.err


def test_a_source_that_is_not_there_is_said_each_time(run: Commands, spec: Path, home: Path) -> None:
    run("triggers", "add", spec)
    for _ in range(2):
        done = run("triggers", "run")
        assert (done.status, done.out) == (2, "")
        assert "hello: source.family: project local has no active image in family nothing" in done.err
    with open_one_machine(home) as backend:
        assert list(backend.store.builds()) == []


def test_a_spec_has_one_place_however_it_is_called(run: Commands, spec: Path) -> None:
    (spec.parent / "below").mkdir()
    run("triggers", "add", spec)
    run("triggers", "add", spec.parent / "below" / ".." / spec.name)
    assert [each["spec"] for each in run("triggers", "list", "--json").document()] == [str(spec)]
    link = spec.parent / "current.yaml"
    link.symlink_to(spec)
    run("triggers", "add", link)
    assert str(link) in [each["spec"] for each in run("triggers", "list", "--json").document()], "it may be moved on"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (SPEC, "triggers: is missing; write when the spec is built, such as {every: 7d}"),
        (f"{SPEC}triggers: {{}}\n", ":4:1: triggers: says nothing that the spec is built again for"),
        (f"{SPEC}triggers: {{every: 5m}}\n", ":4:12: triggers.every: '5m' is out of range; write 1h at least"),
        (f"{SPEC}triggers: {{evry: 7d}}\n", ":4:12: triggers.evry: "),
        (
            f"{SPEC}triggers: {{every: 7d}}\noutput: {{name: one}}\n",
            ":5:10: output.name: is the same each time that triggers build the spec again; leave it out",
        ),
        (
            f"{SPEC}triggers: {{every: 7d}}\noutput: {{name_suffix: -one}}\n",
            "output.name_suffix: is the same each time that triggers",
        ),
    ],
)
def test_bad_input_is_2_and_keeps_nothing(run: Commands, spec: Path, text: str, told: str) -> None:
    spec.write_text(text)
    done = run("triggers", "add", spec)
    assert (done.status, done.out) == (2, "")
    assert told in done.err
    assert run("triggers", "list").out == "none\n"


def test_a_spec_that_is_gone_keeps_no_others_waiting(run: Commands, spec: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(spec.read_text().replace("hello", "other"))
    run("triggers", "add", spec)
    run("triggers", "add", other)
    spec.unlink()
    done = run("triggers", "run")
    assert done.status == 2
    assert "hello.yaml: the spec cannot be read" in done.err
    assert "other: source.family" in done.err


def test_a_workflow_has_no_triggers(run: Commands, tmp_path: Path) -> None:
    path = tmp_path / "cloudbuild.yaml"
    path.write_text(
        "steps:\n- name: gcr.io/cos-cloud/cos-customizer\n  args: [start-image-build, -image-name=cos-1, "
        "-image-project=cos-cloud, -gcs-bucket=b, -gcs-workdir=w]\n- name: gcr.io/cos-cloud/cos-customizer\n"
        "  args: [finish-image-build, -zone=us-west1-b, -project=p, -image-name=one, -image-project=p]\n"
    )
    done = run("triggers", "add", path)
    assert (done.status, done.out) == (2, "")
    assert "is a workflow, which has no triggers" in done.err


def test_a_changed_file_of_the_context_is_a_changed_spec(run: Commands, tmp_path: Path, home: Path) -> None:
    spec, context = tmp_path / "hello.yaml", tmp_path / "files"
    context.mkdir()
    (context / "one").write_text("one")
    spec.write_text(f"{SPEC}context: files\ntriggers: {{spec_changed: true}}\n")

    def digest() -> str:
        assert run("triggers", "add", spec).status == 0
        return str(run("triggers", "list", "--json").document()[0]["digest"])

    first = digest()
    assert digest() == first
    (context / "one").write_text("two")
    assert digest() != first
    (context / "one").write_text("one")
    assert digest() == first
    with (context / "large").open("wb") as file:
        file.truncate(NOTICED_LIMIT)
    done = run("triggers", "add", spec)
    assert done.status == 0
    assert "its context is larger than 1G; changes of files there are not noticed by themselves" in done.err


def test_builds_of_a_spec_with_triggers_tell_which_spec_they_are_of(tmp_path: Path) -> None:
    place = SpecPlace(str(tmp_path / "hello.yaml"), {"release": "2"})
    plain = BuildFlags(None, None, None, place=place)
    assert plain.request_key == BuildFlags(None, None, None, anew=True, place=place).request_key != ""
    other = replace(plain, place=replace(place, parameters={}))
    assert other.request_key != plain.request_key
    for wanted in (
        BuildFlags(tmp_path, None, None, place=place),
        BuildFlags(None, None, None, check=True, place=place),
        BuildFlags(None, None, None, first="one", place=place),
        BuildFlags(None, None, None, hold=HoldFlags(kept=60.0), place=place),
        BuildFlags(None, None, None),
    ):
        assert wanted.request_key == ""
