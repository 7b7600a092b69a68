"""A GOLDSMITH_HOME of release 8d52f8c under the present one: every killed build in it is finished, images are kept."""

from __future__ import annotations

import json
import re
import sqlite3
import time
from pathlib import Path

import pytest

from shared.build.build import Build, Outcome
from shared.build.resources import staged_export
from shared.runtime import opening
from tests.shared.disks.small_disks import left_clean
from tests.upgrade import release

NEED_A_VM = (
    "exporting",
    "verifying",
)  # a real one, and a disk that it has left; tests/upgrade/test_upgrade.py has them


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """That home, with disks that have little more than a root."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    (home / "master.key").write_bytes(bytes.fromhex(release.text("master.key")))
    connection = sqlite3.connect(home / "state.db")
    soon = re.sub(
        r'"deadline":[0-9.]+', f'"deadline":{time.time() + 3600}', release.text("state.sql")
    )  # it was just now
    connection.executescript(soon.replace(release.HOME, str(tmp_path)))
    for place, build_id in release.places().items():
        if place.startswith(NEED_A_VM):
            connection.execute("DELETE FROM builds WHERE id = ?", (build_id,))
    connection.commit()
    connection.close()
    disk = left_clean(tmp_path / "disk.raw", "etc")
    for name, record in release.document("catalogue.json").items():
        folder = home / "images" / name
        folder.mkdir(parents=True)
        known = f"sha256-{name}"  # to the builds, whose images were made by another catalogue
        (folder / "image.json").write_text(json.dumps(json.loads(record) | {"id": known}))
        (folder / "disk.raw").hardlink_to(disk)
    for uri, data in release.document("world.json")["objects"].items():
        path = Path(uri.replace(release.HOME, str(tmp_path)))
        if path.is_absolute():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(data)
    return home


def test_what_was_killed_is_finished(home: Path) -> None:
    with opening.local(home) as opened:
        builds_of_home = opening.builds_here(opened)
        for build in builds_of_home.interrupted():
            builds_of_home.resume(build.id)
        kept = {place: build_id for place, build_id in release.places().items() if not place.startswith(NEED_A_VM)}
        builds = {place: opened.store.load(build_id).build for place, build_id in kept.items()}
        assert len(opened.store.builds()) == len(kept)
        assert [build.id for build in builds.values() if not build.finished] == []
        images = {image.name: image for image in opened.compute.images("local")}
    for place, build in builds.items():
        if place.partition("-")[0] in ("preparing", "provisioning"):  # their VMs have gone with their process
            assert build.outcome is Outcome.CANCELLED
        if place in ("publishing", "publishing-labelled", "publishing-told", "publishing-deprecates"):
            assert build.outcome is Outcome.SUCCEEDED, build.reason
        if build.outcome is Outcome.SUCCEEDED:
            assert build.plan is not None
            assert images[build.plan.image.name].family == build.plan.image.family
            assert_archived(build)


def assert_archived(build: Build) -> None:
    """What is published is under its name, and nothing is staged."""
    assert build.plan is not None
    if build.plan.image.export_to is not None and not build.name.startswith("finished"):
        assert Path(build.plan.image.export_to).exists()
        assert not Path(staged_export(build.plan)).exists()
