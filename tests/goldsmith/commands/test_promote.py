"""goldsmith images promote, with images of a home: what is made, what is said, what is refused."""

from __future__ import annotations

import json
import multiprocessing
import os
import pwd
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from shared.build.build import ImageRecord
from shared.images.catalogue import Catalogue
from shared.published.promotion import promote_image
from shared.runtime.one_machine import open_one_machine
from tests.goldsmith.command_line import Commands
from tests.world.deadly import deadly
from tests.world.published import FAMILY, add_build, build_of

_PROCESSES = multiprocessing.get_context("forkserver")


def _promote_and_die(home: str, last: int) -> None:
    with open_one_machine(Path(home)) as backend:
        promote_image("local", "two", "prod", deadly(backend, last))


@pytest.fixture
def images(home: Path, tmp_path: Path) -> Path:
    """A home with two images of one family, and three channels."""
    disk = tmp_path / "disk.raw"
    disk.write_bytes(bytes(1 << 20))
    with open_one_machine(home) as backend:
        for name in ("one", "two"):
            build = build_of(name)
            assert build.plan is not None
            image = backend.catalogue.add(disk, name, family=FAMILY, labels=build.plan.image.labels, content=name)
            add_build(backend.store, replace(build, image=ImageRecord("local", name, image.id)))
            time.sleep(0.01)  # the catalogue dates its images
    write(home, {"dev": {}, "prod": {}, "vault": {"approvers": ["ann@example.com"]}})
    return home


def write(home: Path, channels: object) -> None:
    (home / "channels.json").write_text(channels if isinstance(channels, str) else json.dumps(channels))


def families(home: Path) -> dict[str, tuple[str | None, str | None]]:
    catalogue = Catalogue(home, None)  # type: ignore[arg-type]  # nothing is made here
    return {image.name: (image.family, image.deprecated) for image in catalogue.list()}


def test_an_image_goes_through_channels_and_back(run: Commands, images: Path) -> None:
    for name in ("one", "two"):
        done = run("images", "promote", name, "--to", "prod")
        assert (done.status, done.err) == (0, "")
        assert done.out == (
            f"image local/{name} is in the channel prod, as {name}-prod\nfamily hello-prod leads to {name}-prod\n"
        )
    disks = [images / "images" / name / "disk.raw" for name in ("two", "two-prod")]
    assert disks[0].samefile(disks[1]), "a copy takes no room"
    again = run("images", "promote", "local/two", "--to", "prod")
    assert again.out.startswith("image local/two is already in the channel prod, as two-prod\n")
    older = run("images", "promote", "one", "--to", "prod")
    assert older.status == 2
    assert "leads to two-prod, which was promoted later; revoke that one" in older.err
    listed = run("images", "list").out.splitlines()
    assert listed[0].endswith("COPY OF")
    assert [line.split()[-1] for line in listed if line.startswith("two-prod ")] == ["two"]
    assert (
        "image local/two-prod may be used: published by Goldsmith, verified" in run("images", "check", "two-prod").out
    )
    assert run("images", "lineage", "two-prod", "--json").document()[1]["name"] == "two"
    done = run("images", "revoke", "two", "--reason", "bad")
    assert done.out.splitlines() == [
        "image local/two is revoked: bad",
        "family hello leads to one",
        "its copy two-prod is revoked; family hello-prod leads to one-prod",
    ]
    assert families(images) == {
        "one": (FAMILY, None),
        "two": (FAMILY, "OBSOLETE"),
        "one-prod": ("hello-prod", None),
        "two-prod": ("hello-prod", "OBSOLETE"),
    }
    assert run("images", "check", "two-prod").status == 1


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("two",), "Missing option '--to'"),
        (("two", "--to", "prd"), "there is no channel 'prd'; did you mean prod?"),
        (("none", "--to", "prod"), "image none of project local cannot be promoted: it is not there"),
        (("my-project/two", "--to", "prod"), "image my-project/two is not of this machine"),
        (("No Name", "--to", "prod"), "not a valid name"),
    ],
)
def test_bad_input_is_2_and_makes_nothing(run: Commands, images: Path, words: tuple[str, ...], text: str) -> None:
    before = families(images)
    done = run("images", "promote", *words)
    assert (done.status, done.out) == (2, "")
    assert text in " ".join(done.err.split())
    assert families(images) == before


@pytest.mark.parametrize(
    ("channels", "text"),
    [
        ("", "channels.json: not JSON"),
        ({"Prod": {}}, "channels.json: 'Prod' is no name of a channel"),
        ({"prod": {"approver": "ann"}}, "channels.json: prod: 'approver': unknown key; write approvers"),
        (" " * 70_000, "channels.json has more than 64 KiB"),
    ],
)
def test_channels_that_cannot_be_read_are_said_where_they_are_needed(
    run: Commands, images: Path, channels: object, text: str
) -> None:
    write(images, channels)
    done = run("images", "promote", "two", "--to", "prod")
    assert (done.status, text in done.err) == (2, True), done.err
    assert run("images", "list").status == 0


