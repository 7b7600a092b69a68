"""Kernels: a restart starts the one that the boot loader would, and Linux 6.12, whose disks have any names, builds."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from shared.clock import SystemClock
from shared.disks.disk import Disk
from shared.images.catalogue import Catalogue
from tests.shared.disks.small_disks import tool
from tests.system.archives import root_partition
from tests.system.command import Goldsmith

pytestmark = [pytest.mark.vm, pytest.mark.soak]

LOOK = 'echo "$(uname -r) $(. /etc/os-release; echo $VERSION_CODENAME) $(findmnt -no FSTYPE /)" >>/var/lib/looked\n'
INSTALL = """set -e
release=$(ls modules)
cp -r "modules/$release" /usr/lib/modules/
cp vmlinuz "/boot/vmlinuz-$release"
ln -sf "boot/vmlinuz-$release" /vmlinuz
"""


def looked(goldsmith: Goldsmith) -> list[list[str]]:
    """What the steps of the one image saw."""
    [image] = [image for image in goldsmith.images() if image["family"] == "looked"]
    disk = goldsmith.home / "images" / image["name"] / "disk.raw"
    return [line.split() for line in Disk(disk).root.read("/var/lib/looked").decode().splitlines()]


def test_debian_13_is_built_upon_and_verified(goldsmith: Goldsmith, debian_13_disk: Path) -> None:
    catalogue = Catalogue(goldsmith.home, SystemClock())
    catalogue.add(debian_13_disk, "debian-13-base", transfer="link", family="debian-13")
    looks = [{"name": name, "script": LOOK} for name in ("look", "again")]
    steps = [looks[0], {"name": "restart", "action": "reboot"}, looks[1]]
    spec = goldsmith.spec(
        steps,
        source={"project": "local", "family": "debian-13"},
        output={"family": "looked"},
        verify={"steps": []},
    )
    done, build = goldsmith.build(spec)
    assert (done.status, build["outcome"]) == (0, "succeeded"), done.text
    assert len(looked(goldsmith)) == 2
    for release, system, kind in looked(goldsmith):
        assert (release.startswith("6.12."), system, kind) == (True, "trixie", "ext4")


def test_a_restart_starts_the_kernel_that_a_step_has_installed(goldsmith: Goldsmith, debian_13_disk: Path) -> None:
    steps = [
        {"name": "look", "script": LOOK},
        {"name": "install", "script": INSTALL},
        {"name": "restart", "action": "reboot"},
        {"name": "again", "script": LOOK},
    ]
    spec = goldsmith.spec(steps, output={"family": "looked"})
    context = spec.parent / "context"
    start, _ = root_partition(debian_13_disk)
    tool("debugfs", "-R", f"rdump /usr/lib/modules {context}", f"{debian_13_disk}?offset={start}")
    [release] = [path.name for path in (context / "modules").iterdir()]
    shutil.copy(Disk(debian_13_disk).root.dump([f"/boot/vmlinuz-{release}"], context).popitem()[1], context / "vmlinuz")
    done, build = goldsmith.build(spec)
    assert (done.status, build["outcome"]) == (0, "succeeded"), done.text
    before, after = looked(goldsmith)
    assert before[0].startswith("6.1.")
    assert after == [release, "bookworm", "ext4"]
