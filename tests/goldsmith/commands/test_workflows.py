"""A cloudbuild.yaml on the command line: converted, validated, planned, and the order of its builds."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.clock import SystemClock
from shared.images.catalogue import Catalogue
from tests.goldsmith.command_line import Commands
from tests.shared.spec.reading import load_spec

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "cos-customizer" / "cloudbuild.yaml"
ONE = """\
steps:
- name: gcr.io/cos-cloud/cos-customizer
  args: [start-image-build, -image-project=$PROJECT_ID, -image-name=one, -gcs-bucket=b, -gcs-workdir=w-$BUILD_ID]
- name: gcr.io/cloud-builders/git
  args: [clone, x]
- name: gcr.io/cos-cloud/cos-customizer
  args: [run-script, -script=a.sh]
- name: gcr.io/cos-cloud/cos-customizer
  args: [finish-image-build, -project=$PROJECT_ID, -zone=us-west1-b, -image-name=$_NAME]
"""
OTHERS = """\
- name: cos-customizer
  args: [start-image-build, -image-project=local, -image-name=made, -gcs-bucket=b, -gcs-workdir=w]
- {name: cos-customizer, args: [finish-image-build, -project=local, -zone=us-west1-b, -image-name=second]}
- name: cos-customizer
  waitFor: ['-']
  id: aside
  args: [-local-state-workdir=x, start-image-build, -image-project=local, -image-name=gone, -gcs-bucket=b,
         -gcs-workdir=w]
- name: cos-customizer
  waitFor: [aside]
  args: [-local-state-workdir=x, finish-image-build, -project=local, -zone=us-west1-b, -image-name=third]
"""
LAST = """\
- name: cos-customizer
  args: [start-image-build, -image-project=local, -image-name=one, -gcs-bucket=b, -gcs-workdir=w]
