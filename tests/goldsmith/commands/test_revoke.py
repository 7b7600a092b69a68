"""goldsmith images revoke and check, with images of a home, and processes that are killed while they revoke."""

from __future__ import annotations

import multiprocessing
import signal
import sqlite3
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from shared.build.build import ImageRecord
from shared.build.plan import SpecPlace
from shared.images.catalogue import Catalogue
from shared.published.revocation import revoke_image
from shared.runtime.one_machine import open_one_machine
from tests.goldsmith.command_line import Commands
from tests.shared.disks.small_disks import os_tree, rooted
from tests.world.deadly import deadly
from tests.world.published import FAMILY, add_build, build_of

_PROCESSES = multiprocessing.get_context("forkserver")


def _revoke_and_die(home: str, last: int) -> None:
    with open_one_machine(Path(home)) as backend:
        revoke_image("local", "two", "bad", deadly(backend, last))


@pytest.fixture
def images(home: Path, tmp_path: Path) -> Path:
    """A home with two images of one family, of which the newer one's build has deprecated the older one."""
    disk = tmp_path / "disk.raw"
    disk.write_bytes(bytes(1 << 20))
    with open_one_machine(home) as backend:
        for name in ("one", "two"):
            build = build_of(name, replaced=("one",) if name == "two" else ())
            assert build.plan is not None
            labels = build.plan.image.labels
            image = backend.catalogue.add(disk, name, family=FAMILY, labels=labels, content=name)
            add_build(backend.store, replace(build, image=ImageRecord("local", name, image.id)))
            time.sleep(0.01)  # the catalogue dates its images
        backend.compute.deprecate_image("local", "one", "two", None)
    return home


def states(home: Path) -> dict[str, str | None]:
    catalogue = Catalogue(home, None)  # type: ignore[arg-type]  # nothing is made here
    return {image.name: image.deprecated for image in catalogue.list()}


def test_revoke_and_check(run: Commands, images: Path) -> None:
    for name in ("two", "local/two"):
        done = run("images", "check", name)
        assert (done.status, done.out) == (0, "image local/two may be used: published by Goldsmith, verified\n")
    done = run("images", "revoke", "two", "--reason", "its sshd takes any password")
    assert (done.status, done.err) == (0, "")
    assert done.out.splitlines() == [
        "image local/two is revoked: its sshd takes any password",
        "family hello leads to one, which is active again",
    ]
    assert states(images) == {"two": "OBSOLETE", "one": None}
    checked = run("images", "check", "two")
    assert checked.status == 1
    assert checked.out.startswith("image local/two must not be used: it was revoked at 20")
    assert checked.out.endswith("Z: its sshd takes any password\n")
    document = run("images", "check", "two", "--json").document()
    assert (document["usable"], document["revoked"]["reason"]) == (False, "its sshd takes any password")
    assert run("images", "check", "one", "--verified").status == 0
    again = run("images", "revoke", "two", "--reason", "other", "--json").document()
    assert (again["reason"], again["leads_to"]) == ("its sshd takes any password", "one")


def test_what_has_its_disk_open_is_told(run: Commands, images: Path) -> None:
    with (images / "images" / "two" / "disk.raw").open("rb") as disk:
        process = subprocess.Popen(["sleep", "600"], stdin=disk)
    user = f"process {process.pid}, which has its disk open"
    try:
        done = run("images", "revoke", "two", "--reason", "bad")
        assert done.out.splitlines()[-1] == f"in use by {user}"
        assert user in run("images", "check", "two").out
        document = run("images", "check", "two", "--json").document()
        assert document["usage"]["users"] == document["revoked"]["usage"]["users"] == [user]
    finally:
        process.kill()
        process.wait()
    after = run("images", "check", "two", "--json").document()
    assert (after["usage"]["users"], after["revoked"]["usage"]["users"]) == ([], [user])


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("revoke", "one"), "Missing option '--reason'"),
        (("revoke", "none", "--reason", "bad"), "there is no image none in project local"),
        (("revoke", "one", "--reason", " "), "reason: write one line"),
        (("revoke", "my-project/one", "--reason", "bad"), "image my-project/one is not of this machine"),
        (("check", "my-project/one"), "goldsmith images check --project ID"),
        (("check", "No Name"), "not a valid name"),
    ],
)
def test_bad_input_is_2_and_changes_nothing(run: Commands, images: Path, words: tuple[str, ...], text: str) -> None:
    before = states(images)
    done = run("images", *words)
    assert (done.status, done.out) == (2, "")
    assert text in " ".join(done.err.split())
    assert states(images) == before


