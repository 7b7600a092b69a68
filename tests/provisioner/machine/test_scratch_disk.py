"""The scratch disk is found by its name alone, and formatted only when it is blank."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from provisioner.machine.scratch_disk import (
    ScratchError,
    find_root_disk,
    find_scratch_disk,
    mount,
    prepare_scratch_disk,
    unmount,
    wait_for,
)
from provisioner.protocol import NVME_SERIAL, ROOT_NAMESPACE, SCRATCH_NAMESPACE
from provisioner.system.output import StepConsole

MIB = 1 << 20


def page_83(*designators: tuple[int, int, bytes]) -> bytes:
    """Return a SCSI disk's page of identifications, of designators (code set, type, data)."""
    body = b"".join(bytes([code, kind, 0, len(data)]) + data for code, kind, data in designators)
    return b"\0\x83" + len(body).to_bytes(2, "big") + body


NAA = (1, 3, bytes(8))
GOOGLES = page_83((2, 0, b"scratch"), NAA)


def machine(root: Path, disks: dict[str, dict[str, bytes]]) -> str:
    """Make a machine's files below `root`: each disk's in /sys/block, and its node in /dev."""
    (root / "dev").mkdir()
    for name, files in disks.items():
        (root / "dev" / name).touch()
        for path, content in files.items():
            file = root / "sys/block" / name / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
    return str(root)


def scsi(page: bytes, vendor: bytes = b"Google  ") -> dict[str, bytes]:
    return {"device/vendor": vendor + b"\n", "device/vpd_pg83": page, "size": b"20971520\n"}


def nvme(number: int, serial: str = NVME_SERIAL) -> dict[str, bytes]:
    return {"nsid": f"{number}\n".encode(), "device/serial": f"{serial:20}\n".encode(), "size": b"20971520\n"}


@pytest.mark.parametrize(
    ("disks", "found"),
    [
        ({"sda": scsi(page_83((2, 0, b"persistent-disk-0"))), "sdb": scsi(GOOGLES)}, "dev/sdb"),
        ({"nvme0n1": nvme(1), "nvme0n3": nvme(SCRATCH_NAMESPACE)}, "dev/nvme0n3"),
        ({"nvme0n1": nvme(1), "nvme0n2": nvme(SCRATCH_NAMESPACE, "another")}, ""),
        ({"sda": scsi(GOOGLES, b"QEMU    ")}, ""),
        ({"sda": scsi(page_83((2, 0, b"scratch-2"), NAA))}, ""),
        ({"sda": scsi(page_83((1, 0, b"scratch")))}, ""),
        ({"sda": scsi(page_83((2, 1, b"scratch")))}, ""),
        ({"sda": scsi(GOOGLES[:6])}, ""),
        ({"sda": scsi(b"")}, ""),
        ({"vda": {"size": b"1\n"}, "loop0": {"size": b"0\n"}}, ""),
    ],
)
def test_it_is_found_by_the_name_that_it_was_given(
    tmp_path: Path, disks: dict[str, dict[str, bytes]], found: str
) -> None:
    """install-gpu: no other disk is mistaken for the scratch disk."""
    root = machine(tmp_path, disks)
    assert find_scratch_disk(root) == (f"{root}/{found}" if found else "")


def test_the_root_s_disk_is_another_one(tmp_path: Path) -> None:
    """A maker VM may have both."""
    named = scsi(page_83((2, 0, b"root"), NAA))
    (tmp_path / "scsi").mkdir()
    root = machine(tmp_path / "scsi", {"sda": scsi(page_83((2, 0, b"boot"))), "sdb": scsi(GOOGLES), "sdc": named})
    assert find_root_disk(root) == f"{root}/dev/sdc"
    assert find_scratch_disk(root) == f"{root}/dev/sdb"
    (tmp_path / "nvme").mkdir()
    root = machine(tmp_path / "nvme", {"nvme0n1": nvme(1), "nvme0n2": nvme(ROOT_NAMESPACE)})
    assert (find_root_disk(root), find_scratch_disk(root)) == (f"{root}/dev/nvme0n2", "")
    with pytest.raises(ScratchError, match="no disk of this machine is named root; build again"):
        wait_for(str(tmp_path / "scsi"), 0.0, "root", lambda _root: "")


