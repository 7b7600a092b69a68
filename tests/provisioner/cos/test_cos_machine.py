"""A whole build with a disk layout, on a machine that boots as Container-Optimized OS does and loses its power."""

from __future__ import annotations

import base64
import io
import re
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from provisioner.cos import maintenance
from provisioner.cos.grub_config import with_masked, with_oem_verity, with_suffix
from provisioner.protocol import (
    COMPLETED,
    REBOOTING,
    SERIAL_MARK,
    STARTED,
    STEP_FINISHED,
    STEP_STARTED,
    DiskLayout,
    Job,
    Report,
    Step,
)
from provisioner.system.partition_table import read_table
from shared.delivery.cidata import cidata_files
from shared.machines.accelerator import accelerator
from shared.machines.machines import Machines, MachineSpec
from tests.provisioner.cos.bootable_disk import GRUB_CFG, MIB, SECTOR, BootableDisk, make_disk, run, start_of
from tests.provisioner.provisioning import check_numbers, job

pytestmark = pytest.mark.vm

NAME = "gs-cos-a1-vm"
PATIENCE = 900.0  # seconds for a machine on a busy host
LAYOUT = DiskLayout(reclaim=True, oem_size=64 * MIB, oem_blocks=8192)
NEW_OEM = start_of(3) // SECTOR + 4096
SCRIPT = """\
set -e
[ "$(lsblk -bno SIZE "$(findmnt -no SOURCE /usr/share/oem)")" = 67108864 ]
grep -q Container-Optimized /etc/os-release
mount -o remount,rw /usr/share/oem
echo "of the build" >/usr/share/oem/preloaded
mount -o remount,ro /usr/share/oem
touch /root/writable
"""
STEPS = (
    Step("preload", "run-script", {"script": "preload"}),
    Step("seal", "seal-oem", {}),
    Step("tune", "kernel-command-line", {"add": ["nosmt"]}),
)


class Host:
    """A host with one such machine."""

    def __init__(self, folder: Path, machines: Machines, disk: BootableDisk, given: Job) -> None:
        self.folder = folder
        self.machines = machines
        self.disk = disk
        folder.mkdir(parents=True)
        context = folder / "context.tar"
        with tarfile.open(context, "w") as archive:
            member = tarfile.TarInfo("preload")
            member.size = len(SCRIPT)
            archive.addfile(member, io.BytesIO(SCRIPT.encode()))
        self.spec = MachineSpec(NAME, folder, disk.path, cidata_files(given, context), "firmware", internet=False)

    @property
    def console(self) -> str:
        """What the machine said, over all its boots."""
        return (self.folder / "console.log").read_text(errors="replace").replace("\r", "")

    def start(self) -> None:
        """Switch the machine on."""
        self.machines.start(self.spec)

    def wait_for(self, text: str, times: int = 1) -> None:
        """Wait until the console shows something, so many times."""
        until = time.monotonic() + PATIENCE
        while self.console.count(text) < times:
            assert time.monotonic() < until, self.console[-5000:]
            threading.Event().wait(0.02)

    def wait(self) -> None:
        """Wait until the machine is off."""
        assert self.machines.wait(NAME, PATIENCE), self.console[-5000:]

    def reports(self) -> list[Report]:
        """What the provisioner said, each once: what one boot cannot know to have arrived, the next one says again."""
        lines = (self.folder / "reports.log").read_text(errors="replace").replace("\r", "").split("\n")
        found = [base64.b64decode(line.split(" ")[1]) for line in lines if line.startswith(SERIAL_MARK)]
        return check_numbers(found)

    def read(self, number: int, path: str) -> bytes:
        """Read a file of an ext4 partition."""
        target = self.folder / "read"
        start = read_table(str(self.disk.path)).partitions[number].start * SECTOR
        run("debugfs", "-R", f"dump /{path} {target}", f"{self.disk.path}?offset={start}")
        return target.read_bytes()

    def on_efi(self, path: str) -> str:
        """Read a file of EFI-SYSTEM."""
        return run("mtype", "-i", f"{self.disk.path}@@{start_of(12)}", f"::/{path}")


@pytest.fixture
def host(tmp_path: Path, debian_disk: Path) -> Iterator[Host]:
    """A host whose machine was never started."""
    accelerator(tmp_path / "home")
    disk = make_disk(debian_disk, tmp_path)
    with Machines(tmp_path / "home", lambda message: None) as machines:
        yield Host(tmp_path / "home/builds/cos/machines" / NAME, machines, disk, job(*STEPS, layout=LAYOUT, clean=True))


def verify(oem: Path, line: str) -> bool:
    """Verify a sealed OEM by veritysetup, with the numbers on the kernel's command line."""
    found = re.search(r"oemroot none ro 1, 0 (\d+) verity .* root_hexdigest=([0-9a-f]{64}) salt=([0-9a-f]{64})\"", line)
    assert found
    blocks = int(found[1]) // 8
    sizes = ["--data-block-size=4096", "--hash-block-size=4096", f"--data-blocks={blocks}"]
    layout = [f"--hash-offset={blocks * 4096}", "--no-superblock", "--format=0", f"--salt={found[3]}"]
    try:
        run("veritysetup", "verify", str(oem), str(oem), found[2], *sizes, *layout)
    except AssertionError:
        return False
    return True


