"""goldsmith images export of an image that a build has made: its manifest and its bill of materials go along."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from shared.build.build import Outcome, State
from shared.clock import SystemClock
from shared.images.catalogue import Catalogue
from shared.local.database import Database
from shared.local.store import LocalStore
from shared.names import BUILD_LABEL
from tests.goldsmith.command_line import Commands
from tests.shared.disks.small_disks import MIB, os_tree, rooted
from tests.world import values

NAME = values.plan().image.name
MADE = values.build(state=State.FINISHED, outcome=Outcome.SUCCEEDED, image=values.image_record())


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with an image, and the build that has made it."""
    home = tmp_path / "home"
    disk = rooted(tmp_path / "disk.raw", os_tree(tmp_path / "tree"))
    Catalogue(home, SystemClock()).add(disk, NAME, transfer="move", labels={BUILD_LABEL: MADE.id})
    with Database(home / "state.db") as database:
        store = LocalStore(database)
        store.create(replace(MADE, state=State.PREPARING, outcome=None), values.requested())
        store.save(MADE, store.load(MADE.id).version)
    return home


def test_the_bill_of_materials_goes_along(home: Path, tmp_path: Path) -> None:
    logs = home / "builds" / MADE.id / "logs"
    logs.mkdir(parents=True)
    for suffix in (".spdx.json", ".cdx.json"):
        (logs / f"{NAME}{suffix}").write_text(suffix)
    out = tmp_path / "out"
    done = Commands(home, tmp_path)("images", "export", NAME, "--output", out)
    assert done.status == 0, done.err
    files = sorted(path.name for path in out.iterdir())
    assert files == [f"{NAME}{suffix}" for suffix in (".cdx.json", ".json", ".spdx.json", ".tar.gz")]
    assert (out / f"{NAME}.cdx.json").read_text() == ".cdx.json"
    manifest = json.loads((out / f"{NAME}.json").read_text())
    assert manifest["sbom"] == [f"{NAME}.spdx.json", f"{NAME}.cdx.json"]
    assert [package["name"] for package in manifest["packages"]] == ["adduser", "zlib1g"]


def test_what_a_killed_export_has_left_goes_with_the_next(home: Path, tmp_path: Path) -> None:
    disk = rooted(tmp_path / "large.raw", os_tree(tmp_path / "more"), 256 * MIB)
    with disk.open("r+b") as file:
        file.seek(64 * MIB)
        for _ in range(160):
            file.write(os.urandom(MIB))
    Catalogue(home, SystemClock()).add(disk, "large", transfer="move")
    out = tmp_path / "out"
    run = Commands(home, tmp_path)
    for _ in range(20):  # on a busy machine an export may be done before it is seen to have begun
        with run.started("images", "export", "large", "--output", out) as process:
            while process.is_alive() and not list(out.glob(".scratch-*/large.tar.gz")):
                process.join(0.01)
            process.kill()
            process.join(30)
        if list(out.glob(".scratch-*")):
            break
        (out / "large.tar.gz").unlink()
    assert [path.name.partition("-")[0] for path in out.iterdir()] == [".scratch"]
    assert run("images", "export", "large", "--output", out).status == 0
    assert [path.name for path in out.iterdir()] == ["large.tar.gz"]


def test_one_from_before_there_were_any_is_exported_without(home: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert Commands(home, tmp_path)("images", "export", NAME, "--output", out).status == 0
    assert sorted(path.name for path in out.iterdir()) == [f"{NAME}.json", f"{NAME}.tar.gz"]
    assert json.loads((out / f"{NAME}.json").read_text())["sbom"] == []
