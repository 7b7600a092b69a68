"""A disk that is full: found out before anything is made, and survived when it happens."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from shared.clock import SystemClock
from shared.images.catalogue import Catalogue
from tests.shared.disks.small_disks import os_tree, rooted
from tests.system.command import Document, Goldsmith, is_event, is_report
from tests.system.small_disk import SmallDisk, small_disk

ENVIRONMENT = 3
STEPS: list[Document] = [{"name": "one", "script": "echo one > /var/lib/one\n"}]


def add_small_image(home: Path, folder: Path) -> None:
    """The only image, of family debian-12, which no machine could boot."""
    disk = rooted(folder / "small.raw", os_tree(folder / "tree"))
    Catalogue(home, SystemClock()).add(disk, "small-1", transfer="copy", family="debian-12")


def test_a_home_without_room_is_found_out_before(tmp_path: Path) -> None:
    with small_disk(tmp_path / "home", "100m") as place, Goldsmith(place.path, tmp_path, place) as goldsmith:
        add_small_image(place.inside, tmp_path)
        done = goldsmith.run("build", goldsmith.spec(STEPS))
        assert (done.status, done.out) == (ENVIRONMENT, ""), done.text
        assert f"{place.path}: the build VM's disk may need 0.5 GB and 0.1 GB are free" in done.err
        assert list((place.inside / "builds").iterdir()) == []


def test_an_output_folder_without_room_is_found_out_before(bare_goldsmith: Goldsmith, tmp_path: Path) -> None:
    add_small_image(bare_goldsmith.home, tmp_path)
    with small_disk(tmp_path / "out", "1m") as place, Goldsmith(bare_goldsmith.home, tmp_path, place) as goldsmith:
        filler = place.fill()
        done = goldsmith.run("build", goldsmith.spec(STEPS), "--output", place.path / "below")
        assert (done.status, done.out) == (ENVIRONMENT, ""), done.text
        assert f"{place.path}/below: the export may need 0.0 GB and 0.0 GB are free" in done.err
        assert list(place.inside.iterdir()) == [filler]
        assert list((goldsmith.home / "builds").iterdir()) == []


def test_a_state_without_room_is_told(tmp_path: Path) -> None:
    """Not even the state can be written: one message, and all works again when there is room."""
    with small_disk(tmp_path / "home", "1m") as place, Goldsmith(place.path, tmp_path, place) as goldsmith:
        filler = place.fill()
        done = goldsmith.run("builds", "list")
        assert done.status in (1, ENVIRONMENT), done.text
        assert "Traceback" not in done.err
        assert str(place.path) in done.err
        filler.unlink()
        assert goldsmith.builds() == []


@pytest.mark.vm
def test_an_output_folder_that_fills_up_fails_the_build(goldsmith: Goldsmith, tmp_path: Path) -> None:
    with small_disk(tmp_path / "out", "400m") as place, Goldsmith(goldsmith.home, tmp_path, place) as inside:
        running = inside.start("build", inside.spec(STEPS), "--json", "--output", place.path)
        running.until(is_event("MachineStarted"))
        filler = place.fill()
        done = running.finish()
        build = done.documents()[-1]["build"]
        assert (done.status, build["outcome"]) == (ENVIRONMENT, "failed"), done.text
        assert [entry["kind"] for entry in build["ledger"]] == ["image"]
        assert build["reason"].startswith(f"no space: {place.path}")
        assert list(place.inside.iterdir()) == [filler]
        filler.unlink()
        retried = inside.run("builds", "retry", build["id"])
        assert retried.status == 0, retried.text
        assert [path.name for path in place.inside.iterdir() if path.name.endswith(".tar.gz")] != []
        assert len(inside.images()) == 1
    goldsmith.traces.assert_none()


@pytest.mark.vm
def test_a_home_that_fills_up_is_survived(goldsmith: Goldsmith, tmp_path: Path) -> None:
    """Neither the guest's disk nor the state can be written any more: the build ends for that, and nothing is left."""
    with small_disk(tmp_path / "small", "1600m") as place, Goldsmith(place.path, tmp_path, place) as inside:
        move_home(goldsmith.home, place)
        script = "while :; do head --bytes=30M /dev/urandom > /var/lib/much; sync; done\n"
        running = inside.start("build", inside.spec([{"name": "much", "script": script}]), "--json")
        running.until(is_report("started"))

        def wanted(full: bool) -> bool:  # a guest whose file system fails gives blocks back, and its loop goes on
            ended = running.ends_within(0.05) if full else False
            return not ended and any((place.inside / "builds").glob("*/disks/*"))

        filler = place.keep_full(wanted)
        done = running.finish()
        build = done.documents()[-1]["build"]
        assert (done.status, build["outcome"], build["ledger"]) == (ENVIRONMENT, "failed", []), done.text
        assert build["reason"].startswith(f"no space: {place.path}")
        assert "Traceback" not in done.err
        inside.traces.wait_for_no_process()
        assert list((place.inside / "builds").glob("*/disks")) == []
        filler.unlink()
        (listed,) = inside.builds()
        assert (listed["state"], listed["outcome"]) == ("finished", "failed")
        folders = [path.name for path in (place.inside / "builds").glob("*/*")]
        assert folders in ([], ["logs"])


def move_home(home: Path, place: SmallDisk) -> None:
    """Copy images, sparse as they are, and the cache."""
    catalogue = Catalogue(home, SystemClock())
    (image,) = catalogue.list()
    Catalogue(place.inside, SystemClock()).add(
        catalogue.disk(image.name), image.name, transfer="copy", family=image.family
    )
    shutil.copytree(home / "cache", place.inside / "cache", dirs_exist_ok=True)
