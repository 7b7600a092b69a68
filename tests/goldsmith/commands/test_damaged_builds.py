"""Builds that cannot be read: what each command says of them, and how they are set aside."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shared.build.events import read_build
from shared.local.database import Database
from tests.goldsmith.command_line import Commands
from tests.goldsmith.commands.test_commands import DONE, LATER, LEFT, keep


def damage(home: Path, build_id: str, text: str = "{") -> None:
    with Database(home / "state.db") as database, database.transaction() as connection:
        connection.execute("UPDATE builds SET document = ? WHERE id = ?", (text, build_id))


def test_damaged_build_is_listed_among_the_others(run: Commands, home: Path) -> None:
    keep(home, DONE, LATER)
    damage(home, LATER.id)
    done = run("builds", "list")
    assert (done.status, [line.split()[:3] for line in done.out.splitlines()[1:]]) == (
        0,
        [[LATER.id, "damaged"], [DONE.id, "finished", "failed"]],
    )
    why = f"{home}/state.db: the document of build {LATER.id} is damaged"
    assert done.err.startswith(f"goldsmith: {why}")
    first, second = run("builds", "list", "--json").document()
    assert (first["id"], first["state"], first["reason"].startswith(why)) == (LATER.id, "damaged", True)
    assert read_build(second) == DONE


@pytest.mark.parametrize("command", ["show", "logs", "cancel"])
def test_damaged_build_is_1_and_named(run: Commands, home: Path, command: str) -> None:
    keep(home, DONE, LATER)
    damage(home, LATER.id)
    done = run("builds", command, LATER.id)
    assert (done.status, done.out) == (1, "")
    assert f"goldsmith: {home}/state.db: the document of build {LATER.id} is damaged" in done.err
    assert "Traceback" not in done.err
    assert run("builds", "show", DONE.id).status == 0


def test_damaged_build_can_be_forgotten_and_keeps_what_it_has_until_it_expires(run: Commands, home: Path) -> None:
    keep(home, DONE, LATER)
    damage(home, LATER.id, json.dumps({"state": "pondering", "ledger": [{"kind": "disk", "name": "a-disk"}]}))
    folder = home / "builds" / LATER.id
    disk = folder / "disks" / f"gs-{LATER.id}-a1-boot.raw"
    disk.parent.mkdir(parents=True)
    disk.touch()
    (folder / "labels.json").write_text(json.dumps({"goldsmith-expires": "99999999999"}))
    done = run("builds", "forget", "hello-aab")
    assert (done.status, done.err) == (0, "")
    assert done.out.splitlines() == [
        f"build {LATER.id} is forgotten; its record is kept, and no command shows it",
        "it may have left: disk a-disk",
        "what carries its label is deleted when it expires, by: goldsmith sweep",
    ]
    assert [line.split()[0] for line in run("builds", "list").out.splitlines()[1:]] == [DONE.id]
    assert run("sweep").out == "nothing to do\n"
    assert disk.exists()
    (folder / "labels.json").write_text(json.dumps({"goldsmith-expires": "1"}))
    assert run("sweep").out == f"deleted disk {disk.stem}\n"
    assert not folder.exists()


@pytest.mark.parametrize("ledger", ["{", "[]", '{"ledger": 1}', '{"ledger": [1]}', '{"ledger": [{"kind": "disk"}]}'])
def test_ledger_that_cannot_be_read_names_nothing(run: Commands, home: Path, ledger: str) -> None:
    keep(home, LATER)
    damage(home, LATER.id, ledger)
    done = run("builds", "forget", LATER.id)
    assert done.status == 0
    assert "what it has left is not in its record\n" in done.out


def test_what_goes_on_is_not_forgotten_and_what_is_done_is(run: Commands, home: Path) -> None:
    keep(home, DONE, LEFT)
    done = run("builds", "forget", LEFT.id)
    assert (done.status, done.out) == (2, "")
    assert f"build {LEFT.id} can be read and is preparing; end it with: goldsmith builds cancel" in done.err
    assert run("builds", "forget", DONE.id).out == (
        f"build {DONE.id} is forgotten; its record is kept, and no command shows it\n"
    )
    assert run("builds", "forget", DONE.id).status == 2


def test_damaged_build_stops_no_command_and_keeps_its_files(run: Commands, home: Path) -> None:
    keep(home, DONE, LATER, LEFT)
    damage(home, LATER.id)
    disk = home / "builds" / LATER.id / "disks" / "gs-hello-aabbbbbbbbbb-a1-boot.raw"
    disk.parent.mkdir(parents=True)
    disk.touch()
    (disk.parents[1] / "labels.json").write_text(json.dumps({"goldsmith-expires": "99999999999"}))
    assert run("sweep", "--json").document() == {"builds": {LEFT.id: "cancelled"}, "deleted": []}
    assert disk.exists()
    for command in (["images", "list"], ["builds", "list"]):
        assert run(*command).status == 0
    (disk.parents[1] / "labels.json").write_text(json.dumps({"goldsmith-expires": "1"}))
    assert run("sweep", "--json").document() == {"builds": {}, "deleted": [f"disk {disk.stem}"]}


def test_what_is_damaged_of_an_image_can_be_forgotten_once(run: Commands, home: Path) -> None:
    keep(home, DONE)
    with Database(home / "state.db") as database, database.transaction() as connection:
        connection.execute("INSERT INTO images VALUES ('local', 'hello-1', 'hello', 0, '{')")
    done = run("images", "forget", "hello-1")
    assert (done.status, done.err) == (0, "")
    assert done.out.startswith("what was known of image hello-1 is forgotten")
    with Database(home / "state.db") as database:
        assert database.read("SELECT * FROM images") == []
        assert database.read("SELECT * FROM forgotten_images") == [("local", "hello-1", "hello", 0.0, "{")]
    again = run("images", "forget", "local/hello-1")
    assert (again.status, again.err) == (2, "goldsmith: nothing is known of an image hello-1 of project local\n")


@pytest.mark.parametrize("name", ["a/b/c", "/c", "c/", "local/a b", "local//c"])
@pytest.mark.parametrize("command", ["forget", "check", "promote --to prod", "revoke --reason bad"])
def test_what_names_no_image_is_refused(run: Commands, name: str, command: str) -> None:
    done = run("images", *command.split(), name)
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith(f"goldsmith: image {name!r}: ")
    assert done.err.endswith("; an image is NAME or PROJECT/NAME\n")
