"""What a step of elements leaves behind is removed, and what was there before is not."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from provisioner.elements.leftovers import LEFTOVERS_RECORD, Leftovers
from provisioner.elements.variables import WORK

LENT = "nameserver 10.0.2.3\n"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class Place:
    """An image's root and the folder of the job's state."""

    def __init__(self, folder: Path) -> None:
        self.root, self.state = folder / "root", folder / "state"
        for path in ("tmp", "usr/local/bin", "usr/share", "etc", "run/goldsmith"):
            (self.root / path).mkdir(parents=True)
        self.state.mkdir()
        self.leftovers = Leftovers(str(self.root), str(self.state))
        self.resolv, self.wanted = self.root / "etc/resolv.conf", self.root / "etc/resolv.conf.ORIG"
        self.kept = self.root / "etc/resolv.conf.goldsmith"

    def lend(self, own: str | None) -> None:
        """Lend a name server, as the direct boot and the sandbox do."""
        (self.root / "run/goldsmith/resolv.conf").write_text(LENT)
        if own is None:
            self.resolv.symlink_to("/run/goldsmith/resolv.conf")
        else:
            self.kept.write_text(own)
            self.resolv.write_text(LENT)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_only_what_the_step_made_is_removed(place: Place) -> None:
    """Mended: diskimage-builder's own programs and data ship in the image."""
    for path in ("tmp/before", "usr/local/bin/svc-map", "usr/local/bin/mine"):
        (place.root / path).write_text("")
    place.leftovers.begin()
    (place.state / WORK / "hooks").mkdir(parents=True)
    (place.root / "tmp/in_target.d/deep").mkdir(parents=True)
    (place.root / "tmp/a*b").write_text("")
    (place.root / "usr/share/pkg-map").mkdir()
    for name in ("pkg-map", "install-packages", "dib-python", "my-tool"):
        (place.root / "usr/local/bin" / name).write_text("")
    assert place.leftovers.remove() == []
    assert names(place.root / "tmp") == ["before"]
    assert names(place.root / "usr/local/bin") == ["mine", "my-tool", "svc-map"]
    assert names(place.root / "usr/share") == []
    assert names(place.state) == []
    assert names(place.root / "etc") == []


def test_an_interrupted_step_is_cleaned_up_after(place: Place) -> None:
    (place.root / "tmp/before").write_text("")
    place.leftovers.begin()
    (place.root / "tmp/left").write_text("")
    (place.state / WORK).mkdir()
    again = Leftovers(str(place.root), str(place.state))
    again.begin()
    assert names(place.root / "tmp") == ["before"]
    assert names(place.state) == [LEFTOVERS_RECORD]
    (place.state / LEFTOVERS_RECORD).write_text("{")
    (place.root / "tmp/left").write_text("")
    assert Leftovers(str(place.root), str(place.state)).remove() == []
    assert names(place.root / "tmp") == ["before", "left"]