def test_an_image_waits_for_a_word_that_is_recorded(run: Commands, images: Path) -> None:
    asked = run("images", "promote", "two", "--to", "vault")
    assert (asked.status, asked.err, families(images).get("two-vault")) == (0, "", None)
    assert asked.out.splitlines()[0].startswith(
        "the promotion of image two of project local to the channel vault waits for approval until "
    )
    assert asked.out.endswith("approve it: goldsmith images approve two --channel vault --reason TEXT\n")
    listed = run("images", "approvals").out.splitlines()
    assert [listed[0].split()[:2], listed[1].split()[:2]] == [["IMAGE", "CHANNEL"], ["two", "vault"]]
    assert listed[1].endswith("none yet")
    refused = run("images", "approve", "two", "--channel", "vault", "--reason", "too early", "--refuse")
    me = pwd.getpwuid(os.getuid()).pw_name
    assert refused.out == (
        f"the promotion of image two of project local to the channel vault was refused by {me}: too early\n"
    )
    assert run("images", "approvals", "--json").document() == []
    again = run("images", "promote", "two", "--to", "vault", "--json").document()
    assert (again["state"], again["number"], again["by"]) == ("waiting", 2, me)
    [waits] = run("images", "approvals", "--json").document()
    assert waits == again
    done = run("images", "approve", "local/two", "--channel", "vault", "--reason", "good")
    assert done.out.splitlines()[0] == "image local/two is in the channel vault, as two-vault"
    assert families(images)["two-vault"] == ("hello-vault", None)
    late = run("images", "approve", "two", "--channel", "vault", "--reason", "good")
    assert (late.status, f"was approved by {me}" in late.err) == (2, True)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("two", "--channel", "vault"), "Missing option '--reason'"),
        (("two", "--reason", "good"), "Missing option '--channel'"),
        (("two", "--channel", "vault", "--reason", "good"), "no promotion of image two of project local to the"),
        (("two", "--channel", "vault", "--reason", ""), "reason: write one line of 1 to 500 characters that says why"),
        (("my-project/two", "--channel", "vault", "--reason", "good"), "image my-project/two is not of this machine"),
        (("two", "--channel", "vault", "--reason", "a", "--token-file", "t"), "name one with --project"),
        (("two", "--channel", "a/b", "--reason", "a", "--project", "my-project"), "'a/b' is not a valid name"),
        (("a/b/two", "--channel", "vault", "--reason", "a", "--project", "my-project"), "'a/b' is not a project id"),
    ],
)
def test_a_word_on_nothing_is_refused(run: Commands, images: Path, words: tuple[str, ...], text: str) -> None:
    done = run("images", "approve", *words)
    assert (done.status, done.out, text in " ".join(done.err.split())) == (2, "", True), done.err


def test_no_channels_and_no_plain_file(run: Commands, images: Path) -> None:
    (images / "channels.json").unlink()
    assert "no channels are set up" in run("images", "promote", "two", "--to", "prod").err
    os.mkfifo(images / "channels.json")
    assert "is no plain file; write the channels into one" in run("images", "promote", "two", "--to", "prod").err


def test_no_file_is_imported_into_a_channel(run: Commands, images: Path, tmp_path: Path) -> None:
    refused = run("images", "import", tmp_path / "disk.raw", "--name", "mine", "--family", "hello-prod")
    assert (refused.status, "--family: hello-prod is the channel prod of the family hello" in refused.err) == (2, True)
    assert "mine" not in families(images)


def test_a_damaged_entry_of_the_catalogue_is_said_and_stays(run: Commands, images: Path) -> None:
    run("images", "promote", "two", "--to", "prod")
    record = images / "images" / "two-prod" / "image.json"
    record.write_text("{")
    done = run("images", "promote", "two", "--to", "prod")
    assert (done.status, done.out) == (1, "")
    assert f"{record}: is damaged" in done.err
    assert record.read_text() == "{"


def test_a_process_that_is_killed_leaves_a_promotion_that_goes_on(run: Commands, images: Path) -> None:
    assert run("images", "promote", "one", "--to", "prod").status == 0
    ended = 0
    for last in range(3, 80, 4):
        process = _PROCESSES.Process(target=_promote_and_die, args=(str(images), last))
        process.start()
        process.join(240)
        found = families(images)
        assert found["one-prod"] == ("hello-prod", None)
        assert found.get("two-prod") in (None, (None, None), ("hello-prod", None))
        ended = process.exitcode or 0
        if ended == 0:
            break
        assert ended == -signal.SIGKILL
    assert ended == 0
    assert run("images", "promote", "two", "--to", "prod", "--json").document()["already"]
