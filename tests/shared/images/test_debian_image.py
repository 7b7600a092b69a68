"""The bootstrapped Debian itself, looked at with the system's own tools, and booted by both kinds of firmware."""

import shutil
import subprocess
from pathlib import Path

import pytest

from shared.delivery.cidata import write_cidata
from shared.disks.disk import Disk
from shared.disks.partition_table import EFI_TYPES, find_root, read_disk_table
from shared.images.contents import describe_image
from shared.images.packages import packages
from tests.shared.disks.small_disks import ENVIRONMENT, MIB, tool

pytestmark = pytest.mark.vm

OVMF = Path("/usr/share/OVMF")
BOOT_SECONDS = 600  # on a busy machine without KVM; 30 to 60 on a quiet one
CONFIG = """\
#cloud-config
runcmd:
  - [sh, -c, 'echo "result: $(hostname) $(systemctl --failed --no-legend | wc -l) failed" > /dev/ttyS0']
  - [sh, -c, 'echo "address: $(ip -4 -brief address show up scope global | wc -l)" > /dev/ttyS0']
  - [sh, -c, 'echo "root: $(df --output=size -BM / | tail -1)" > /dev/ttyS0']
  - [sh, -c, 'echo "ssh: $(ssh-keyscan -T 240 -t ed25519 127.0.0.1 2>/dev/null | grep -c ed25519)" > /dev/ttyS0']
  - [poweroff]
"""


@pytest.fixture(scope="module")
def seed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    image = tmp_path_factory.mktemp("seed") / "seed.iso"
    meta_data = b"instance-id: first\nlocal-hostname: somewhere\n"
    write_cidata({"user-data": CONFIG.encode(), "meta-data": meta_data}, image)
    return image


def test_its_parts_are_sound(debian_disk: Path, tmp_path: Path) -> None:
    assert "No errors detected" in tool("sfdisk", "--verify", debian_disk)
    table = read_disk_table(debian_disk)
    root = find_root(table)
    assert root is not None
    assert "type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B" in tool("sfdisk", "--dump", debian_disk)
    tool("e2fsck", "-fn", f"{debian_disk}?offset={root.start}")
    efi = next(partition for partition in table.partitions if partition.type in EFI_TYPES)
    with debian_disk.open("rb") as disk, (tmp_path / "esp").open("wb") as copy:
        disk.seek(efi.start)
        copy.write(disk.read(efi.size))
    tool("fsck.vfat", "-n", tmp_path / "esp")
    assert all(partition.start % MIB == 0 and partition.size % MIB == 0 for partition in table.partitions)
    assert root.start + root.size == table.needs - MIB


def test_it_has_what_a_build_needs_and_no_identity(debian_disk: Path) -> None:
    found = describe_image(debian_disk)
    assert found.system is not None
    assert found.system.startswith("Debian GNU/Linux 12")
    assert (found.architecture, found.python3, found.cloud_init) == ("x86_64", True, True)
    assert (found.bios, found.efi) == (True, True)
    root = Disk(debian_disk).root
    assert root.read("/etc/machine-id") == b""
    assert root.read("/etc/hostname") == b"localhost\n"
    assert not [name for name in root.names("/etc/ssh") if name.startswith("ssh_host_")]
    assert root.names("/var/lib/apt/lists") in ([], ["lock", "partial"], ["partial"])
    assert [name for name in root.names("/var/log") if name.endswith((".log", "tmp"))] == []
    assert not root.exists("/etc/apt/apt.conf.d/00mmdebstrap")
    assert b"force-unsafe-io" not in root.read("/etc/dpkg/dpkg.cfg.d/99mmdebstrap")
    assert root.exists("/vmlinuz")
    assert root.exists("/initrd.img")
    assert {"systemd-sysv", "openssh-server"} <= {package.name for package in packages(root) or []}


@pytest.mark.soak
@pytest.mark.parametrize("firmware", ["bios", "efi"])
def test_it_boots_and_cloud_init_runs(debian_disk: Path, seed: Path, tmp_path: Path, firmware: str) -> None:
    """`make test` boots it as well: cloud-init by BIOS (test_from_nothing.py), Linux by UEFI (test_machines.py)."""
    overlay = tmp_path / "overlay.qcow2"
    tool("qemu-img", "create", "-q", "-f", "qcow2", "-b", debian_disk, "-F", "raw", overlay, "12G")
    command = ["qemu-system-x86_64", "-accel", "tcg,thread=multi", "-M", "q35", "-smp", "2", "-m", "1024"]
    command += ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio"]
    command += ["-drive", f"if=none,id=root,file={overlay},format=qcow2,cache=unsafe"]
    command += ["-drive", f"if=none,id=seed,file={seed},format=raw,readonly=on"]
    command += ["-netdev", "user,id=net,restrict=on", "-device", "virtio-net-pci,netdev=net,romfile="]
    if firmware == "bios":
        command += ["-device", "virtio-scsi-pci", "-device", "scsi-hd,drive=root", "-device", "scsi-cd,drive=seed"]
    else:
        variables = shutil.copy(OVMF / "OVMF_VARS_4M.fd", tmp_path / "variables.fd")
        command += ["-drive", f"if=pflash,format=raw,readonly=on,file={OVMF}/OVMF_CODE_4M.fd"]
        command += ["-drive", f"if=pflash,format=raw,file={variables}"]
        command += ["-device", "virtio-blk-pci,drive=root,bootindex=1", "-device", "virtio-blk-pci,drive=seed"]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=BOOT_SECONDS, env=ENVIRONMENT, check=True
    )
    console = done.stdout.decode(errors="replace")
    assert "result: somewhere 0 failed" in console, console[-4000:]
    assert "address: 1" in console
    assert "ssh: 1" in console
    size = int(console.partition("root: ")[2].strip().partition("M")[0])
    assert size > 11_000  # grown from the image's 10 GiB to the disk's 12
