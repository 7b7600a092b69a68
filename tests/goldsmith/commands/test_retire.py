"""goldsmith images retire, with images of a home, and a process that has the disk of one open."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from subprocess import PIPE, Popen

import pytest

from shared.build.build import ImageRecord
from shared.images.catalogue import Catalogue
from shared.runtime.one_machine import open_one_machine
from tests.goldsmith.command_line import Commands
from tests.world.published import FAMILY, add_build, build_of

NAMES = ("one", "two", "three")


@pytest.fixture
def images(home: Path, tmp_path: Path) -> Path:
    """A home with three images of one family, and one that was imported into it."""
    disk = tmp_path / "disk.raw"
    disk.write_bytes(bytes(1 << 20))
    with open_one_machine(home) as backend:
        backend.catalogue.add(disk, "imported", family=FAMILY, content="imported")
        for name in NAMES:
            build = build_of(name)
            image = backend.catalogue.add(disk, name, family=FAMILY, content=name)
            add_build(backend.store, replace(build, image=ImageRecord("local", name, image.id)))
            time.sleep(0.01)  # the catalogue dates its images
    return home


def states(home: Path) -> dict[str, str | None]:
    catalogue = Catalogue(home, None)  # type: ignore[arg-type]  # nothing is made here
    return {image.name: image.deprecated for image in catalogue.list()}


def let_a_day_pass(home: Path) -> None:
    with open_one_machine(home) as backend:
        for name in NAMES:
            known = backend.store.image("local", name)
            if known is not None and known.retired is not None:
                past = replace(known.retired, obsolete=known.retired.obsolete - 86400)
                assert backend.store.save_image(replace(known, retired=past), known)


def test_images_go_by_the_rules_of_the_home(run: Commands, images: Path) -> None:
    (images / "retire-images.json").write_text('{"hello": {"keep": 2}}')
    planned = run("images", "retire", "--dry-run")
    assert planned.status == 0
    assert "one       hello   would be OBSOLETE  it is " in planned.out
    assert "imported  hello   kept               Goldsmith has no record that it made it" in planned.out
    assert set(states(images).values()) == {None}
    assert "one       hello   OBSOLETE now" in run("images", "retire").out
    assert states(images) == {"three": None, "two": None, "one": "OBSOLETE", "imported": None}
    waits = run("images", "retire").out
    assert "one       hello   waits  OBSOLETE since" in waits
    let_a_day_pass(images)
    told = json.loads(run("images", "retire", "--json").out)
    assert {each["name"]: each["action"] for each in told} == {
        "imported": "keep",
        "one": "delete",
        "two": "keep",
        "three": "keep",
    }
    assert set(told[0]) == {"project", "name", "family", "action", "why", "blind", "fault"}
    assert set(states(images)) == {"three", "two", "imported"}
    assert run("images", "check", "one").status == 1


def test_a_disk_that_is_open_stays(run: Commands, images: Path) -> None:
    options = ("images", "retire", "--family", FAMILY, "--keep", "1")
    disk = (images / "images" / "one" / "disk.raw").open("rb")
    with Popen(["/bin/cat"], stdin=PIPE, pass_fds=[disk.fileno()]) as process:
        disk.close()
        told = run(*options).out
        process.kill()
    assert f"in use by process {process.pid}, which has its disk open" in told
    assert states(images)["one"] is None
    assert states(images)["two"] == "OBSOLETE"
    run(*options)
    assert states(images)["one"] == "OBSOLETE"


def test_a_disk_that_is_open_stays_also_where_the_catalogue_is_a_link(run: Commands, images: Path) -> None:
    (images / "images").rename(images / "elsewhere")
    (images / "images").symlink_to(images / "elsewhere")
    (images / "other-name.raw").hardlink_to(images / "elsewhere" / "one" / "disk.raw")
    disk = (images / "other-name.raw").open("rb")
    with Popen(["/bin/cat"], stdin=PIPE, pass_fds=[disk.fileno()]) as it:
        disk.close()
        told = run("images", "retire", "--family", FAMILY, "--keep", "1", "--dry-run").out
        it.kill()
    assert f"in use by process {it.pid}, which has its disk open" in told


def test_nothing_new_is_made_of_an_image_that_is_going(run: Commands, images: Path, tmp_path: Path) -> None:
    run("images", "retire", "--family", FAMILY, "--keep", "1")
    spec = tmp_path / "again.yaml"
    spec.write_text("name: again\nsource: {project: local, image: one}\nsteps: []\n")
    done = run("build", spec)
    assert (done.status, "image one is OBSOLETE, so that nothing is made of it; name another" in done.err) == (2, True)
    with open_one_machine(images) as backend:
        assert not any(build.id.startswith("again") for build in backend.store.builds())


def test_an_image_that_cannot_be_read_keeps_all_others(run: Commands, images: Path) -> None:
    before = states(images)
    (images / "images" / "imported" / "image.json").write_text("{")
    done = run("images", "retire", "--family", FAMILY, "--keep", "1")
    assert (done.status != 0, done.out) == (True, "")
    assert "imported" in done.err
    del before["imported"]
    assert states(images) == before


def test_what_stays_since_something_cannot_be_read_is_no_success(run: Commands, images: Path) -> None:
    with closing(sqlite3.connect(images / "state.db")) as database, database:
        database.execute("UPDATE images SET document = '{' WHERE name = 'three'")
    done = run("images", "retire", "--family", FAMILY, "--keep", "1")
    assert (done.status, "what is known of image three cannot be read" in done.out) == (1, True)
    assert set(states(images).values()) == {None}


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ((), "there is no {home}/retire-images.json; write one, or give --family NAME"),
        (("--keep", "3"), "--older-than and --keep say when images of --family NAME go away"),
        (("--family", "hello"), "say which, with --older-than, --keep or both"),
        (("--family", "Hello", "--keep", "3"), "options: 'Hello' is not a valid name"),
        (("--family", "hello", "--keep", "0"), "options: hello.keep: 0 is not a number of images"),
        (("--family", "hello", "--older-than", "soon"), "options: hello.older_than: 'soon' is not a duration"),
    ],
)
def test_wrong_options_change_nothing(run: Commands, images: Path, options: tuple[str, ...], text: str) -> None:
    done = run("images", "retire", *options)
    assert (done.status, text.format(home=images) in done.err) == (2, True), done.err
    assert set(states(images).values()) == {None}


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("{", "retire-images.json: not JSON: "),
        ("[" * 100_000, "retire-images.json: not JSON: "),
        (b"\xff\xfe\x00", "retire-images.json: not JSON: "),
        ('{"hello": {"keep": -1}}', "retire-images.json: hello.keep: -1 is not a number of images"),
        ("{}", "retire-images.json: rules are an object of families"),
    ],
)
def test_a_file_of_rules_that_is_wrong_changes_nothing(
    run: Commands, images: Path, content: str | bytes, text: str
) -> None:
    path = images / "retire-images.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    done = run("images", "retire")
    assert (done.status, text in done.err) == (2, True), done.err
    path.unlink()
    path.mkdir()
    assert "is no plain file; write the rules into one" in run("images", "retire").err
    path.rmdir()
    os.mkfifo(path)
    assert "is no plain file; write the rules into one" in run("images", "retire").err
    assert set(states(images).values()) == {None}
