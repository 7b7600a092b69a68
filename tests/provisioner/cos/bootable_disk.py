"""A disk that boots as Container-Optimized OS does, made from a Debian: 12 partitions, a root that is never written to.

    12 EFI-SYSTEM  GRUB, its configuration in /efi/boot/grub.cfg, the kernels in /syslinux
    5 ROOT-B       the system, read-only; what is written lies below /mnt/stateful_partition
    3 ROOT-A       not used
    1 STATE        the last one: /var and /home
    8 OEM          /usr/share/oem

Debian's GRUB has no gptpriority and its kernel no dm-verity, so grub.cfg starts ROOT-B as it is.
"""

from __future__ import annotations

import os
import random
import subprocess
from dataclasses import dataclass
from pathlib import Path

from shared.block_devices.boot_loader import GrubHome, efi_program
from shared.host.programs import find_tool
from shared.images.bootstrap.boot_disk import ROOT_START
from tests.provisioner.cos.disk import EFI, KERNEL, ROOT

SECTOR, MIB = 512, 1 << 20
SIZE = 4800 * MIB
ROOT_SIZE = 2048 * MIB
STATE_SIZE = 320 * MIB
BALLAST = 160 * MIB  # of a file on STATE: moving it takes some time
EFI_UUID = "C05C-0512"  # of the vfat, as GRUB writes it
TABLE = f"""\
label: gpt
first-lba: 64
8: start=2048, size=32768, name="OEM", uuid=0E30E300-0000-4000-8000-000000000008
12: start=34816, size=131072, name="EFI-SYSTEM", type={EFI}
11: start=165888, size=2048, name="RWFW"
6: start=167936, size=8, name="KERN-C"
7: start=167944, size=8, name="ROOT-C", type={ROOT}
9: start=167952, size=8, name="reserved"
10: start=167960, size=8, name="reserved"
2: start=169984, size=32768, name="KERN-A", type={KERNEL}
4: start=202752, size=32768, name="KERN-B", type={KERNEL}
5: start=235520, size=4194304, name="ROOT-B", type={ROOT}, uuid=0E30E300-0000-4000-8000-000000000005
3: start=4429824, size=4194304, name="ROOT-A", type={ROOT}, uuid=0E30E300-0000-4000-8000-000000000003
1: start=8624128, size=655365, name="STATE"
"""
ROOT_UUID = "0e30e300-0000-4000-8000-000000000005"
VERITY = (
    "1 vroot none ro 1,0 4077568 verity payload=PARTUUID={0} hashtree=PARTUUID={0} hashstart=4077568 alg=sha256 "
    "root_hexdigest=" + "ab" * 32 + " salt=" + "cd" * 32
).format(ROOT_UUID.upper())
GRUB_CFG = f"""\
serial --unit=0 --speed=115200
terminal_output console serial
set default=1
set timeout=0
menuentry "verified image B" {{
  linux /syslinux/vmlinuz.B init=/usr/lib/systemd/systemd rootwait ro console=ttyS0 cros_efi root=/dev/dm-0 \
dm="{VERITY}"
  initrd /syslinux/initrd.img
}}
menuentry "local image B" {{
  linux /syslinux/vmlinuz.B init=/usr/lib/systemd/systemd boot=local rootwait ro noresume loglevel=7 \
console=ttyS0 no_timer_check root=PARTUUID={ROOT_UUID} i915.modeset=1 cros_efi
  initrd /syslinux/initrd.img
}}
"""
FSTAB = """\
LABEL=STATE /mnt/stateful_partition ext4 defaults 0 0
/mnt/stateful_partition/var /var none bind 0 0
/mnt/stateful_partition/home /home none bind 0 0
LABEL=OEM /usr/share/oem ext4 ro,nosuid,nodev,noexec 0 0
tmpfs /tmp tmpfs mode=1777 0 0
"""
# Instead of cloud-init, which takes half a minute on an emulated CPU, and of all that a build does not need.
TARGET = """\
[Unit]
Requires=build.service
AllowIsolate=yes
"""
UNIT = """\
[Unit]
RequiresMountsFor=/var /usr/share/oem
[Service]
Type=exec
ExecStartPre=/bin/mkdir -p /run/goldsmith/cidata
ExecStartPre=/bin/mount -o ro LABEL=cidata /run/goldsmith/cidata
ExecStart=/bin/sh /run/goldsmith/cidata/bootstrap.sh
StandardOutput=null
StandardError=journal+console
"""
MASKED = ("systemd-networkd.socket", "systemd-timesyncd.service", "systemd-journal-flush.service", "timers.target")


@dataclass(frozen=True)
class BootableDisk:
    """Such a disk, and the files that were put on it."""

    path: Path
    state: dict[str, bytes]  # files of STATE
    oem: dict[str, bytes]  # files of OEM