- {name: cos-customizer, args: [finish-image-build, -project=local, -zone=us-west1-b, -image-name=last]}
"""
NAMED = "substitutions: {_NAME: made}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "a.sh").write_text("true\n")
    (tmp_path / "work" / "cloudbuild.yaml").write_text(ONE + NAMED)
    return tmp_path / "work"


def add_image(home: Path, tmp_path: Path, name: str) -> None:
    disk = tmp_path / f"{name}.raw"
    with disk.open("wb") as file:
        file.truncate(4 << 20)
    Catalogue(home, SystemClock()).add(disk, name, transfer="move")


def test_convert_prints_a_spec_that_is_good(run: Commands, folder: Path) -> None:
    done = run("convert", folder / "cloudbuild.yaml")
    note = f"{folder}/cloudbuild.yaml:4:3: steps[1]: not taken over: 'gcr.io/cloud-builders/git' is not run; files that"
    assert done.status == 0
    assert done.err.startswith(f"goldsmith: {note}")
    assert done.out.startswith(f"# From cloudbuild.yaml.\n# {note}")
    (folder / "spec.yaml").write_text(done.out)
    spec = load_spec(folder / "spec.yaml")
    assert (spec.name, spec.source.project, spec.build.project) == ("made", "local", "local")
    assert run("convert", folder / "cloudbuild.yaml").out == done.out
    assert run("convert", EXAMPLE).status == 0


def test_convert_takes_values(run: Commands, folder: Path) -> None:
    done = run("convert", folder / "cloudbuild.yaml", "--set", "_NAME=other", "--set", "PROJECT_ID=my-project")
    assert "\nname: other\nsource:\n  project: my-project\n" in done.out
    wrong = run("convert", folder / "cloudbuild.yaml", "--set", "_NMAE=other")
    assert (wrong.status, wrong.out) == (2, "")
    assert "a value is given for '_NMAE', which the workflow neither declares nor uses; it knows _NAME" in wrong.err


def test_convert_writes_files_that_find_the_context_again(run: Commands, folder: Path, tmp_path: Path) -> None:
    (folder / "cloudbuild.yaml").write_text(ONE + OTHERS + NAMED)
    done = run("convert", "--source", folder, folder / "cloudbuild.yaml", "--output", tmp_path / "new" / "specs")
    names = ["made", "second", "third"]
    assert done.out == "".join(f"{tmp_path}/new/specs/{name}.yaml\n" for name in names)
    texts = [(tmp_path / "new" / "specs" / f"{name}.yaml").read_text() for name in names]
    assert "# From cloudbuild.yaml, image 2 of 3.\n# Comes after made: build it when that has succeeded.\n" in texts[1]
    assert load_spec(tmp_path / "new" / "specs" / "made.yaml").context == "../../work"
    again = run("convert", "--source", folder, folder / "cloudbuild.yaml", "--output", tmp_path / "new" / "specs")
    assert (again.status, again.out) == (2, "")
    assert "made.yaml exists already; remove it, or choose another folder" in again.err
    printed = run("convert", folder / "cloudbuild.yaml").out
    assert [part.split("\n")[0] for part in printed.split("---\n")] == [text.split("\n")[0] for text in texts]


def test_convert_says_where_a_spec_has_no_build_id(run: Commands, folder: Path) -> None:
    (folder / "cloudbuild.yaml").write_text(ONE + "substitutions: {_NAME: x}\n")
    assert "BUILD_ID" not in run("convert", folder / "cloudbuild.yaml").err
    (folder / "cloudbuild.yaml").write_text(ONE.replace("$_NAME", "x-$BUILD_ID"))
    assert "a spec has no BUILD_ID: " in run("convert", folder / "cloudbuild.yaml").err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "{name: x, source: {project: local, family: f}, steps: []}",
            "is neither a Cloud Build workflow nor of diskimage-builder or Packer; check a spec with",
        ),
        (
            ONE.replace("finish-image-build", "finish"),
            ":9:10: steps[3].args[0]: 'finish' is no subcommand; write one of: start",
        ),
        ("steps: [", "spec: is not YAML"),
    ],
)
def test_what_cannot_be_converted_is_2(run: Commands, folder: Path, text: str, said: str) -> None:
    (folder / "cloudbuild.yaml").write_text(text)
    done = run("convert", folder / "cloudbuild.yaml")
    assert (done.status, done.out) == (2, "")
    assert said in done.err


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (ONE + NAMED, True),
        ("{name: x, source: {project: local, family: f}, steps: [{name: a, action: run-script}]}", False),
        ("{name: x, steps: []}", False),
        ("steps: [", False),
        ("\xff", False),
    ],
)
def test_only_of_a_workflow_it_is_said_from_where_it_is_built(
    run: Commands, folder: Path, text: str, *, told: bool
) -> None:
    (folder / "cloudbuild.yaml").write_bytes(text.encode("latin-1"))
    done = run("validate", folder / "cloudbuild.yaml")
    assert (done.status, done.out) == (2, "")
    said = f"{folder / 'cloudbuild.yaml'} is a workflow, built from the current folder; --source FOLDER names another"
    assert (said in done.err) is told
    assert ("current folder" in done.err) is told


def test_validate_looks_at_the_context(run: Commands, folder: Path) -> None:
    """run-script -script must be in the context of start-image-build -build-context."""
    assert (
        run("validate", "--source", folder, folder / "cloudbuild.yaml").out
        == f"{folder}/cloudbuild.yaml: good: made, 1 step\n"
    )
    text = (folder / "cloudbuild.yaml").read_text()
    (folder / "cloudbuild.yaml").write_text(text.replace("-gcs-bucket=b", "-build-context=lib, -gcs-bucket=b"))
    done = run("validate", "--source", folder, folder / "cloudbuild.yaml")
    assert (done.status, done.out) == (2, "")
    assert f":3:74: steps[0] -build-context: {folder}/lib does not exist; write the path of a folder" in done.err
    (folder / "cloudbuild.yaml").write_text(text.replace("-script=a.sh", "-script=b.sh"))
    (line,) = run("validate", "--source", folder, folder / "cloudbuild.yaml").err.splitlines()
    assert ":7:22: steps[2] -script: 'b.sh' is not in the context" in line
    assert line.endswith("; did you mean a.sh?")


def test_plan_of_one_and_of_several(run: Commands, folder: Path, tmp_path: Path) -> None:
    add_image(run.home, tmp_path, "one")
    plan = run("plan", "--source", folder, folder / "cloudbuild.yaml", "--json").document()
    assert (plan["name"], plan["source"]["name"], plan["machine"]["project"]) == ("made", "one", "local")
    (folder / "cloudbuild.yaml").write_text(ONE + OTHERS + NAMED)
    early = run("plan", "--source", folder, folder / "cloudbuild.yaml")
    assert early.status == 2
    assert "project local has no image made; did you" in early.err or "has no image made" in early.err
    assert early.err.endswith("; second comes after made: plan it when that is built\n")
    add_image(run.home, tmp_path, "gone")
    text = (folder / "cloudbuild.yaml").read_text().replace("-image-name=made,", "-image-name=one,")
    (folder / "cloudbuild.yaml").write_text(text)
    plans = run("plan", "--source", folder, folder / "cloudbuild.yaml", "--json").document()
    assert [plan["name"] for plan in plans] == ["made", "second", "third"]
    assert run("plan", "--source", folder, folder / "cloudbuild.yaml").out.count("image:") == 3


def test_context_may_be_a_single_file(run: Commands, folder: Path) -> None:
    """start-image-build -build-context: a file or a folder."""
    text = (ONE + NAMED).replace("-gcs-bucket=b", "-build-context=a.sh, -gcs-bucket=b")
    (folder / "cloudbuild.yaml").write_text(text)
    assert run("validate", "--source", folder, folder / "cloudbuild.yaml").status == 0
    (folder / "cloudbuild.yaml").write_text(text.replace("-script=a.sh", "-script=cloudbuild.yaml"))
    assert (
        "steps[2] -script: 'cloudbuild.yaml' is not in the context"
        in run("validate", "--source", folder, folder / "cloudbuild.yaml").err
    )


def test_installer_has_to_be_among_the_dependencies(run: Commands, folder: Path) -> None:
    """install-gpu -version=NVIDIA-Linux-*.run: -deps-dir must hold it."""
    name = "NVIDIA-Linux-x86_64-450.51.06.run"
    gpu = f"[install-gpu, -version={name}, -deps-dir=deps]"
    (folder / "cloudbuild.yaml").write_text((ONE + NAMED).replace("[run-script, -script=a.sh]", gpu))
    missing = run("validate", "--source", folder, folder / "cloudbuild.yaml")
    assert missing.status == 2
    assert "steps[2] -deps-dir: 'deps' is not in the context" in missing.err
    (folder / "deps").mkdir()
    assert (
        f"steps[2] -version: 'deps/{name}' is not in the context"
        in run("validate", "--source", folder, folder / "cloudbuild.yaml").err
    )
    (folder / "deps" / name).touch()
    assert run("validate", "--source", folder, folder / "cloudbuild.yaml").status == 0


@pytest.mark.parametrize("source", ["-image-name=cos-stable-68-10718-86-0", "-image-milestone=68"])
def test_projects_of_an_unchanged_workflow_stand_for_this_machine(
    run: Commands, folder: Path, tmp_path: Path, source: str
) -> None:
    """start-image-build -image-project, -image-name, -image-milestone; finish-image-build -image-project, -project."""
    add_image(run.home, tmp_path, "cos-stable-68-10718-86-0")
    text = ONE.replace("-image-project=$PROJECT_ID, -image-name=one", f"-image-project=cos-cloud, {source}")
    (folder / "cloudbuild.yaml").write_text(text.replace("-project=$PROJECT_ID", "-project=my-project") + NAMED)
    done = run("plan", "--source", folder, folder / "cloudbuild.yaml", "--json")
    plan = done.document()
    assert (plan["source"]["project"], plan["source"]["name"]) == ("local", "cos-stable-68-10718-86-0")
    assert (plan["image"]["project"], plan["machine"]["project"]) == ("local", "local")
    said = "on this machine its own images stand for those of cos-cloud, my-project"
    assert said in done.err
    assert said not in run("validate", "--source", folder, folder / "cloudbuild.yaml").err


def test_what_waits_for_a_failed_build_is_not_begun(run: Commands, folder: Path) -> None:
    (folder / "cloudbuild.yaml").write_text(ONE + OTHERS + LAST + NAMED)
    done = run("build", "--source", folder, folder / "cloudbuild.yaml")
    assert (done.status, done.out) == (2, "")
    assert [line.split(": ")[:3] for line in done.err.splitlines()[1:]] == [
        ["goldsmith", "made", "source.image"],
        ["goldsmith", "second is not built", "it comes after made, which did not succeed"],
        ["goldsmith", "third", "source.image"],
        ["goldsmith", "last is not built", "it comes after made, second, third, which did not succeed"],
    ]


def test_project_has_to_be_known_to_submit(run: Commands, folder: Path) -> None:
    done = run("submit", "--source", folder, folder / "cloudbuild.yaml")
    assert (done.status, done.out) == (2, "")
    assert "which project builds it is said nowhere; add --project ID" in done.err