def test_the_last_good_image_of_a_family_is_revoked_only_alone(run: Commands, images: Path) -> None:
    assert run("images", "revoke", "two", "--reason", "bad").status == 0
    refused = run("images", "revoke", "one", "--reason", "bad")
    assert (refused.status, "with --alone" in refused.err, states(images)["one"]) == (2, True, None)
    done = run("images", "revoke", "one", "--reason", "bad", "--alone")
    assert "family hello leads to no image any more; build one" in done.out
    assert states(images) == {"two": "OBSOLETE", "one": "OBSOLETE"}


def test_an_image_that_was_imported_is_none_of_ours(run: Commands, images: Path, tmp_path: Path) -> None:
    with open_one_machine(images) as backend:
        backend.catalogue.add(tmp_path / "disk.raw", "mine", family=FAMILY)
    refused = run("images", "revoke", "mine", "--reason", "bad")
    assert (refused.status, "was not made by Goldsmith" in refused.err) == (2, True)
    assert run("images", "check", "mine").out == "image local/mine must not be used: Goldsmith has not made it\n"


def test_a_record_that_cannot_be_read_is_no_yes(run: Commands, images: Path) -> None:
    with sqlite3.connect(images / "state.db") as database:
        database.execute("UPDATE images SET document = '{' WHERE name = 'two'")
    done = run("images", "check", "two")
    assert (done.status, done.out) == (1, "")
    assert "the document of image two is damaged" in done.err


def test_an_image_whose_record_cannot_be_read_is_shown(run: Commands, images: Path, tmp_path: Path) -> None:
    assert run("images", "import", rooted(tmp_path / "small.raw", os_tree(tmp_path / "tree"))).status == 0
    with sqlite3.connect(images / "state.db") as database:
        database.execute("INSERT INTO images VALUES ('local', 'small', '', 0, '{')")
    shown = run("images", "show", "small")
    assert (shown.status, "image:       local/small, id " in shown.out) == (0, True)
    assert "the document of image small is damaged" in shown.err


def test_killed_at_any_call_the_family_leads_to_one_of_both_and_the_command_goes_on(
    run: Commands, images: Path
) -> None:
    seen = []
    for last in range(1, 60):
        process = _PROCESSES.Process(target=_revoke_and_die, args=(str(images), last))
        process.start()
        process.join(240)
        seen.append(states(images))
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
        assert seen[-1] in (
            {"two": None, "one": "DEPRECATED"},
            {"two": None, "one": None},
            {"two": "OBSOLETE", "one": None},
        )
    assert len({str(state) for state in seen}) == 3
    assert run("images", "revoke", "two", "--reason", "bad").status == 0
    assert states(images) == {"two": "OBSOLETE", "one": None}


def test_what_cannot_be_built_again_is_named_with_the_reason(run: Commands, images: Path, tmp_path: Path) -> None:
    spec = tmp_path / "web.yaml"
    with open_one_machine(images) as backend:
        two = backend.catalogue.get("two")
        assert two is not None
        for name, place in (("web", SpecPlace(str(spec), source={"family": FAMILY})), ("old", None)):
            build = build_of(name, source="two")
            assert build.plan is not None
            plan = replace(build.plan, name=name, read_from=place, source=replace(build.plan.source, id=two.id))
            plan = replace(plan, image=replace(plan.image, family=name))
            labels = plan.image.labels
            made = backend.catalogue.add(tmp_path / "disk.raw", name, family=name, labels=labels, content=name)
            add_build(backend.store, replace(build, plan=plan, image=ImageRecord("local", name, made.id)))
    done = run("images", "revoke", "two", "--reason", "bad", "--cascade")
    assert done.status == 1
    assert "not built again: old: where its spec lies is not known; build that again" in done.out
    assert f"not built again: web: {spec}: the spec cannot be read" in done.out
    spec.write_text(f"name: web\nsource: {{project: local, family: {FAMILY}}}\nsteps: []\noutput: {{family: web}}\n")
    assert run("images", "revoke", "one", "--reason", "bad", "--alone").status == 0
    again = run("images", "revoke", "two", "--reason", "bad", "--cascade", "--json")
    assert (again.status, again.document()["rebuilt"]) == (1, [])
    assert f"project local has no active image in family {FAMILY}" in str(again.document()["not_rebuilt"])
