"""Whole disks of elements boot by both kinds of firmware."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.provisioner.elements.element_folders import ORIGINAL, element
from tests.shared.sandbox.ordinary_user import MODES
from tests.system.command import Goldsmith
from tests.system.firmware import TELL, boot

pytestmark = [pytest.mark.slow, pytest.mark.vm]

UNPACK = '#!/bin/bash\nset -eu\nsudo tar -C "$TARGET_ROOT" -xf "$TMP_HOOKS_PATH/files/root.tar"\n'


def made(goldsmith: Goldsmith, elements: list[str], env: dict[str, str], *, network: bool) -> Path:
    """Build a spec of elements, which lie in its context; return the disk of the image."""
    source = {"elements": {"elements": elements, "env": env}}
    local = {"network": network, "memory_mb": 1024}
    spec = goldsmith.spec([{"name": "rest", "action": "elements"}], source=source, local=local, hygiene="warn")
    shutil.copytree(goldsmith.folder / "elements", spec.parent / "context" / "elements", symlinks=True)
    done, build = goldsmith.build(spec)
    assert build["outcome"] == "succeeded", done.text
    [image] = [image for image in goldsmith.images() if not image["name"].startswith("elements-")]
    return goldsmith.home / "images" / str(image["name"]) / "disk.raw"


@pytest.mark.soak
@pytest.mark.parametrize("user", MODES[-1:], indirect=True)
def test_a_disk_of_elements_boots_by_uefi(empty: Goldsmith, debian_rootfs: Path, tmp_path: Path) -> None:
    folder = empty.folder / "elements"
    files = {"root.d/10-root": UNPACK, "install.d/50-tell": TELL}
    system = element(folder, "system", files, needs="block-device-efi", provides="operating-system")
    (system / "files").mkdir()
    shutil.copyfile(debian_rootfs, system / "files" / "root.tar")
    shutil.copytree(ORIGINAL / "block-device-efi", folder / "block-device-efi")
    disk = made(empty, ["system"], {}, network=False)
    console = boot(disk, "efi", tmp_path)
    assert "booted by efi" in console, console[-4000:]
    assert " cloudimg-rootfs rw" in console


@pytest.mark.soak
@pytest.mark.parametrize("user", MODES[-1:], indirect=True)
@pytest.mark.parametrize(
    ("disk", "firmwares"), [("block-device-efi", ("efi", "bios")), ("block-device-gpt", ("bios",)), ("", ("bios",))]
)
def test_the_original_debian_boots(empty: Goldsmith, tmp_path: Path, disk: str, firmwares: tuple[str, ...]) -> None:
    """With vm, whose bootloader configures GRUB, and with each disk that the original has."""
    mirror = os.environ.get("GOLDSMITH_TEST_MIRROR", "http://deb.debian.org")
    env = {
        "DIB_RELEASE": "bookworm",
        "DIB_DISTRIBUTION_MIRROR": f"{mirror}/debian",
        "DIB_DEBIAN_SECURITY_MIRROR": f"{mirror}/debian-security",
    }
    shutil.copytree(ORIGINAL, empty.folder / "elements", symlinks=True)
    element(empty.folder / "elements", "tells", {"install.d/50-tell": TELL})
    image = made(empty, ["debian-minimal", "vm", disk or "block-device-mbr", "tells"], env, network=True)
    for firmware in firmwares:
        console = boot(image, firmware, tmp_path)
        assert f"booted by {firmware}" in console, console[-4000:]
        assert " cloudimg-rootfs rw" in console
        assert "failed units: 0" in console
