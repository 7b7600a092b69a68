"""Builds whose source is no image, as root and as an ordinary user."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from shared.disks.disk import Disk
from tests.shared.disks.small_disks import MIB, tool
from tests.shared.origins.archives import packed, system, write
from tests.shared.origins.containers import archived, saved
from tests.shared.sandbox.ordinary_user import MODES
from tests.system.command import Goldsmith
from tests.system.sandboxes import ROOT_IN_SOAK, assert_nothing_left

pytestmark = pytest.mark.slow
BAD_INPUT = 2
SANDBOX = {"engine": "chroot", "network": False, "memory_mb": 512}


def from_rootfs(goldsmith: Goldsmith, archive: Path, **more: object) -> Path:
    """Write a spec whose source is an archive, which is put beside it."""
    step = {"name": "greet", "script": "ls -ln /usr/bin/passwd >/etc/greeting"}
    settings = {"source": {"rootfs": "root.tar"}, "local": SANDBOX, **more}
    spec = goldsmith.spec([step], **settings)  # type: ignore[arg-type]
    shutil.copyfile(archive, spec.parent / "root.tar")
    return spec


def test_a_build_starts_from_a_root_file_system(empty: Goldsmith, debian_rootfs: Path) -> None:
    done, build = empty.build(from_rootfs(empty, debian_rootfs))
    assert build["outcome"] == "succeeded", done.text
    (image, source) = empty.images()
    assert source["name"].startswith("rootfs-")
    assert (image["labels"]["goldsmith-source"], image["disk_size_gb"]) == (source["name"], 1)
    with Disk(empty.home / "images" / image["name"] / "disk.raw") as disk:
        assert disk.root.read("/etc/greeting").startswith(b"-rwsr-xr-x 1 0 0 ")
        assert disk.table.bios_code
    assert list((empty.home / "images").glob(".*")) == []


@pytest.mark.parametrize("user", ROOT_IN_SOAK, indirect=True)
def test_what_cannot_be_a_source_is_refused(empty: Goldsmith, tmp_path: Path) -> None:
    archive = write(tmp_path / "small.tar", packed(system()))
    for more, why in (
        ({}, "has no python3"),
        ({"local": {"engine": "vm"}}, "has no kernel; add packages with a kernel"),
        ({"verify": {}}, "verify: boots the image"),
        ({"local": {"engine": "auto"}, "output": {"disk_size_gb": 1}}, "has no python3"),
    ):
        done = empty.run("build", from_rootfs(empty, archive, **more))
        assert (done.status, why in done.err) == (BAD_INPUT, True), done.text
    spec = from_rootfs(empty, write(archive, packed(system(machine=183))))
    done = empty.run("plan", spec)
    assert (done.status, "is a program for arm64" in done.err) == (BAD_INPUT, True), done.text
    spec = from_rootfs(empty, archive, output={"reproducible": True})
    done = empty.run("submit", spec, "--project", "project-1", "--bucket", "bucket-1")
    assert (done.status, "output.reproducible: only one machine" in done.err) == (BAD_INPUT, True), done.text
    container = write(tmp_path / "image.tar", archived(saved([packed(system())])))
    spec = from_rootfs(empty, container, source={"oci": "root.tar"})
    done = empty.run("plan", spec)
    assert (done.status, "has no python3" in done.err) == (BAD_INPUT, True), done.text
    (spec.parent / "root.tar").unlink()
    done = empty.run("validate", spec)
    assert (done.status, "there is no folder or file" in done.err) == (BAD_INPUT, True), done.text
    assert empty.builds() == []


@pytest.mark.parametrize("user", ROOT_IN_SOAK, indirect=True)
def test_a_file_system_alone_is_built_upon(empty: Goldsmith, debian_rootfs: Path) -> None:
    done, build = empty.build(from_rootfs(empty, debian_rootfs, disk="filesystem"))
    assert build["outcome"] == "succeeded", done.text
    disk_file = empty.home / "images" / empty.images()[0]["name"] / "disk.raw"
    tool("e2fsck", "-fn", disk_file)
    with Disk(disk_file) as disk:
        assert disk.table.kind == "none"
        assert disk.root.file_system.layout.label == "cloudimg-rootfs"
        assert disk.root.read("/etc/greeting").startswith(b"-rwsr-xr-x 1 0 0 ")
    assert 400 * MIB < disk_file.stat().st_size < 1000 * MIB


@pytest.mark.parametrize(
    ("user", "cached"), [(MODES[0], True), (MODES[0], False), (MODES[-1], True)], indirect=["user"]
)
def test_a_full_disk_fails_the_build_with_the_remedy(empty: Goldsmith, debian_rootfs: Path, cached: bool) -> None:
    """The script goes on after the fault, as scripts without `set -e` do."""
    spec = from_rootfs(empty, debian_rootfs, disk="filesystem")
    (spec.parent / "context/greet.sh").write_text("head -c 300000000 /dev/urandom >/opt/fill\necho as if nothing was\n")
    done, build = empty.build(spec, *(() if cached else ("--no-cache",)))
    assert (done.status, build["outcome"], build["ledger"]) == (1, "failed", []), done.text
    assert "output.disk_size_gb" in build["reason"]
    assert_nothing_left(empty)
    assert [image["name"][:7] for image in empty.images()] == ["rootfs-"]


MBR = [
    {"local_loop": {"name": "image0", "size": "3GiB"}},
    {
        "partitioning": {
            "base": "image0",
            "label": "mbr",
            "partitions": [
                {"name": "boot", "size": "200MiB", "flags": ["boot", "primary"]},
                {
                    "name": "swap",
                    "size": "64MiB",
                    "mkfs": {"type": "swap", "mount": {"mount_point": "none", "fstab": {}}},
                },
                {"name": "root", "size": "100%"},
            ],
        }
    },
    {"mkfs": {"name": "kernels", "base": "boot", "mount": {"mount_point": "/boot", "fstab": {}}}},
    {"mkfs": {"name": "top", "base": "root", "mount": {"mount_point": "/", "fstab": {"fsck-passno": 1}}}},
]


@pytest.mark.vm
@pytest.mark.soak
@pytest.mark.parametrize("user", MODES[-1:], indirect=True)
def test_a_described_disk_boots_by_its_bios(empty: Goldsmith, debian_rootfs: Path) -> None:
    """The way of the cloud: BIOS, boot loader, cloud-init."""
    local = {"engine": "vm", "boot": "firmware", "network": False}
    spec = from_rootfs(empty, debian_rootfs, disk=MBR, local=local, build={"silence": "30m"})
    step = "findmnt -no FSTYPE /boot >/etc/greeting; tail -n +2 /proc/swaps | wc -l >>/etc/greeting"
    (spec.parent / "context/greet.sh").write_text(step)
    done, build = empty.build(spec)
    assert build["outcome"] == "succeeded", done.text
    assert build["plan"]["machine"]["boot"] == "firmware"
    with Disk(empty.home / "images" / empty.images()[0]["name"] / "disk.raw") as disk:
        assert disk.root.partition.number == 6
        assert disk.root.read("/etc/greeting") == b"ext4\n1\n"
    refused = empty.run("build", spec, "--engine", "chroot")
    assert (refused.status, "/boot is a file system of its own" in refused.err) == (BAD_INPUT, True), refused.text


VOLUMES = """
- local_loop: {name: image0, size: 3GiB}
- partitioning:
    base: image0
    label: mbr
    partitions:
    - {name: boot, size: 300MiB, flags: [boot, primary]}
    - {name: pv, size: 100%, flags: [primary]}
