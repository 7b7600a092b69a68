"""The elements of a command line are found on its own path, and in diskimage-builder where they need that."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.elements.ordered import configured_disk, element_disk, known_variables, ordered_elements
from shared.errors import InputError
from tests.provisioner.elements.element_folders import ORIGINAL, element

DISK = "- local_loop: {name: image0, mkfs: {mount: {mount_point: /}}}\n"


def none_is_there() -> Path:
    raise AssertionError("the elements of diskimage-builder were looked for")


@pytest.fixture
def own(tmp_path: Path) -> Path:
    folder = tmp_path / "elements"
    element(folder, "system", provides="operating-system")
    element(
        folder,
        "app",
        {
            "environment.d/10-app-": "export APP_RELEASE=${APP_RELEASE:-1}\nexport B=2\n",
            "block-device-default.yaml": DISK,
        },
    )
    return folder


def test_elements_of_its_own_are_enough(own: Path) -> None:
    path, chosen = ordered_elements(["app", "system"], [str(own)], none_is_there)
    assert path == (str(own),)
    assert [each.name for each in chosen.elements] == ["app", "system"]
    assert known_variables(chosen) == {"APP_RELEASE", "B"}


def test_those_of_diskimage_builder_come_last(own: Path) -> None:
    path, chosen = ordered_elements(["app", "debian-minimal"], [str(own)], lambda: ORIGINAL)
    assert path == (str(own), str(ORIGINAL))
    assert {"app", "debian-minimal", "package-installs"} <= {each.name for each in chosen.elements}
    assert "DIB_RELEASE" in known_variables(chosen)


def test_they_are_not_looked_for_where_the_path_has_them(own: Path) -> None:
    with pytest.raises(InputError, match=r"there is no element vmm in .*; did you mean vm\?"):
        ordered_elements(["vmm", "app", "debian-minimal"], [str(own), str(ORIGINAL)], none_is_there)


def test_a_path_that_is_no_folder_is_told_first(own: Path) -> None:
    with pytest.raises(InputError, match="/none: is no folder; name folders that hold elements"):
        ordered_elements(["vm"], [str(own), str(own / "none")], none_is_there)


def test_the_disk_is_that_of_the_first_element_with_one(own: Path) -> None:
    element(own, "other", {"block-device-amd64.yaml": DISK.replace("image0", "first"), "block-device-default.yaml": ""})
    _, chosen = ordered_elements(["other", "app", "system"], [str(own)], none_is_there)
    disk, name = element_disk(chosen.elements)
    assert (disk[0]["local_loop"]["name"], name) == ("first", "other/block-device-amd64.yaml")
    assert element_disk(chosen.elements[2:]) == (None, "")


@pytest.mark.parametrize("name", ["block-device-mbr", "block-device-gpt", "block-device-efi", "block-device-efi-lvm"])
def test_disks_of_diskimage_builder_are_read(name: str) -> None:
    _, chosen = ordered_elements(["vm", "debian-minimal", name], [str(ORIGINAL)], none_is_there)
    disk, where = element_disk(chosen.elements)
    assert disk[0] == {"local_loop": {"name": "image0"}}
    assert where == f"{name}/block-device-default.yaml"


def test_a_disk_that_is_wrong_is_told_with_its_place(own: Path) -> None:
    element(own, "bad", {"block-device-default.yaml": "- local_loop: {name: image0}\n- mkfs:\n    base: none\n"})
    _, chosen = ordered_elements(["bad", "system"], [str(own)], none_is_there)
    with pytest.raises(InputError, match=r"bad/block-device-default\.yaml:3:5: .*base: 'none' is no"):
        element_disk(chosen.elements)


def test_a_disk_that_is_no_text_is_told(own: Path) -> None:
    bad = element(own, "bad")
    (bad / "block-device-default.yaml").write_bytes(b"- local_loop: {name: \xff}\n")
    _, chosen = ordered_elements(["bad", "system"], [str(own)], none_is_there)
    with pytest.raises(InputError, match="is not UTF-8; save the file as UTF-8"):
        element_disk(chosen.elements)


def test_a_disk_may_be_configured(tmp_path: Path) -> None:
    (tmp_path / "disk.yaml").write_text(DISK)
    assert configured_disk(DISK) == configured_disk(f"file://{tmp_path}/disk.yaml")
    with pytest.raises(InputError, match="none: no such file or directory; make it a small file"):
        configured_disk(f"file://{tmp_path}/none")
    with pytest.raises(InputError, match=r"DIB_BLOCK_DEVICE_CONFIG:1:1: .*cannot be"):
        configured_disk("x")
