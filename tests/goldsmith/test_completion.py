"""What shells complete: by bash itself, and by the variables with which zsh and fish ask."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shared.host.known_names import known_names
from shared.local.database import Database

ROOT = Path(__file__).resolve().parents[2]
BUILDS = 3000
IN_BASH = """\
eval "$(_GOLDSMITH_COMPLETE=source_bash goldsmith)"
COMP_WORDS=({words}) COMP_CWORD={at}
_goldsmith_completion goldsmith
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
HEAVY = ("rich", "shared.build.build", "shared.runtime.opening", "google.auth", "sqlite3.dbapi2")


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with builds and images."""
    home = tmp_path_factory.mktemp("filled") / "home"
    home.mkdir(mode=0o700)
    with Database(home / "state.db") as database, database.transaction() as connection:
        for number in range(BUILDS):
            row = (f"hello-{number:012x}", 1, "finished", float(number), 0.0, 0.0, 0.0, "damaged")
            connection.execute("INSERT INTO builds VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
        row = ("evil\x1b[2J thing", 1, "finished", 1e9, 0.0, 0.0, 0.0, "")
        connection.execute("INSERT INTO builds VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
    for name, record in (("base-1", '{"family": "base"}'), ("base-2", '{"family": "base"}'), ("odd", "[")):
        (home / "images" / name).mkdir(parents=True)
        (home / "images" / name / "image.json").write_text(record)
    return home


def asked(home: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": f"{ROOT}/.venv/bin:/usr/bin:/bin", "HOME": str(home), "GOLDSMITH_HOME": str(home)}
    program = ROOT / ".venv" / "bin" / "goldsmith"
    return subprocess.run([program], env={**environment, **variables}, capture_output=True, text=True, check=False)


def in_bash(home: Path, *words: str) -> list[str]:
    """What bash would offer for the last word, by its own completion function."""
    script = IN_BASH.format(words=" ".join(f"'{word}'" for word in words), at=len(words) - 1)
    environment = {**os.environ, "PATH": f"{ROOT}/.venv/bin:{os.environ['PATH']}", "GOLDSMITH_HOME": str(home)}
    done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.split()


def test_bash_completes_commands_options_and_choices(filled: Path) -> None:
    assert in_bash(filled, "goldsmith", "buil") == ["build", "builds"]
    assert in_bash(filled, "goldsmith", "images", "li") == ["list", "lineage"]
    assert in_bash(filled, "goldsmith", "build", "x.yaml", "--keep") == ["--keep-on-failure"]
    assert in_bash(filled, "goldsmith", "build", "x.yaml", "--engine", "") == ["vm", "chroot", "auto"]
    assert in_bash(filled, "goldsmith", "build", "x.yaml", "--format", "qcow2,vm") == ["qcow2,vmdk"]


def test_bash_completes_ids_names_and_families(filled: Path) -> None:
    newest = in_bash(filled, "goldsmith", "builds", "show", "")
    assert len(newest) == 199  # the evil one is the newest, and is not offered
    assert newest[0] == f"hello-{BUILDS - 1:012x}"
    assert in_bash(filled, "goldsmith", "builds", "logs", "hello-000000000ab") == [
        f"hello-000000000ab{digit:x}" for digit in range(15, -1, -1)
    ]
    assert in_bash(filled, "goldsmith", "images", "show", "b") == ["base-1", "base-2"]
    assert in_bash(filled, "goldsmith", "images", "diff", "base-1", "o") == ["odd"]
    assert in_bash(filled, "goldsmith", "images", "list", "--family", "") == ["base"]
    assert in_bash(filled, "goldsmith", "builds", "show", "--project", "my-project", "hello") == []


def test_zsh_and_fish_get_names_with_what_they_mean(filled: Path) -> None:
    zsh = asked(filled, _GOLDSMITH_COMPLETE="complete_zsh", _TYPER_COMPLETE_ARGS="goldsmith images del")
    assert zsh.stdout.strip() == """_arguments '*: :(("delete":"Delete images from the catalogue."))'"""
    files = asked(filled, _GOLDSMITH_COMPLETE="complete_zsh", _TYPER_COMPLETE_ARGS="goldsmith build ")
    assert files.stdout.strip() == "_files"  # a spec is a file, which zsh knows better
    line = {"_GOLDSMITH_COMPLETE": "complete_fish", "_TYPER_COMPLETE_ARGS": "goldsmith images show base"}
    fish = asked(filled, _TYPER_COMPLETE_FISH_ACTION="get-args", **line)
    assert fish.stdout.split() == ["base-1", "base-2"]
    assert asked(filled, _TYPER_COMPLETE_FISH_ACTION="is-args", **line).returncode == 0


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_for_each_shell_is_printed(filled: Path, shell: str) -> None:
    script = asked(filled, _GOLDSMITH_COMPLETE=f"source_{shell}")
    assert f"complete_{shell}" in script.stdout
    assert script.stderr == ""


def test_faults_are_silent_and_offer_nothing(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "state.db").write_bytes(b"no database" * 1000)
    (home / "images").write_text("no folder")
    for line in ("goldsmith builds show ", "goldsmith images show ", "goldsmith images list --family "):
        for shell in ("zsh", "none"):
            done = asked(home, _GOLDSMITH_COMPLETE=f"complete_{shell}", _TYPER_COMPLETE_ARGS=line)
            assert done.stdout.strip() in ("", "_files")
            assert done.stderr == ""
    assert [path.name for path in sorted(home.iterdir())] == ["images", "state.db"]


def test_completion_imports_little_and_leaves_nothing_behind(filled: Path) -> None:
    before = sorted(path.name for path in filled.iterdir())
    names = "import sys; from goldsmith.cli.completions import build_ids, families, image_names; import typer\n"
    names += "class Line:\n    params = {}\n"
    names += "print(len(build_ids(Line(), 'h')), image_names(Line(), 'o'), families(Line(), ''))\n"
    names += f"print([name for name in {HEAVY!r} if name in sys.modules])"
    environment = {**os.environ, "GOLDSMITH_HOME": str(filled)}
    done = subprocess.run(
        [sys.executable, "-c", names], env=environment, cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["200 ['odd'] ['base']", "['sqlite3.dbapi2']"]
    assert sorted(path.name for path in filled.iterdir()) == before


def test_names_are_read_while_a_process_writes(filled: Path) -> None:
    with Database(filled / "state.db") as database, database.transaction() as connection:
        connection.execute("UPDATE builds SET state = 'finished'")
        assert known_names(filled, "build", "hello-000000000001") == ["hello-000000000001"]


def test_a_home_that_is_not_there_has_no_names(tmp_path: Path) -> None:
    assert [known_names(tmp_path / "none", kind, "") for kind in ("build", "image", "family")] == [[], [], []]
    assert not (tmp_path / "none").exists()