def make_disk(debian: Path, folder: Path) -> BootableDisk:
    """Write such a disk into a folder."""
    disk = folder / "cos.raw"
    scratch = folder / "scratch"
    scratch.mkdir()
    with disk.open("wb") as file:
        file.truncate(SIZE)
    run("sfdisk", "-q", "--no-reread", "--no-tell-kernel", str(disk), stdin=TABLE)
    root = scratch / "root.ext4"
    _copy_data(debian, ROOT_START, debian.stat().st_size - ROOT_START - MIB, root, 0)
    kernel, initrd = _take(root, "vmlinuz", scratch), _take(root, "initrd.img", scratch)
    _make_root(root, scratch)
    _copy_data(root, 0, ROOT_SIZE, disk, start_of(5))
    state = {"home/data": random.Random(12).randbytes(BALLAST), "home/note": b"kept\n"}
    oem = {"user-data": b"#cloud-config\n", "data": random.Random(8).randbytes(5 * MIB)}
    _make_ext4(disk, 1, "STATE", STATE_SIZE, {**state, "var/lib/keep": b"", "var/log/keep": b""}, scratch)
    _make_ext4(disk, 8, "OEM", 16 * MIB, oem, scratch)
    _make_efi(disk, kernel, initrd, scratch)
    with disk.open("r+b") as file:
        file.write(b"\xeb\xfe")  # for a BIOS, which is not used
    return BootableDisk(disk, state, oem)


def start_of(number: int) -> int:
    """Return the byte at which a partition begins before anything is moved."""
    [line] = [line for line in TABLE.splitlines() if line.startswith(f"{number}: ")]
    return int(line.split("start=")[1].split(",")[0]) * SECTOR


def run(*command: str, stdin: str = "") -> str:
    """Run a program; return its output."""
    done = subprocess.run(
        [find_tool(command[0]), *command[1:]],
        input=stdin,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    assert done.returncode in ((0, 1) if command[0] == "e2fsck" else (0,)), done.stdout + done.stderr
    return done.stdout


def _copy_data(source: Path, offset: int, size: int, target: Path, at: int) -> None:
    """Copy all data that is not a hole."""
    with source.open("rb") as reader, target.open("r+b" if target.exists() else "wb") as writer:
        writer.truncate(max(os.fstat(writer.fileno()).st_size, at + size))
        position, end = offset, offset + size
        while position < end:
            try:
                position = os.lseek(reader.fileno(), position, os.SEEK_DATA)
            except OSError:
                return
            hole = min(os.lseek(reader.fileno(), position, os.SEEK_HOLE), end)
            while position < hole:
                there = at + position - offset
                position += os.copy_file_range(reader.fileno(), writer.fileno(), hole - position, position, there)


def _take(root: Path, name: str, scratch: Path) -> Path:
    """Return a file of the root's folder /boot, by the beginning of its name."""
    found = [entry.split("/")[5] for entry in run("debugfs", "-R", "ls -p /boot", str(root)).splitlines() if entry]
    [full] = [entry for entry in found if entry.startswith(f"{name}-")]
    run("debugfs", "-R", f"dump /boot/{full} {scratch / name}", str(root))
    return scratch / name


def _make_root(root: Path, scratch: Path) -> None:
    """Change a Debian's root file system so that it need not be written to."""
    run("e2fsck", "-fy", str(root))
    run("resize2fs", str(root), f"{ROOT_SIZE // 1024}K")
    release = 'PRETTY_NAME="Container-Optimized OS, as far as tests go"\nID=cos\nVERSION_ID=113\n'
    files = {"usr/lib/os-release": release, "etc/fstab": FSTAB, "etc/cloud/cloud-init.disabled": ""}
    files |= {"etc/systemd/system/build.service": UNIT, "etc/systemd/system/build.target": TARGET}
    requests = ["mkdir /mnt/stateful_partition", "mkdir /usr/share/oem", "rm /var/lib/systemd/catalog/database"]
    for number, (path, text) in enumerate(files.items()):
        (scratch / f"file{number}").write_text(text)
        requests += [f"rm /{path}", f"write {scratch}/file{number} /{path}"]
    requests.append("symlink /etc/systemd/system/default.target build.target")
    requests += [f"symlink /etc/systemd/system/{unit} /dev/null" for unit in MASKED]
    (scratch / "requests").write_text("\n".join(requests) + "\n")
    run("debugfs", "-w", "-f", str(scratch / "requests"), str(root))


def _make_ext4(disk: Path, number: int, label: str, size: int, files: dict[str, bytes], scratch: Path) -> None:
    folder = scratch / label
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    options = f"offset={start_of(number)},nodiscard,assume_storage_prezeroed=1"
    format_as = ("-q", "-F", "-t", "ext4", "-b", "4096", "-L", label, "-E", options, "-d", str(folder))
    run("mke2fs", *format_as, str(disk), str(size // 4096))


def _make_efi(disk: Path, kernel: Path, initrd: Path, scratch: Path) -> None:
    image = scratch / "efi.img"
    with image.open("wb") as file:
        file.truncate(64 * MIB)
    run("mkfs.vfat", "-F", "32", "-n", "EFI-SYSTEM", "-i", EFI_UUID.replace("-", ""), str(image))
    members = {
        "efi/boot/bootx64.efi": efi_program(GrubHome(EFI_UUID), scratch),
        "efi/boot/grub.cfg": GRUB_CFG.encode(),
        "boot/grub/grub.cfg": b"configfile /efi/boot/grub.cfg\n",
        "syslinux/vmlinuz.B": kernel.read_bytes(),
        "syslinux/initrd.img": initrd.read_bytes(),
    }
    run("mmd", "-i", str(image), "::/efi", "::/efi/boot", "::/boot", "::/boot/grub", "::/syslinux")
    for name, data in members.items():
        (scratch / "member").write_bytes(data)
        run("mcopy", "-o", "-i", str(image), str(scratch / "member"), f"::/{name}")
    _copy_data(image, 0, 64 * MIB, disk, start_of(12))
