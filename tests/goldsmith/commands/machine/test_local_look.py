"""What the dashboard sees of a real machine: disks are read once, and what builds have left is listed."""

from __future__ import annotations

from pathlib import Path

import pytest

from goldsmith.commands.machine.local_look import MOST_ANSWERS, LocalLook
from shared.errors import InputError
from shared.host.build_folder import BuildFolder
from shared.runtime import opening
from tests.shared.disks.small_disks import os_tree, rooted


def test_disks_are_read_once_and_by_the_ids_of_images(tmp_path: Path) -> None:
    tree = os_tree(tmp_path / "tree")
    with opening.local(tmp_path / "home") as backend:
        look = LocalLook(backend)
        for name in ("one", "two"):
            (tree / "etc/name").write_text(name)
            backend.catalogue.add(rooted(tmp_path / f"{name}.raw", tree), name, transfer="move")
        sizes = look.folders("one")
        found = look.difference("one", "two")
        assert {change.path for inside in found.contents for change in inside.files} == {"/etc/name"}
        assert look.folders("one") is sizes
        assert look.difference("one", "two") is found
        assert look.difference("two", "one") is not found
        backend.catalogue.delete("one")
        with pytest.raises(InputError, match="there is no image one"):
            look.folders("one")
        (tree / "etc/more").write_bytes(b"x" * 1000)
        backend.catalogue.add(rooted(tmp_path / "one.raw", tree), "one", transfer="move")
        assert look.folders("one").bytes == sizes.bytes + 1000


def test_no_more_answers_are_kept_than_a_person_needs(tmp_path: Path) -> None:
    disk = rooted(tmp_path / "disk.raw", os_tree(tmp_path / "tree"))
    with opening.local(tmp_path / "home") as backend:
        look = LocalLook(backend)
        for number in range(MOST_ANSWERS + 1):
            backend.catalogue.add(disk, f"image-{number}", content=str(number))
        first = look.folders("image-0")
        for number in range(1, MOST_ANSWERS + 1):
            look.folders(f"image-{number}")
        assert look.folders("image-0") == first
        assert look.folders("image-0") is not first


def test_what_a_build_has_left_is_listed_and_stays(tmp_path: Path) -> None:
    with opening.local(tmp_path / "home") as backend:
        folder = BuildFolder(backend.home, "gone-0123456789ab")
        disk = folder.disk("gs-gone-0123456789ab-a1-boot")
        disk.parent.mkdir(parents=True)
        disk.write_bytes(b"")
        [left] = LocalLook(backend).orphans()
        assert (left.kind, left.name, left.build_id) == ("disk", disk.stem, "gone-0123456789ab")
        assert disk.exists()
        assert opening.builds_here(backend).sweep() == [f"disk {disk.stem}"]
        assert LocalLook(backend).orphans() == []
