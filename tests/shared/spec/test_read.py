"""Loading a spec from a file, with the files that it names."""

import contextlib
import re
import tarfile
from pathlib import Path

import pytest

from shared.errors import InputError, SpecError
from tests.shared.spec.cloudbuild.test_flags import FINISH, START, workflow
from tests.shared.spec.reading import load_spec, load_specs

GOOD = """\
name: hello
source: {project: local, family: debian-12}
steps: []
"""
STEP = """\
name: hello
source: {project: local, family: debian-12}
steps:
  - name: greet
    action: run-script
"""


def write(folder: Path, text: str) -> Path:
    (folder / "spec.yaml").write_text(text)
    return folder / "spec.yaml"


def file_problems(path: Path, text: str) -> list[str]:
    """Return the problems of a spec in `path`, without the file's name, which each must begin with."""
    spec = write(path, text)
    with pytest.raises(SpecError) as caught:
        load_spec(spec)
    assert all(problem.startswith(f"{spec}:") for problem in caught.value.problems)
    return [problem.removeprefix(f"{spec}:").replace(str(path), "DIR") for problem in caught.value.problems]


def test_spec_is_loaded_with_its_files(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files/preload.sh").write_text("true\n")
    path = write(tmp_path, STEP + "    inputs: {script: ./preload.sh}\ncontext: files\n")
    spec = load_spec(path)
    assert spec.steps[0].inputs["script"] == "./preload.sh"
    assert load_specs(path).folder == tmp_path


def test_a_workflow_is_built_from_its_source_wherever_it_lies(tmp_path: Path) -> None:
    """--source, else the current folder, as `gcloud builds submit --config=FILE` has it; a spec knows its own."""
    (tmp_path / "ci").mkdir()
    (tmp_path / "work").mkdir()
    path = tmp_path / "ci/cloudbuild.yaml"
    path.write_text(workflow(START, ("run-script", "-script=preload.sh"), FINISH))
    (tmp_path / "work/preload.sh").write_text("true\n")
    file = load_specs(path, source=tmp_path / "work")
    assert (file.folder, file.parsed.text) == (tmp_path / "work", path.read_text())
    with pytest.raises(SpecError, match=r"'preload\.sh' is not in the context ci;"), contextlib.chdir(tmp_path):
        load_specs(path, source=Path("ci"))
    with contextlib.chdir(tmp_path / "work"):
        assert load_specs(path).folder == Path()
    spec = write(tmp_path, "steps: []\n")
    with pytest.raises(InputError, match=r"--source goes with a Cloud Build workflow; what .* names is beside it"):
        load_specs(spec, source=tmp_path)


def test_missing_spec_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=re.escape(f"{tmp_path}/no.yaml: the spec cannot be read: No such file")):
        load_spec(tmp_path / "no.yaml")
    with pytest.raises(InputError, match="the spec cannot be read: Is a directory; check the path"):
        load_spec(tmp_path)
    with pytest.raises(InputError, match="the spec cannot be read: embedded null byte; check the path"):
        load_spec(tmp_path / "a\0b")


