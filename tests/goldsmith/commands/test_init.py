"""goldsmith init: what it writes, of options, of answers in a terminal, and of other systems' files."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
import yaml

from goldsmith.commands.machine.init import FIRST_SCRIPT, SCHEMA_LINE, SCHEMA_NAME
from tests.goldsmith.command_line import Commands
from tests.goldsmith.screen.drawn_terminal import ROOT, watched

WORKFLOW = ROOT / "examples" / "cos-customizer" / "cloudbuild.yaml"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "My Web-1"
    made.mkdir()
    return made


def test_a_first_spec_has_the_schema_on_top_and_is_good(run: Commands, folder: Path) -> None:
    spec = folder / "build.yaml"
    done = run("init", spec)
    assert done.status == 0, done.err
    assert "goldsmith images bootstrap debian-12" in done.err  # this home has no image yet
    text = spec.read_text()
    assert text.startswith(SCHEMA_LINE)
    assert yaml.safe_load(text) == {
        "name": "my-web",
        "source": {"project": "local", "family": "debian-12"},
        "context": ".",
        "steps": [{"name": "setup", "action": "run-script", "inputs": {"script": "setup.sh"}}],
        "output": {"family": "my-web"},
        "local": {"engine": "auto"},
    }
    assert (folder / "setup.sh").read_text() == FIRST_SCRIPT
    assert json.loads((folder / SCHEMA_NAME).read_text())["$schema"]
    checked = run("validate", spec)
    assert (checked.status, "good: my-web, 1 step" in checked.out) == (0, True)


def test_options_answer_everything(run: Commands, folder: Path) -> None:
    spec = folder / "web.yaml"
    words = ("--name", "web", "--source", "debian-cloud/debian-12", "--package", "nginx", "--package", "curl")
    done = run("init", spec, *words, "--script", "in/site.sh", "--family", "sites", "--project", "my-project")
    assert done.status == 0, done.err
    assert "goldsmith submit" in done.out
    assert yaml.safe_load(spec.read_text()) == {
        "name": "web",
        "source": {"project": "debian-cloud", "family": "debian-12"},
        "context": ".",
        "steps": [
            {"name": "packages", "action": "install-packages", "inputs": {"packages": ["nginx", "curl"]}},
            {"name": "setup", "action": "run-script", "inputs": {"script": "in/site.sh"}},
        ],
        "output": {"project": "my-project", "family": "sites"},
        "build": {"project": "my-project"},
    }
    assert run("validate", spec).status == 0


def test_nothing_that_is_there_is_overwritten(run: Commands, folder: Path) -> None:
    for name in ("build.yaml", "setup.sh", SCHEMA_NAME):
        (folder / name).write_text("mine")
    done = run("init", folder / "build.yaml")
    assert (done.status, "exists already" in done.err) == (2, True)
    assert run("init", folder / "other.yaml").status == 0
    assert {(folder / name).read_text() for name in ("build.yaml", "setup.sh", SCHEMA_NAME)} == {"mine"}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--name", "Web_1"), "--name: 'Web_1' is not a valid name"),
        (("--package", "a b"), "'a b' is not a package name"),
        (("--script", "../x.sh"), "the steps see nothing else"),
        (("--script", "/x.sh"), "the steps see nothing else"),
        (("--family", "-"), "output.family"),
        (("--source", "/"), "source.family"),
        (("--engine", "warp"), "local.engine"),
        (("--from", "no/such.yaml"), "cannot be read"),
        (("--from", "no/such.yaml", "--name", "x"), "leave the other options out"),
    ],
)
def test_bad_answers_write_nothing(run: Commands, folder: Path, words: tuple[str, ...], told: str) -> None:
    done = run("init", folder / "build.yaml", *words)
    assert (done.status, told in done.err) == (2, True), done.err
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("words", [("--name", "Web_1"), ("--from", "no/such.yaml")])
def test_folders_for_what_is_not_written_are_removed(run: Commands, folder: Path, words: tuple[str, ...]) -> None:
    assert run("init", folder / "new" / "deep" / "build.yaml", *words).status == 2
    assert list(folder.iterdir()) == []
    (folder / "kept").mkdir()
    assert run("init", folder / "kept" / "new" / "build.yaml", *words).status == 2
    assert [list(each.iterdir()) for each in folder.iterdir()] == [[]], "it was there before"


def test_an_empty_word_is_no_file_that_exists(run: Commands) -> None:
    done = run("init", "")
    assert (done.status, done.out) == (2, "")
    assert done.err == "goldsmith: no file is named; write one, such as: goldsmith init build.yaml\n"


def test_what_is_told_to_type_works_as_it_stands(run: Commands, folder: Path) -> None:
    done = run("init", folder / "it's new.yaml")
    assert done.status == 0, done.err
    for line in done.out.splitlines()[1:]:
        assert shlex.split(line)[2:] == [str(folder / "it's new.yaml")]


def test_a_workflow_becomes_a_spec_that_is_good(run: Commands, folder: Path) -> None:
    spec = folder / "cos.yaml"
    done = run("init", spec, "--from", WORKFLOW)
    assert done.status == 0, done.err
    assert spec.read_text().startswith(SCHEMA_LINE)
    assert run("validate", spec).status == 0, "its context is the workflow's folder"
    assert not (folder / "setup.sh").exists()


def test_a_terminal_is_asked_until_the_answers_are_good(home: Path, folder: Path) -> None:
    answers = iter(["Not A Name\n", "asked\n", "\n", "nginx, curl\n", "-\n", "\n"])
    answered: set[int] = set()

    def answer(seen: str) -> str:
        lines = seen.splitlines()
        if len(lines) in answered or not lines[-1].endswith(":"):
            return ""
        answered.add(len(lines))
        return next(answers, "")

    spec = folder / "build.yaml"
    status, written, _ = watched(["init", spec], environment={"GOLDSMITH_HOME": str(home)}, typing=answer)
    assert status == 0, written
    assert "is not a valid name" in written
    values = yaml.safe_load(spec.read_text())
    assert (values["name"], values["output"]) == ("asked", {"family": "asked"})
    assert [step["inputs"] for step in values["steps"]] == [{"packages": ["nginx", "curl"]}]


def test_letters_of_another_encoding_are_refused_as_any_others(home: Path, folder: Path) -> None:
    """As they are typed in a terminal that is not set to UTF-8, while the locale is."""
    environment = {"GOLDSMITH_HOME": str(home), "PYTHONIOENCODING": "utf-8:strict"}
    status, written, _ = watched(["init", folder / "x.yaml"], environment=environment, typed=b"caf\xe9\n\x04")
    assert status == 130, written
    assert "is not a valid name" in written
    assert "Traceback" not in written


def test_a_terminal_that_ends_the_input_writes_nothing(home: Path, folder: Path) -> None:
    environment = {"GOLDSMITH_HOME": str(home)}
    status, written, _ = watched(["init", folder / "new" / "x.yaml"], environment=environment, typed=b"\x04")
    assert status == 130, written
    assert list(folder.iterdir()) == []