def test_links_lead_nowhere(place: Place, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/pkg-map").write_text("")
    place.leftovers.begin()
    (place.root / "usr/local/bin").rmdir()
    (place.root / "usr/local/bin").symlink_to(tmp_path / "elsewhere")
    (place.root / "tmp/link").symlink_to(tmp_path / "elsewhere")
    place.leftovers.remove()
    assert names(tmp_path / "elsewhere") == ["pkg-map"]
    assert names(place.root / "tmp") == []


@pytest.mark.parametrize("own", ["nameserver 192.0.2.1\n", None])
def test_a_lent_resolv_conf_stays_lent(place: Place, own: str | None) -> None:
    place.lend(own)
    place.leftovers.begin()
    assert (place.wanted.read_text() if own else place.wanted.exists()) == (own or False)
    if own:
        place.resolv.write_text("# a script's\n")
    assert place.leftovers.remove() == []
    assert not place.wanted.exists()
    assert place.resolv.is_symlink() == (own is None)
    if own:
        assert (place.resolv.read_text(), place.kept.read_text()) == (LENT, own)


@pytest.mark.parametrize("own", ["nameserver 192.0.2.1\n", None])
def test_elements_choose_the_resolv_conf_of_the_image(place: Place, own: str | None) -> None:
    """Mended: the resolv.conf of diskimage-builder's host can ship in the image."""
    place.lend(own)
    place.leftovers.begin()
    place.wanted.unlink(missing_ok=True)
    place.wanted.write_text("nameserver 192.0.2.7\n")
    place.leftovers.remove()
    assert (place.kept.read_text(), place.resolv.read_text()) == ("nameserver 192.0.2.7\n", LENT)
    assert not place.resolv.is_symlink()


def test_without_a_lent_one_the_file_itself_is_changed(place: Place) -> None:
    place.resolv.write_text("nameserver 192.0.2.1\n")
    place.leftovers.begin()
    place.wanted.unlink()
    place.wanted.symlink_to("../run/systemd/resolve/stub-resolv.conf")
    place.leftovers.remove()
    assert str(place.resolv.readlink()) == "../run/systemd/resolve/stub-resolv.conf"
    place.leftovers.begin()
    place.wanted.unlink()
    place.leftovers.remove()
    assert names(place.root / "etc") == []


def test_a_link_that_a_package_has_made_stays(place: Place) -> None:
    place.lend("nameserver 192.0.2.1\n")
    place.leftovers.begin()
    place.resolv.unlink()
    place.resolv.symlink_to("/run/resolvconf/resolv.conf")
    place.leftovers.remove()
    assert str(place.resolv.readlink()) == "/run/resolvconf/resolv.conf"
    assert not place.wanted.exists()


def test_the_images_own_file_of_that_name_is_left_alone(place: Place) -> None:
    place.resolv.write_text("a\n")
    place.wanted.write_text("b\n")
    place.leftovers.begin()
    assert json.loads((place.state / LEFTOVERS_RECORD).read_text())["resolv"] is None
    place.leftovers.remove()
    assert (place.resolv.read_text(), place.wanted.read_text()) == ("a\n", "b\n")


WRONG = [
    "",
    "[]",
    "[" * 100_000,
    json.dumps({"temporary": 3, "tools": [], "data": [], "resolv": None}),
    json.dumps({"temporary": [3], "tools": [], "data": [], "resolv": None}),
    json.dumps({"temporary": [], "tools": [], "data": []}),
    json.dumps({"temporary": [], "tools": [], "data": [], "resolv": 3}),
    json.dumps({"temporary": [], "tools": [], "data": [], "resolv": {"offered": {"link": 3}, "used": None}}),
    json.dumps({"temporary": [], "tools": [], "data": [], "resolv": {"offered": {"text": "x"}, "used": None}}),
]


@pytest.mark.parametrize("text", [*WRONG, None], ids=range(len(WRONG) + 1))
def test_a_record_that_a_script_has_changed_is_not_believed(place: Place, text: str | None) -> None:
    """Not by the step itself, which knows what it wrote, and not by the try after a power cut, which does not."""
    record = place.state / LEFTOVERS_RECORD
    place.lend("nameserver 192.0.2.7\n")
    for begun in (True, False):
        place.leftovers.begin()
        (place.root / "tmp/made").write_text("")
        record.unlink()
        if text is None:
            os.mkfifo(record)
        else:
            record.write_text(text)
        leftovers = place.leftovers if begun else Leftovers(str(place.root), str(place.state))
        assert leftovers.remove() == []
        assert names(place.root / "tmp") == ([] if begun else ["made"])
        assert names(place.state) == []


def test_a_folder_in_the_place_of_the_record_goes(place: Place) -> None:
    place.leftovers.begin()
    record = place.state / LEFTOVERS_RECORD
    record.unlink()
    (record / "deep").mkdir(parents=True)
    Leftovers(str(place.root), str(place.state)).begin()
    assert record.is_file()
