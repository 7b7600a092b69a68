"""goldsmith images export of an image that a build has made: its manifest and its bill of materials go along."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from shared.build import Outcome, State
from shared.clock import SystemClock
from shared.local.catalogue import Catalogue
from shared.local.database import Database
from shared.local.store import LocalStore
from shared.names import BUILD_LABEL
from tests import values
from tests.goldsmith.commands import Commands
from tests.local.small_disks import os_tree, rooted

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


def test_one_from_before_there_were_any_is_exported_without(home: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert Commands(home, tmp_path)("images", "export", NAME, "--output", out).status == 0
    assert sorted(path.name for path in out.iterdir()) == [f"{NAME}.json", f"{NAME}.tar.gz"]
    assert json.loads((out / f"{NAME}.json").read_text())["sbom"] == []
