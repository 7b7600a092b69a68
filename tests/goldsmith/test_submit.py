"""goldsmith submit and --project, as far as they come without a cloud: what is wrong is told before anything leaves."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.goldsmith.commands import Commands

SPEC = """\
name: hello
source: {project: debian-cloud, family: debian-12}
steps: []
"""


@pytest.fixture
def run(tmp_path: Path) -> Commands:
    return Commands(tmp_path / "home", tmp_path)


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
    assert "source.file: a file can only be built from on this machine" in done.err


@pytest.mark.parametrize("command", ["list", "show x", "logs x", "cancel x"])
def test_a_bucket_is_of_a_project(run: Commands, command: str) -> None:
    done = run("builds", *command.split(), "--bucket", "b")
    assert done.status == 2
    assert "--bucket goes with --project ID" in done.err