def test_spec_that_is_not_utf_8(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_bytes(b"name: hello\ndescription: caf\xe9\n")
    with pytest.raises(SpecError, match=r"spec\.yaml:2:17: spec: is not UTF-8; save the file as UTF-8"):
        load_spec(tmp_path / "spec.yaml")


def test_spec_that_is_too_long(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_bytes(b"#" * ((1 << 20) + 1))
    with pytest.raises(SpecError, match=r"spec\.yaml:1:1: spec: is longer than 1 MiB"):
        load_spec(tmp_path / "spec.yaml")


def test_files_are_checked_even_when_the_spec_is_wrong(tmp_path: Path) -> None:
    """run-script -script: required, and must exist in the build context."""
    (tmp_path / "preload.sh").write_text("true\n")
    (tmp_path / "files").mkdir()
    text = """\
nam: hello
source: {file: base.raw}
context: .
steps:
  - {name: a, action: run-script, inputs: {script: prelod.sh}}
  - {name: b, action: run-script, inputs: {script: files}}
  - {name: c, action: copy-files, inputs: {source: files, destination: /x}}
verify:
  steps:
    - {name: a, action: copy-files, inputs: {source: etc, destination: /x}}
"""
    assert file_problems(tmp_path, text) == [
        "1:1: nam: unknown key; did you mean name?",
        "1:1: name: is missing; add this key",
        "2:10: source.file: there is no file DIR/base.raw; write a path beside the spec",
        "5:44: steps[0].inputs.script: 'prelod.sh' is not in the context DIR; did you mean preload.sh?",
        "6:44: steps[1].inputs.script: 'files' is a folder; write the path of a file",
        "10:46: verify.steps[0].inputs.source: 'etc' is not in the context DIR; put it there, or name a file in it",
    ]


def test_step_that_needs_a_context(tmp_path: Path) -> None:
    assert file_problems(tmp_path, STEP + "    inputs: {script: a}\n") == [
        "6:14: steps[0].inputs.script: is a file of the context, and the spec has no context; "
        "write context: . for the spec's own folder"
    ]


def test_context_that_is_not_there(tmp_path: Path) -> None:
    assert file_problems(tmp_path, GOOD + "context: files\n") == [
        "4:1: context: DIR/files does not exist; write the path of a folder or tar archive"
    ]
    assert "name too long" in file_problems(tmp_path, GOOD + f"context: {'x' * 300}\n")[0]
    assert "there is no file" in file_problems(tmp_path, f"name: a\nsource: {{file: {'x' * 300}}}\nsteps: []\n")[0]


def test_context_that_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"PK\3\4" + b"x" * 2000)
    (problem,) = file_problems(tmp_path, GOOD + "context: a.zip\n")
    assert problem.startswith("4:1: context: DIR/a.zip is no whole tar archive (")


def test_script_that_is_a_link_out_of_the_context(tmp_path: Path) -> None:
    (tmp_path / "out.sh").symlink_to("/bin/sh")
    assert file_problems(tmp_path, STEP + "    inputs: {script: out.sh}\ncontext: .\n") == [
        "6:14: steps[0].inputs.script: 'out.sh' leads out of the context DIR; write the path of a file in it",
        "7:1: context: 'out.sh' is a link to '/bin/sh', which leads out of the context or in a circle; "
        "copy the file instead",
    ]


@pytest.mark.parametrize("form", ["folder", "archive.tar", "archive.tar.gz", "run.sh"])
def test_scripts_with_the_line_ends_of_windows_are_refused(tmp_path: Path, form: str) -> None:
    text = (
        "name: a\nsource: {project: local, family: f}\nsteps:\n"
        "  - {name: one, action: run-script, inputs: {script: ./run.sh}}\n"
        "  - {name: two, action: run-script, inputs: {script: run.sh}}\n"
    )
    (tmp_path / "folder").mkdir()
    for folder in (tmp_path, tmp_path / "folder"):
        (folder / "run.sh").write_bytes(b"#!/bin/bash\necho one\r\n")
    with (
        tarfile.open(tmp_path / "archive.tar", "w") as plain,
        tarfile.open(tmp_path / "archive.tar.gz", "w:gz") as packed,
    ):
        for archive in (plain, packed):
            archive.add(tmp_path / "folder", ".")
    (problem,) = file_problems(tmp_path, f"{text}context: {form}\n")
    assert problem.startswith("4:46: steps[0].inputs.script: 'run.sh': line 2 ends with CR and LF, as on Windows")


@pytest.mark.parametrize("form", ["folder", "archive.tar", "archive.tar.gz"])
@pytest.mark.parametrize("script", ["soft.sh", "hard.sh", "there/real.sh", "both.sh"])
def test_scripts_that_links_lead_to_are_looked_into(tmp_path: Path, form: str, script: str) -> None:
    text = STEP + f"    inputs: {{script: {script}}}\ncontext: {form}\n"
    folder = tmp_path / "folder"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin/real.sh").write_bytes(b"#!/bin/bash\necho one\r\n")
    (folder / "hard.sh").hardlink_to(folder / "bin/real.sh")
    (folder / "soft.sh").symlink_to("bin/real.sh")
    (folder / "both.sh").symlink_to("./hard.sh")
    (folder / "there").symlink_to("bin")
    with (
        tarfile.open(tmp_path / "archive.tar", "w") as plain,
        tarfile.open(tmp_path / "archive.tar.gz", "w:gz") as packed,
    ):
        for archive in (plain, packed):
            archive.add(folder, ".")
    (problem,) = file_problems(tmp_path, text)
    assert f"steps[0].inputs.script: '{script}': line 2 ends with CR and LF, as on Windows" in problem


def test_context_in_a_bucket_is_not_looked_at(tmp_path: Path) -> None:
    text = STEP + "    inputs: {script: a}\ncontext: gs://bucket/context.tar.gz\n"
    assert load_spec(write(tmp_path, text)).context == "gs://bucket/context.tar.gz"


GPU = "name: a\nsource: {project: local, family: f}\ncontext: .\nsteps:\n  - name: gpu\n    action: install-gpu\n"
INSTALLER = "NVIDIA-Linux-x86_64-450.51.06.run"


def test_deps_dir_must_hold_the_installer(tmp_path: Path) -> None:
    """install-gpu -version NVIDIA-Linux-x86_64-450.51.06.run: -deps-dir is required and must hold it."""
    step = f"{GPU}    inputs: {{version: {INSTALLER}, deps_dir: deps}}\n"
    assert file_problems(tmp_path, step) == [
        "7:58: steps[0].inputs.deps_dir: 'deps' is not in the context DIR; put it there, or name a file in it"
    ]
    (tmp_path / "deps").mkdir()
    (tmp_path / "deps/NVIDIA-Linux-x86_64-450.51.run").write_bytes(b"")
    assert file_problems(tmp_path, step) == [
        f"7:14: steps[0].inputs.version: 'deps/{INSTALLER}' is not in the context DIR; "
        "did you mean deps/NVIDIA-Linux-x86_64-450.51.run?"
    ]
    (tmp_path / "deps" / INSTALLER).write_bytes(b"")
    assert load_spec(write(tmp_path, step)).steps[0].inputs["deps_dir"] == "deps"


def test_deps_dir_is_a_folder(tmp_path: Path) -> None:
    """install-gpu -deps-dir."""
    (tmp_path / "deps").write_bytes(b"")
    (problem,) = file_problems(tmp_path, GPU + "    inputs: {deps_dir: deps, version: 450.51.06}\n")
    assert problem == "7:14: steps[0].inputs.deps_dir: 'deps' is a file; write the path of a folder"


def test_package_spec_is_a_file_unless_it_is_a_url(tmp_path: Path) -> None:
    """anthos-installer-install -pkgspec-url: http(s), gs:// or a path in the context."""
    step = "name: a\nsource: {project: local, family: f}\nsteps:\n"
    step += "  - {name: a, action: install-anthos, inputs: {package_spec: gs://b/spec.yaml}}\n"
    assert load_spec(write(tmp_path, step)).steps[0].inputs["package_spec"] == "gs://b/spec.yaml"
    step = step.replace("gs://b/spec.yaml", "anthos.yaml") + "context: .\n"
    (problem,) = file_problems(tmp_path, step)
    assert problem.startswith("4:48: steps[0].inputs.package_spec: 'anthos.yaml' is not in the context DIR; ")
    (tmp_path / "anthos.yaml").write_text("a: b\n")
    assert load_spec(write(tmp_path, step)).steps[0].inputs["package_spec"] == "anthos.yaml"


def test_context_may_be_one_file(tmp_path: Path) -> None:
    """start-image-build -build-context: file or directory; of a file, it is all that the context holds."""
    (tmp_path / "preload.sh").write_text("true\n")
    (tmp_path / "other.sh").write_text("true\n")
    step = STEP + "    inputs: {script: preload.sh}\ncontext: preload.sh\n"
    assert load_spec(write(tmp_path, step)).context == "preload.sh"
    (problem,) = file_problems(tmp_path, step.replace("script: preload.sh", "script: other.sh"))
    assert problem.startswith("6:14: steps[0].inputs.script: 'other.sh' is not in the context DIR/preload.sh; ")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (None, "DIR/own.json cannot be read: No such file or directory; write the path of a file beside the spec"),
        ("[", "it is not JSON: Expecting value: line 1 column 2 (char 1)"),
        ('{"creators": ["Ann"]}', "creators[0]: Actor Ann doesn't match any of person, organization or tool."),
    ],
)
def test_own_list_of_packages_is_checked_before_all_else(tmp_path: Path, text: str | None, problem: str) -> None:
    """finish-image-build -sbom-input-path: must be there, in the right format."""
    if text is not None:
        (tmp_path / "own.json").write_text(text)
    [found] = file_problems(tmp_path, GOOD + "output: {sbom: {input: own.json}}\n")
    assert found.partition(" ")[2] == f"output.sbom.input: {problem}"


def test_own_list_of_packages_in_a_bucket_is_not_looked_at(tmp_path: Path) -> None:
    (tmp_path / "own.json").write_text("{}")
    for place in ("gs://bucket/own.json", "own.json"):
        assert load_spec(write(tmp_path, f"{GOOD}output: {{sbom: {{input: '{place}'}}}}\n")).output.sbom is not None
