"""What shells are answered that ask what fits at the cursor. Its neighbours see how they show it."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from typer.core import TyperCommand, TyperGroup
from typer.main import get_group

from goldsmith.cli.app import app
from goldsmith.completion.typed_line import offers_at_cursor
from shared.host.known_names import known_names
from shared.local.database import Database

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = get_group(app)
HEAVY = ("pydantic", "rich", "shared.build.build", "shared.runtime.opening", "google.auth", "sqlite3.dbapi2")


def asked(home: Path, wish: str, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(home), "GOLDSMITH_HOME": str(home), "_GOLDSMITH_COMPLETE": wish}
    program = ROOT / ".venv" / "bin" / "goldsmith"
    return subprocess.run(
        [program, *words], env={**environment, **variables}, capture_output=True, text=True, check=False
    )


def offered(typed: str) -> list[str]:
    """Return what fits behind a line: the kind of answer first."""
    found = offers_at_cursor(PROGRAM, typed.split(" ")[:-1], typed.split(" ")[-1])
    return [found.kind, *(offer.word for offer in found.offers)]


def test_commands_and_options_fit() -> None:
    assert offered("buil") == ["words", "build", "builds"]
    assert offered("images li") == ["words", "list", "lineage"]
    assert offered("build x.yaml --keep") == ["words", "--keep-on-failure"]
    assert offered("--ver") == ["words", "--version"]
    assert "--set" in offered("build --set a=b --")  # may be given several times
    assert "--quiet" not in offered("build --quiet --")
    assert offered("build -- --") == ["files"]
    assert offered("builds show x y") == ["words"]
    for nothing in ("nothing ", "images nothing ", "build x.yaml --nothing=", "build x.yaml --quiet="):
        assert offered(nothing) == ["words"]


def test_values_fit() -> None:
    assert offered("build x.yaml --engine ") == ["words", "vm", "chroot", "auto"]
    assert offered("build x.yaml --engine=v") == ["words", "--engine=vm"]
    assert offered("build x.yaml --format qcow2,vm") == ["words", "qcow2,vmdk"]
    assert offered("build x.yaml --set ") == ["words"]  # and no files
    assert offered("build ") == offered("validate x") == offered("images provenance x --key ") == ["files"]
    assert offered("build x.yaml -o ") == offered("convert x --path=") == ["folders"]
    assert offered("dib -o ") == offered("convert x y") == ["files"]


def test_every_option_that_takes_a_path_is_completed_with_paths() -> None:
    paths = {"FILE", "FOLDER", "SPEC", "[SPEC]", "FILE|VERSION"}
    pending: list[tuple[str, TyperGroup | TyperCommand]] = [("", PROGRAM)]
    seen = set()
    while pending:
        name, command = pending.pop()
        pending.extend((f"{name}{child} ", each) for child, each in getattr(command, "commands", {}).items())
        for option in command.params:
            if option.metavar in paths and option.param_type_name == "option":
                seen.add(offered(f"{name}{option.opts[0]} ")[0])
                assert offered(f"{name}{option.opts[0]} ") in (["files"], ["folders"])
    assert seen == {"files", "folders"}


def test_names_come_with_what_they_are(filled: Path) -> None:
    newest = asked(filled, "zsh", "builds", "show", "").stdout.splitlines()
    assert newest[:4] == [
        "words",
        "world-1\ttimed out, 2 days ago",
        newest[2],
        "hello-000000000bb7\tfinished, " + newest[3].partition(", ")[2],
    ]
    assert newest[2].startswith("world-2\texporting, ")
    assert len(newest) == 1 + 200 - 2  # two names that no shell and no terminal should see are not offered
    assert asked(filled, "fish", "images", "show", "").stdout == "words\nbase-1\tbase\nbase-2\tbase\nodd\n"
    assert asked(filled, "fish", "images", "list", "--family", "").stdout == "words\nbase\n"
    assert asked(filled, "fish", "builds", "show", "--project", "my-project", "hello").stdout == "words\n"


def test_bash_gets_what_stands_behind_its_own_beginning_of_a_word(filled: Path) -> None:
    for typed, at_cursor, words in (
        ("goldsmith build --engine=v", "v", ["vm"]),
        ("goldsmith build --engine=", "=", ["vm", "chroot", "auto"]),
        ("goldsmith build --engine=", "", ["vm", "chroot", "auto"]),
        ("goldsmith images show 'o", "o", ["odd"]),
        ("goldsmith images show o\\d", "o\\d", ["odd"]),
        ("goldsmith", "goldsmith", []),
        ("", "", []),
    ):
        done = asked(filled, "bash", typed, at_cursor)
        assert done.stdout.splitlines()[1:] == words
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_for_each_shell_is_printed(filled: Path, shell: str) -> None:
    script = asked(filled, f"source_{shell}")
    assert f"_GOLDSMITH_COMPLETE={shell}" in script.stdout
    assert script.stderr == ""


def test_faults_are_silent_and_offer_nothing(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "state.db").write_bytes(b"no database" * 1000)
    (home / "images").write_text("no folder")
    for words in (["builds", "show", ""], ["images", "show", ""], ["images", "list", "--family", ""]):
        assert asked(home, "zsh", *words).stdout == "words\n"
    for wish in ("source_none", "none", "", "zsh", "bash", "complete_bash"):
        done = asked(home, wish)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert [path.name for path in sorted(home.iterdir())] == ["images", "state.db"]


def test_builds_of_a_home_of_an_earlier_release_have_names(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "state.db") as connection:
        connection.execute("CREATE TABLE builds (id TEXT PRIMARY KEY, created REAL)")
        connection.execute("INSERT INTO builds VALUES ('hello-1', 1.0)")
    connection.close()
    assert asked(tmp_path, "fish", "builds", "show", "").stdout == "words\nhello-1\n"


def test_completion_imports_little_and_leaves_nothing_behind(filled: Path) -> None:
    before = sorted(path.name for path in filled.iterdir())
    names = "import sys; sys.argv[1:] = ['builds', 'show', 'h']\nfrom goldsmith.__main__ import main\nmain()\n"
    names += f"print([name for name in {HEAVY!r} if name in sys.modules])"
    environment = {**os.environ, "GOLDSMITH_HOME": str(filled), "_GOLDSMITH_COMPLETE": "fish"}
    done = subprocess.run(
        [sys.executable, "-c", names], env=environment, cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert len(done.stdout.splitlines()) == 1 + 200 + 1
    assert done.stdout.splitlines()[-1] == "['sqlite3.dbapi2']"
    assert sorted(path.name for path in filled.iterdir()) == before


def test_names_are_read_while_a_process_writes(filled: Path) -> None:
    with Database(filled / "state.db") as database, database.transaction() as connection:
        connection.execute("UPDATE builds SET state = 'finished' WHERE id < 'i'")
        assert known_names(filled, "build", "hello-000000000001") == ["hello-000000000001"]


def test_a_home_that_is_not_there_has_no_names(tmp_path: Path) -> None:
    assert [known_names(tmp_path / "none", kind, "") for kind in ("build", "image", "family")] == [[], [], []]
    assert not (tmp_path / "none").exists()