def test_google_s_own_link_is_believed(tmp_path: Path) -> None:
    root = machine(tmp_path, {"nvme0n2": nvme(1, "")})
    (tmp_path / "dev/disk/by-id").mkdir(parents=True)
    (tmp_path / "dev/disk/by-id/google-scratch").symlink_to("../../nvme0n2")
    assert find_scratch_disk(root) == f"{root}/dev/nvme0n2"


def test_a_disk_that_does_not_come_is_an_error(tmp_path: Path) -> None:
    root = machine(tmp_path, {"sda": scsi(b"")})
    began = time.monotonic()
    with pytest.raises(ScratchError, match="no disk of this machine is named scratch; build again"):
        wait_for(root, 0.3)
    assert time.monotonic() - began >= 0.3


def blank(path: Path) -> Path:
    with path.open("wb") as file:
        file.truncate(64 * MIB)
    return path


def test_a_blank_disk_is_formatted_once_and_keeps_what_it_has(tmp_path: Path) -> None:
    disk = blank(tmp_path / "disk")
    assert prepare_scratch_disk(str(disk))
    told = subprocess.run(["blkid", "-p", "-o", "export", disk], capture_output=True, text=True, check=True).stdout
    assert {"LABEL=SCRATCH", "TYPE=ext4"} <= set(told.split())
    before = disk.read_bytes()
    assert not prepare_scratch_disk(str(disk))
    assert disk.read_bytes() == before


def test_what_a_power_cut_left_of_a_format_is_formatted_again(tmp_path: Path) -> None:
    disk = blank(tmp_path / "disk")
    with disk.open("r+b") as file:
        file.seek(8 * MIB)
        file.write(b"\1" * 4096)  # bitmaps and tables come first, the superblock with label and magic last
    assert prepare_scratch_disk(str(disk))


@pytest.mark.parametrize("kind", ["ext4", "ext4 of another label", "swap", "gpt", "mbr", "vfat"])
def test_a_disk_that_holds_anything_is_never_formatted(tmp_path: Path, kind: str) -> None:
    disk = blank(tmp_path / "disk")
    commands: dict[str, list[str | Path]] = {
        "ext4": ["mkfs.ext4", "-q", "-F", disk],
        "ext4 of another label": ["mkfs.ext4", "-q", "-F", "-L", "SCRATCH2", disk],
        "swap": ["mkswap", disk],
        "gpt": ["sfdisk", "-q", "--no-reread", "--no-tell-kernel", disk],
        "mbr": ["sfdisk", "-q", "--no-reread", "--no-tell-kernel", disk],
        "vfat": ["mkfs.vfat", "-F", "32", disk],
    }
    table = f"label: {'dos' if kind == 'mbr' else 'gpt'}\n,\n"
    environment = {**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"}
    made = subprocess.run(commands[kind], input=table, capture_output=True, text=True, env=environment, check=False)
    assert made.returncode == 0, made.stderr
    before = disk.read_bytes()
    with pytest.raises(ScratchError, match="holds something already, and is not formatted"):
        prepare_scratch_disk(str(disk))
    assert disk.read_bytes() == before


def test_what_is_wrong_is_told_and_nothing_is_raised(tmp_path: Path) -> None:
    """The node is an empty file: blkid finds nothing, and mkfs.ext4 has no room."""
    root = machine(tmp_path, {"sdb": scsi(GOOGLES)})
    for name in ("blkid", "mkfs.ext4"):
        program = tmp_path / "sbin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\necho {name} was here\nexit {2 if name == 'blkid' else 1}\n")
        program.chmod(0o755)
    problem = mount(StepConsole("-"), root)
    assert problem.startswith("the scratch disk cannot be used: mkfs.ext4 ")
    assert "mkfs.ext4 was here" in problem
    unmount(root)
