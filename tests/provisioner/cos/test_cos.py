"""Facts about a machine of Container-Optimized OS, without udev and with other disks attached."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from provisioner.cos.cos import (
    EFI_SYSTEM,
    GRUB_CFG,
    OEM,
    ROOT_B,
    BootDisk,
    CosError,
    EfiSystem,
    call,
    require_cos,
    root_device,
)
from tests.provisioner.cos.machine_tree import CosTree

GB = 1 << 30


def below_verity(cos: CosTree) -> None:
    """Put the root file system on dm-verity above ROOT-B, as on a machine that verifies it."""
    cos.write("sys/devices/virtual/block/dm-0/uevent", "MAJOR=254\nMINOR=0\nDEVNAME=dm-0\nDEVTYPE=disk\n")
    cos.write(f"sys/devices/virtual/block/dm-0/slaves/{cos.disk}5", "")
    (cos.root / "sys/dev/block/254:0").symlink_to("../../devices/virtual/block/dm-0")
    cos.write("proc/self/mountinfo", "22 1 254:0 / / ro - ext2 /dev/root ro\n")


@pytest.mark.parametrize("disk", ["sda", "nvme0n1p", "sdaa"])
def test_the_boot_disk_and_its_partitions(tmp_path: Path, disk: str) -> None:
    cos = CosTree(tmp_path, disk=disk)
    found = BootDisk(str(tmp_path))
    assert (found.path, found.root_number()) == (str(cos.device), 3)
    assert found.partition(EFI_SYSTEM) == f"{cos.device}12"
    with pytest.raises(CosError, match=f"{disk} has no partition 9"):
        found.partition(9)


def test_the_root_below_dm_verity(tmp_path: Path) -> None:
    below_verity(CosTree(tmp_path))
    assert root_device(str(tmp_path)) == "sda5"
    assert BootDisk(str(tmp_path)).root_number() == ROOT_B


def test_of_two_such_disks_the_one_with_the_root_is_meant(tmp_path: Path) -> None:
    cos = CosTree(tmp_path, disk="sdb", root_partition=5)
    other = "sys/devices/pci/sda/sda12"
    cos.write(f"{other}/uevent", "MAJOR=8\nMINOR=92\nDEVNAME=sda12\nPARTN=12\nPARTNAME=EFI-SYSTEM\n")
    (tmp_path / "sys/class/block/sda12").symlink_to(f"../../../{other}")
    assert BootDisk(str(tmp_path)).name == "sdb"
    cos.write("proc/self/mountinfo", "22 1 0:20 / / rw - overlay overlay rw\n")
    with pytest.raises(CosError, match="the root file system is not on a disk"):
        BootDisk(str(tmp_path))


def test_a_machine_without_an_efi_system_has_no_boot_disk(tmp_path: Path) -> None:
    cos = CosTree(tmp_path)
    cos.write("sys/devices/pci/sda/sda12/uevent", "MAJOR=8\nMINOR=12\nDEVNAME=sda12\nPARTN=12\nPARTNAME=ESP\n")
    with pytest.raises(CosError, match="0 disks have a partition EFI-SYSTEM"):
        BootDisk(str(tmp_path))


def test_a_disk_is_asked_for_its_size_until_it_has_grown(tmp_path: Path) -> None:
    """Wait for the disk resize if asked."""
    cos = CosTree(tmp_path)
    cos.set_size(10 * GB)
    cos.write("sys/devices/pci/sda/device/rescan", "")
    rescan = tmp_path / "sys/devices/pci/sda/device/rescan"
    disk = BootDisk(str(tmp_path))
    assert not disk.wait_for(12 * GB, 0.1)
    assert rescan.read_text() == "1"
    timer = threading.Timer(0.2, cos.set_size, [12 * GB])
    timer.start()
    assert disk.wait_for(12 * GB, 20)
    timer.join()
    assert disk.sectors() == 12 * GB // 512


def test_mounts_are_found_by_the_devices_number(tmp_path: Path) -> None:
    cos = CosTree(tmp_path)
    with (tmp_path / "proc/self/mountinfo").open("a") as mounts:
        mounts.write("30 22 8:8 / /usr/share/oem ro - ext4 /dev/disk/by-label/OEM ro\n")
    assert BootDisk(str(cos.root)).mount_points(OEM) == ["/usr/share/oem"]


def test_efi_system_is_mounted_for_as_long_as_it_is_needed(tmp_path: Path) -> None:
    cos = CosTree(tmp_path)
    text = cos.grub_cfg.read_text()
    cos.grub_cfg.unlink()
    for name, then in (
        ("mount", f"mkdir -p $4/efi/boot; echo mounted >$4/{GRUB_CFG}"),
        ("umount", f"rm $1/{GRUB_CFG}"),
    ):
        program = tmp_path / "usr/sbin" / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(f'#!/bin/sh\necho {name} "$@" >>{tmp_path}/calls\n{then}\n')
        program.chmod(0o755)
    with EfiSystem(BootDisk(str(tmp_path)), str(tmp_path)) as efi:
        assert efi.boot_configuration() == "mounted\n"
        assert efi.edit_boot_configuration(lambda found: text)
        assert efi.boot_configuration() == text
        assert not efi.edit_boot_configuration(lambda found: found)
    place = tmp_path / "run/goldsmith/efi"
    calls = f"mount -t vfat {cos.device}12 {place}\numount {place}\n"
    assert (tmp_path / "calls").read_text() == calls
    assert not cos.grub_cfg.exists()


def test_a_program_that_hangs_or_is_not_there_is_told(tmp_path: Path) -> None:
    cos = CosTree(tmp_path)
    with pytest.raises(CosError, match="this image has no sleep"):
        call(["sleep", "5"], str(tmp_path))
    cos.program("sleep", "/bin/sleep")
    with pytest.raises(CosError, match=r"sleep was not done within 0\.1 s"):
        call(["sleep", "5"], str(tmp_path), seconds=0.1)


def test_another_system_is_named(tmp_path: Path) -> None:
    (tmp_path / "usr/lib").mkdir(parents=True)
    with pytest.raises(CosError, match="ID=nothing"):
        require_cos(str(tmp_path), "it")
    (tmp_path / "usr/lib/os-release").write_text('NAME=x\nID="ubuntu"\n')
    with pytest.raises(CosError, match="ID=ubuntu"):
        require_cos(str(tmp_path), "it")
