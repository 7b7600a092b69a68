"""goldsmith submit and --project, as far as they come without a cloud: what is wrong is told before anything leaves."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.goldsmith.command_line import Commands

GOLDSMITH = Path(__file__).resolve().parents[3] / ".venv" / "bin" / "goldsmith"
SPEC = """\
name: hello
source: {project: debian-cloud, family: debian-12}
steps: []
"""


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "hello.yaml"
    path.write_text(SPEC)
    return path


def test_a_bad_spec_is_told_as_by_validate(run: Commands, spec: Path) -> None:
    spec.write_text(SPEC.replace("steps", "setps"))
    validated, submitted = run("validate", spec), run("submit", spec, "--project", "my-project")
    assert (submitted.status, submitted.out) == (2, "")
    assert submitted.err == validated.err
    assert "did you mean steps?" in submitted.err


def test_a_project_is_needed(run: Commands, spec: Path) -> None:
    done = run("submit", spec)
    assert (done.status, done.out) == (2, "")
    assert "add --project ID, or build.project" in done.err


def test_a_file_of_this_machine_cannot_be_built_from_there(run: Commands, spec: Path, tmp_path: Path) -> None:
    (tmp_path / "disk.raw").write_bytes(b"")
    spec.write_text(SPEC.replace("{project: debian-cloud, family: debian-12}", "{file: disk.raw}"))
    done = run("submit", spec, "--project", "my-project")
    assert done.status == 2
    assert "source.file: can only be built from on one machine" in done.err


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ("", "source.rootfs: root.tar lies outside of the context, files; put it into that folder"),
        ("disk: filesystem\nverify: {}\n", "source.rootfs: root.tar lies outside of the context"),
        ("output: {reproducible: true}\n", "output.reproducible: only one machine gives the same bytes"),
    ],
)
def test_a_root_that_no_vm_can_make_is_refused_before_any_upload(
    run: Commands, spec: Path, tmp_path: Path, more: str, why: str
) -> None:
    (tmp_path / "root.tar").write_bytes(b"")
    (tmp_path / "files").mkdir()
    spec.write_text(f"name: hello\nsource: {{rootfs: root.tar}}\ncontext: files\nsteps: []\n{more}")
    done = run("submit", spec, "--project", "my-project")
    assert (done.status, done.out) == (2, "")
    assert f"{spec}: {why}" in done.err


def test_formats_are_of_an_export(run: Commands, spec: Path) -> None:
    spec.write_text(SPEC + "output:\n  formats: [qcow2]\n")
    done = run("submit", spec, "--project", "my-project")
    line = SPEC.count("\n") + 2
    assert done.status == 2
    assert f"{spec}:{line}:3: output.formats: are those of the files of output.export; write" in done.err


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("long", "--keep-on-failure: 'long' is not a duration"),
        ("8d", "--keep-on-failure '8d': write more than 0s and at most 7d"),
    ],
)
def test_a_time_that_is_none_is_told_before_anything_is_uploaded(
    run: Commands, spec: Path, asked: str, told: str
) -> None:
    done = run("submit", spec, "--project", "my-project", "--keep-on-failure", asked)
    assert (done.status, done.out) == (2, "")
    assert told in done.err


@pytest.mark.parametrize("command", ["list", "show x", "logs x", "cancel x"])
def test_a_bucket_is_of_a_project(run: Commands, command: str) -> None:
    done = run("builds", *command.split(), "--bucket", "b")
    assert done.status == 2
    assert "--bucket goes with --project ID" in done.err


@pytest.mark.parametrize("command", ["submit SPEC", "builds list", "builds show x", "builds logs x", "builds cancel x"])
def test_without_credentials_it_is_one_line_with_the_remedy(spec: Path, tmp_path: Path, command: str) -> None:
    words = [str(spec) if word == "SPEC" else word for word in command.split()]
    done = subprocess.run(
        [GOLDSMITH, *words, "--project", "my-project"],
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "GOOGLE_APPLICATION_CREDENTIALS": str(tmp_path / "absent.json"),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 3
    assert "absent.json was not found; run `gcloud auth application-default login`" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
