"""seal-oem: OEM gets a hash tree that veritysetup accepts, and grub.cfg has it on the kernel's command line."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from provisioner.steps.step_context import StepError
from shared.host.programs import find_tool
from tests.provisioner.cos.machine_tree import GRUB_CFG, CosTree, act_on

OEM_UUID = "5F3A1C56-6C0A-4E35-8D5C-0123456789AB"
TABLE = f'label: gpt\n8: start=2048, size=16384, uuid={OEM_UUID}, name="OEM"\n'
BLOCK, BLOCKS = 4096, 1024
SECTORS = BLOCKS * 8


@pytest.fixture
def cos(tmp_path: Path) -> CosTree:
    """A machine with an OEM partition of 8 MiB, whose file system takes the first half."""
    cos = CosTree(tmp_path / "root")
    cos.device.write_bytes(b"")
    os.truncate(cos.device, 16 << 20)
    table = [find_tool("sfdisk"), "-q", "--no-reread", "--no-tell-kernel", str(cos.device)]
    subprocess.run(table, input=TABLE.encode(), check=True)
    files = tmp_path / "files"
    files.mkdir()
    (files / "user-data").write_text("#cloud-config\n" * 1000)
    oem = oem_of(cos)
    oem.write_bytes(b"")
    os.truncate(oem, 8 << 20)
    format_as = ["-q", "-F", "-t", "ext4", "-b", str(BLOCK), "-L", "OEM", "-d", str(files)]
    subprocess.run([find_tool("mke2fs"), *format_as, str(oem), str(BLOCKS)], check=True)
    return cos


def oem_of(cos: CosTree) -> Path:
    """Return the device of the OEM partition."""
    return cos.root / "dev/sda8"


def veritysetup(oem: Path, line: str) -> int:
    """Verify OEM as the kernel does, from its command line; return veritysetup's status."""
    found = re.search(r" alg=sha256 root_hexdigest=([0-9a-f]{64}) salt=([0-9a-f]{64})$", line)
    assert found
    sizes = [f"--data-block-size={BLOCK}", f"--hash-block-size={BLOCK}", f"--data-blocks={BLOCKS}"]
    layout = [f"--hash-offset={BLOCKS * BLOCK}", "--no-superblock", "--format=0", f"--salt={found[2]}"]
    command = [find_tool("veritysetup"), "verify", str(oem), str(oem), found[1], *sizes, *layout]
    return subprocess.run(command, capture_output=True, check=False).returncode


def test_oem_is_sealed_and_the_kernel_told(cos: CosTree) -> None:
    """seal-oem: dm-verity on the OEM partition; masks update-engine and usr-share-oem.mount."""
    assert cos.act("seal-oem", {}) == 0
    text = cos.grub_cfg.read_text()
    [line] = [line for line in text.splitlines() if "dm=" in line]
    entry = line.split('dm="')[1].split('"')[0].split(",oemroot")
    assert entry[0].startswith("2 vroot none ro 1,0 4077568 verity ")
    source = f"payload=PARTUUID={OEM_UUID} hashtree=PARTUUID={OEM_UUID} hashstart={SECTORS} alg=sha256"
    assert entry[1].startswith(f" none ro 1, 0 {SECTORS} verity {source} root_hexdigest=")
    for unit in ("update-engine.service", "usr-share-oem.mount"):
        assert text.count(f" systemd.mask={unit}") == GRUB_CFG.count("cros_efi")
    assert veritysetup(oem_of(cos), entry[1]) == 0
    with oem_of(cos).open("r+b") as file:
        file.seek(BLOCKS * BLOCK // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))
    assert veritysetup(oem_of(cos), entry[1]) != 0


def test_a_second_try_changes_nothing(cos: CosTree) -> None:
    assert cos.act("seal-oem", {}) == 0
    before = oem_of(cos).read_bytes(), cos.grub_cfg.read_text()
    assert cos.act("seal-oem", {}) == 0
    assert (oem_of(cos).read_bytes(), cos.grub_cfg.read_text()) == before


def test_oem_is_unmounted_first(cos: CosTree) -> None:
    umount = cos.root / "usr/bin/umount"
    umount.parent.mkdir(parents=True)
    umount.write_text(f'#!/bin/sh\necho "$@" >>{cos.root}/calls; [ "$1" != /mnt/oem ] || exit 32\n')
    umount.chmod(0o755)
    with (cos.root / "proc/self/mountinfo").open("a") as mounts:
        mounts.write("30 22 8:8 / /mnt/oem ro - ext4 /dev/sda8 ro\n")
        mounts.write("31 22 8:8 / /usr/share/oem ro - ext4 /dev/sda8 ro\n")
    before = oem_of(cos).read_bytes()
    with pytest.raises(StepError, match="umount /mnt/oem ended with status 32"):
        cos.act("seal-oem", {})
    assert (cos.root / "calls").read_text() == "/usr/share/oem\n/mnt/oem\n"
    assert oem_of(cos).read_bytes() == before


def test_a_file_system_that_fills_its_partition_cannot_be_sealed(cos: CosTree) -> None:
    os.truncate(oem_of(cos), BLOCKS * BLOCK)
    with pytest.raises(StepError, match=r"4194304 bytes leave no room for a hash tree in the 4194304 bytes"):
        cos.act("seal-oem", {})
    os.truncate(oem_of(cos), (BLOCKS + 1) * BLOCK)
    with pytest.raises(StepError, match="ask for a larger partition"):
        cos.act("seal-oem", {})
    assert cos.grub_cfg.read_text() == GRUB_CFG


def test_no_file_system_and_another_system_are_told_so(cos: CosTree, tmp_path: Path) -> None:
    oem_of(cos).write_bytes(bytes(8 << 20))
    with pytest.raises(StepError, match="has no ext4 file system"):
        cos.act("seal-oem", {})
    with pytest.raises(StepError, match="seal-oem needs Container-Optimized OS"):
        act_on(tmp_path, "seal-oem", {})