- lvm:
    name: lvm
    pvs: [{name: pv0, base: pv}]
    vgs: [{name: vg, base: [pv0]}]
    lvs: [{name: lv_root, base: vg, extents: 100%FREE}]
- mkfs: {base: boot, name: kernels, mount: {mount_point: /boot, fstab: {}}}
- mkfs: {base: lv_root, name: top, mount: {mount_point: /, fstab: {fsck-passno: 1}}}
"""


@pytest.mark.vm
@pytest.mark.soak
@pytest.mark.parametrize("user", MODES[-1:], indirect=True)
def test_a_root_on_a_logical_volume_boots_by_its_bios(empty: Goldsmith) -> None:
    """The boot loader reads /boot, and the image's own initrd finds the volume by its records."""
    packages = ["cloud-init", "ifupdown", "isc-dhcp-client"]  # by which a VM of the cloud gets its job, and its network
    packages += ["linux-image-cloud-amd64", "initramfs-tools", "lvm2", "systemd-sysv", "python3", "udev"]
    bootstrap = {"distribution": "debian", "release": "bookworm", "variant": "minbase", "packages": packages}
    step = {"name": "look", "script": "findmnt -no SOURCE,FSTYPE /\n", "network": False}
    settings = {
        "source": {"bootstrap": bootstrap},
        "disk": yaml.safe_load(VOLUMES),
        "local": {"engine": "vm", "boot": "firmware", "network": False},
        "build": {"silence": "30m", "timeout": "3h"},
    }
    done, build = empty.build(empty.spec([step], **settings))
    assert build["outcome"] == "succeeded", done.text
    assert build["plan"]["machine"]["boot"] == "firmware"
    [log] = empty.home.glob("builds/*/logs/*-vm.log")
    assert "/dev/mapper/vg-lv_root ext4" in log.read_text()


@pytest.mark.soak
@pytest.mark.parametrize("user", MODES[-1:], indirect=True)
def test_packages_with_a_kernel_have_one_initrd(empty: Goldsmith) -> None:
    packages = ["linux-image-cloud-amd64", "initramfs-tools", "python3"]
    bootstrap = {"distribution": "debian", "release": "bookworm", "variant": "minbase", "packages": packages}
    settings = {"source": {"bootstrap": bootstrap}, "disk": "filesystem", "local": SANDBOX}
    done, build = empty.build(empty.spec([{"name": "look", "script": "test -s /initrd.img\n"}], **settings))  # type: ignore[arg-type]
    assert build["outcome"] == "succeeded", done.text
    with Disk(empty.home / "images" / build["image"]["name"] / "disk.raw") as disk:
        [kernel] = [name for name in disk.root.names("/boot") if name.startswith("vmlinuz-")]
        names = disk.root.names("/")
        assert [name for name in names if "initrd" in name or "vmlinuz" in name] == ["initrd.img", "vmlinuz"]
        version = kernel.removeprefix("vmlinuz-")
        assert [name for name in disk.root.names("/boot") if name.startswith("initrd")] == [f"initrd.img-{version}"]