@pytest.mark.soak
def test_a_build_loses_its_power_while_partitions_move(host: Host, tmp_path: Path) -> None:
    """What runs on the build VM, 1 to 6: reclaim, relocate and extend OEM, resize2fs, setup, steps, seal-oem."""
    host.start()
    host.wait_for("moving STATE (partition 1): 128 of")
    host.machines.stop(NAME)
    assert maintenance.INIT in host.on_efi("efi/boot/grub.cfg")
    assert host.on_efi(f"{maintenance.FOLDER}/journal")
    assert read_table(str(host.disk.path)).partitions[1].start * SECTOR == start_of(1)  # at neither place yet
    host.start()
    host.wait()
    said = [REBOOTING, STARTED, *[STEP_STARTED, STEP_FINISHED] * len(STEPS), COMPLETED]
    assert [report.kind for report in host.reports()] == said, host.console[-5000:]
    check_table(host)
    check_files(host)
    check_seal(host, tmp_path)


def check_table(host: Host) -> None:
    """The partitions lie as wanted, and the table is one that sfdisk likes."""
    assert "No errors detected" in run("sfdisk", "--verify", str(host.disk.path))
    partitions = read_table(str(host.disk.path)).partitions
    assert (partitions[3].start * SECTOR, partitions[3].size) == (start_of(3), 8)
    assert (partitions[8].start, partitions[8].size) == (NEW_OEM, 64 * MIB // SECTOR)
    assert partitions[1].start == partitions[8].end
    assert partitions[5].start * SECTOR == start_of(5)


def check_files(host: Host) -> None:
    """Nothing of STATE and OEM was lost or changed, and nothing of ours is left."""
    for number, files in ((1, host.disk.state), (8, host.disk.oem)):
        for name, data in files.items():
            assert host.read(number, name) == data, name
        start = read_table(str(host.disk.path)).partitions[number].start * SECTOR
        run("e2fsck", "-fn", f"{host.disk.path}?offset={start}")
    assert host.read(8, "preloaded") == b"of the build\n"
    assert "goldsmith" not in run("mdir", "-b", "-i", f"{host.disk.path}@@{start_of(12)}", "::/")


def check_seal(host: Host, folder: Path) -> None:
    """OEM verifies, with one byte changed it does not, and grub.cfg says no more than it should."""
    text = host.on_efi("efi/boot/grub.cfg")
    [line] = [line for line in text.splitlines() if "oemroot" in line]
    oem = folder / "oem.raw"
    with host.disk.path.open("rb") as disk:
        disk.seek(NEW_OEM * SECTOR)
        oem.write_bytes(disk.read(64 * MIB))
    assert verify(oem, line)
    with oem.open("r+b") as file:
        file.seek(2 * MIB)
        byte = file.read(1)[0]
        file.seek(2 * MIB)
        file.write(bytes([byte ^ 1]))
    assert not verify(oem, line)
    uuid = read_table(str(host.disk.path)).partitions[8].uuid
    found = re.search(r"root_hexdigest=(\w+) salt=(\w+)\"$", line.split("oemroot")[1].split(" nosmt")[0])
    assert found
    wanted = with_oem_verity(GRUB_CFG, uuid, 8192 * 8, found[1], found[2])
    for unit in ("update-engine.service", "usr-share-oem.mount"):
        wanted = with_masked(wanted, unit)
    assert re.sub(" nosmt$", "", text, flags=re.MULTILINE) == wanted
    assert text.count(" nosmt\n") == 2


def test_a_maintenance_boot_that_cannot_work_leaves_the_machine_as_it_was(host: Host, tmp_path: Path) -> None:
    """Armed from outside, with a damaged provisioner. test_arrangement.py has what the normal system makes of it."""
    folder, efi = tmp_path / maintenance.FOLDER, f"{host.disk.path}@@{start_of(12)}"
    folder.mkdir()
    (folder / "provisioner.pyz").write_bytes(b"damaged")
    (folder / "start.sh").write_text(maintenance.START)
    (folder / maintenance.SAVED).write_text(GRUB_CFG)
    (folder / "armed").write_text(with_suffix(GRUB_CFG, maintenance.INIT))
    run("mcopy", "-s", "-i", efi, str(folder), "::/")
    run("mcopy", "-o", "-i", efi, str(folder / "armed"), "::/efi/boot/grub.cfg")
    before = run("sfdisk", "--dump", str(host.disk.path))
    host.start()
    host.wait_for("Welcome to GRUB!", times=2)
    host.machines.stop(NAME)
    reason = host.on_efi(f"{maintenance.FOLDER}/{maintenance.FAILED}")
    assert reason.startswith("the maintenance boot failed with status 1: ")
    assert host.on_efi("efi/boot/grub.cfg") == GRUB_CFG
    assert run("sfdisk", "--dump", str(host.disk.path)) == before
