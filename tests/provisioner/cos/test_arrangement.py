"""The boots before the first step, on trees with real disk files. test_cos_machine.py boots a whole machine."""

from __future__ import annotations

import base64
import random
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from provisioner.cos import arrangement, maintenance
from provisioner.cos.arrangement import Arrangement, arrange, copy_partition
from provisioner.cos.cos import CosError
from provisioner.cos.grub_config import with_suffix, without_suffix
from provisioner.protocol import (
    COMPLETED,
    DISK_WANTED,
    FAILED,
    REBOOTING,
    SLOWEST_MOVE,
    STARTED,
    DiskLayout,
    Report,
    decode_report,
)
from provisioner.reporting.journal import Journal
from provisioner.reporting.report_port import ReportPort
from provisioner.reporting.reports import Reporter
from provisioner.reporting.state import JobState, load_state
from provisioner.system.output import StepConsole
from shared.host.programs import find_tool
from tests.provisioner.cos.machine_tree import GRUB_CFG, CosTree
from tests.provisioner.provisioning import Provisioning, job

MIB = 1 << 20
DISK = 80 * MIB
KERNEL = "type=FE3A2A5D-4F32-41A7-B725-ACCC3285A309"
TABLE = f"""\
label: gpt
8: start=2048, size=8192, name="OEM"
12: start=10240, size=2048, name="EFI-SYSTEM"
2: start=12288, size=2048, name="KERN-A", {KERNEL}
4: start=14336, size=2048, name="KERN-B", {KERNEL}
5: start=16384, size=32768, name="ROOT-B"
3: start=49152, size=32768, name="ROOT-A"
1: start=81920, size=20480, name="STATE"
"""
PROGRAMS = ("cgpt", "e2fsck", "resize2fs", "python3", "sh", "grep", "mount")
STAYS = "OEM has 4194304 bytes, no less than the 2097152 asked for, and stays"
LARGER_OEM = DiskLayout(oem_size=16 * MIB, disk_size=2 * DISK)


def make_cos(root: Path, root_partition: int = 5) -> CosTree:
    """Make a small machine."""
    cos = CosTree(root, root_partition=root_partition)
    with cos.device.open("wb") as file:
        file.truncate(DISK)
    table = [find_tool("sfdisk"), "-q", "--no-reread", "--no-tell-kernel", str(cos.device)]
    subprocess.run(table, input=TABLE.encode(), check=True)
    cos.set_size(DISK)
    for name in PROGRAMS:
        cos.program(name, find_tool(name))
    return cos


@pytest.fixture
def cos(tmp_path: Path) -> CosTree:
    """Make a small machine whose root file system is on ROOT-B."""
    return make_cos(tmp_path / "root")


class Boot:
    """One boot's part, with the reports that it sends."""

    def __init__(self, cos: CosTree, layout: DiskLayout, patience: float = 20.0) -> None:
        folder = cos.root.parent
        (folder / "provisioner.pyz").write_bytes(b"the provisioner")
        self.port = folder / "port"
        self.port.touch()
        self.job = job(report_port=str(self.port), layout=layout)
        self.state = load_state(str(folder / "state.json"), self.job) or JobState(self.job.build_id, self.job.phase, 1)
        console = StepConsole(str(folder / "console"))
        self.reporter = Reporter([ReportPort(self.job, console)])
        self.journal = Journal(str(folder / "state.json"), self.job, self.state, self.reporter)
        archive = str(folder / "provisioner.pyz")
        self.arrangement = Arrangement(layout, self.journal, console, str(cos.root), archive, patience)

    def run(self) -> str:
        """Do the boot's part."""
        try:
            return self.arrangement.run()
        finally:
            self.reporter.drain(5)


def reports(cos: CosTree) -> list[Report]:
    """Return the reports so far."""
    lines = (cos.root.parent / "port").read_text().split("\n")
    return [decode_report(base64.b64decode(line.split(" ")[1])) for line in lines if line]


def kinds_and_messages(cos: CosTree) -> list[str]:
    """Return the kinds and messages of the reports so far."""
    return [f"{report.kind}: {report.message}" for report in reports(cos)]


def folder_of(cos: CosTree) -> Path:
    """Return the folder with the files of a maintenance boot."""
    return cos.root / "run/goldsmith/efi" / maintenance.FOLDER


def is_armed(cos: CosTree) -> bool:
    """Return whether the next boot is a maintenance boot, with all that it needs."""
    armed = cos.grub_cfg.read_text() == with_suffix(GRUB_CFG, maintenance.INIT)
    assert armed or cos.grub_cfg.read_text() == GRUB_CFG
    assert armed == folder_of(cos).exists()
    return armed


def test_the_maintenance_boot_is_armed_before_the_larger_disk_is_asked_for(cos: CosTree) -> None:
    """finish-image-build -oem-size, reclaim and -disk-size-gb over 10 GB: the VM waits, the disk is resized."""
    boot = Boot(cos, LARGER_OEM)
    seen: list[bool] = []

    def grow() -> None:
        while not cos.root.parent.joinpath("port").read_bytes():
            threading.Event().wait(0.01)
        seen.append(is_armed(cos))
        cos.set_size(2 * DISK)

    grower = threading.Thread(target=grow)
    grower.start()
    assert boot.run() == REBOOTING
    grower.join()
    assert seen == [True]
    assert is_armed(cos)
    assert kinds_and_messages(cos) == [
        "disk-wanted: waiting for the boot disk to have 0 GB",
        "rebooting: rebooting to move 14 MiB of partitions",
    ]
    names = sorted(path.name for path in folder_of(cos).iterdir())
    assert names == ["grub.cfg", "layout.json", "provisioner.pyz", "start.sh"]
    assert (folder_of(cos) / "grub.cfg").read_text() == GRUB_CFG
    assert (folder_of(cos) / "provisioner.pyz").read_bytes() == b"the provisioner"
    assert not boot.state.arranged


def test_a_disk_that_does_not_grow_fails_the_job_and_leaves_the_machine_as_it_was(cos: CosTree) -> None:
    with pytest.raises(CosError, match=r"the boot disk still has 0 GB after 0\.2 s, and 0 are needed to extend OEM"):
        Boot(cos, LARGER_OEM, patience=0.2).run()
    assert not is_armed(cos)
    assert kinds_and_messages(cos) == ["disk-wanted: waiting for the boot disk to have 0 GB"]


def test_a_boot_that_was_cut_off_while_it_waited_goes_on(cos: CosTree) -> None:
    boot = Boot(cos, LARGER_OEM)
    cos.set_size(2 * DISK)
    (folder_of(cos)).mkdir()
    (folder_of(cos) / "layout.json").write_text("{}")  # arming had just begun
    assert boot.run() == REBOOTING
    assert is_armed(cos)
    armed = cos.grub_cfg.read_bytes()
    assert Boot(cos, LARGER_OEM).run() == REBOOTING
    assert cos.grub_cfg.read_bytes() == armed


def test_the_reboot_says_for_how_long_nothing_may_be_heard(cos: CosTree) -> None:
    cos.set_size(2 * DISK)
    Boot(cos, LARGER_OEM).run()
    [report] = reports(cos)
    assert (report.kind, report.seconds) == (REBOOTING, arrangement.BOOT_SECONDS + 14 * MIB / SLOWEST_MOVE)


def test_partitions_that_lie_as_wanted_need_no_reboot(cos: CosTree) -> None:
    layout = DiskLayout(oem_size=2 * MIB)
    boot = Boot(cos, layout)
    assert boot.run() == ""
    assert boot.state.arranged
    assert boot.arrangement.notes == [STAYS]
    assert Boot(cos, layout).run() == ""


def test_what_a_maintenance_boot_could_not_remove_is_removed(cos: CosTree) -> None:
    folder_of(cos).mkdir()
    (folder_of(cos) / "journal").write_bytes(bytes(8192))  # the power went between grub.cfg and the folder
    assert Boot(cos, DiskLayout(oem_size=2 * MIB)).run() == ""
    assert not folder_of(cos).exists()


def test_why_a_maintenance_boot_gave_up_fails_the_job(cos: CosTree) -> None:
    folder_of(cos).mkdir()
    (folder_of(cos) / "failed").write_text("the disk has 83886080 bytes, and more are needed\n")
    boot = Boot(cos, LARGER_OEM)
    outcome = arrange(LARGER_OEM, boot.journal, StepConsole("-"), str(cos.root), "")
    assert outcome == (FAILED, "the partitions stay as they were: the disk has 83886080 bytes, and more are needed")
    assert not is_armed(cos)


def test_an_oem_that_is_too_large_for_the_disk_fails_before_anything_is_changed(cos: CosTree) -> None:
    with pytest.raises(CosError, match="ask for a larger disk or a smaller OEM"):
        Boot(cos, DiskLayout(oem_size=64 * MIB)).run()
    assert not is_armed(cos)


def test_an_image_without_the_tools_fails_before_anything_is_changed(cos: CosTree) -> None:
    (cos.root / "usr/bin/resize2fs").unlink()
    with pytest.raises(CosError, match="it has no resize2fs"):
        Boot(cos, LARGER_OEM).run()
    assert not is_armed(cos)


def test_boots_without_end_come_to_an_end(cos: CosTree) -> None:
    cos.set_size(2 * DISK)
    for _ in range(arrangement.MOST_BOOTS):
        assert Boot(cos, LARGER_OEM).run() == REBOOTING
    with pytest.raises(CosError, match=f"after {arrangement.MOST_BOOTS} boots"):
        Boot(cos, LARGER_OEM).run()


def test_root_a_is_left_before_it_is_reclaimed(tmp_path: Path) -> None:
    """Reclaim: if root runs from 3, copy 3 to 5, `cgpt prioritize -P 5 -i 4`, reboot."""
    cos = make_cos(tmp_path / "root", root_partition=3)
    content = random.Random(3).randbytes(16 * MIB)
    with cos.device.open("r+b") as file:
        file.seek(49152 * 512)
        file.write(content)
    assert Boot(cos, DiskLayout(reclaim=True)).run() == REBOOTING
    with cos.device.open("rb") as file:
        file.seek(16384 * 512)
        assert file.read(16 * MIB) == content
    assert priority(cos.device, 4) == 5 > priority(cos.device, 2)
    assert not is_armed(cos)
    subprocess.run([find_tool("sfdisk"), "-q", "--verify", str(cos.device)], check=True, capture_output=True)
    assert Boot(make_cos_of(cos), DiskLayout(reclaim=True)).run() == REBOOTING
    assert is_armed(cos)


def make_cos_of(cos: CosTree) -> CosTree:
    """Return the same machine, started from ROOT-B."""
    (cos.root / "proc/self/mountinfo").write_text("22 1 8:5 / / ro - ext4 /dev/root ro\n")
    return cos


def priority(disk: Path, number: int) -> int:
    """Return the priority of a kernel partition, by cgpt."""
    done = subprocess.run(
        [find_tool("cgpt"), "show", "-i", str(number), "-P", str(disk)], check=True, capture_output=True
    )
    return int(done.stdout)


def test_a_copy_writes_only_what_differs_and_must_fit(tmp_path: Path) -> None:
    cos = make_cos(tmp_path / "root")
    with cos.device.open("r+b") as file:
        file.seek(49152 * 512 + 5 * MIB)
        file.write(b"root")
    before = cos.device.stat().st_blocks
    copy_partition(str(cos.device), 3, 5)
    assert cos.device.stat().st_blocks - before <= arrangement.CHUNK // 512  # the rest is a hole as before
    with pytest.raises(CosError, match="partition 5 cannot be copied to partition 8"):
        copy_partition(str(cos.device), 5, 8)


def test_the_init_survives_grub_and_the_kernel(tmp_path: Path) -> None:
    inner = maintenance.INIT.partition("-c '")[2].removesuffix("'")
    assert not set(inner) & set("'\"\\\n")  # GRUB would escape them for the kernel, which knows no escapes
    assert len(maintenance.INIT) < 800  # of 2047 bytes; sealed lines of Container-Optimized OS have some 1100
    assert without_suffix(with_suffix(GRUB_CFG, maintenance.INIT), maintenance.INIT) == GRUB_CFG
    (tmp_path / "grub.cfg").write_text(with_suffix(GRUB_CFG, maintenance.INIT))
    subprocess.run([find_tool("grub-script-check"), str(tmp_path / "grub.cfg")], check=True)
    for script in (inner, maintenance.START):
        for shell in ("dash", "bash"):
            if shutil.which(shell):
                subprocess.run([shell, "-n", "-c", script], check=True)
    checked = subprocess.run(
        [find_tool("shellcheck"), "-s", "sh", "-"], input=maintenance.START, text=True, check=False
    )
    assert checked.returncode == 0


@pytest.mark.parametrize(("way", "calls"), [("o", ["poweroff -ff", "reboot -ff"]), ("b", ["reboot -ff"])])
def test_a_kernel_without_the_trigger_is_left_all_the_same(tmp_path: Path, way: str, calls: list[str]) -> None:
    """Otherwise the script would end, the kernel would panic, and the machine would hang."""
    leave = "leave() {" + maintenance.START.partition("leave() {")[2].partition("\n}")[0] + "\n}\n"
    leave = leave.replace("/proc/sysrq-trigger", f"{tmp_path}/none/trigger")
    for name in ("sync", "umount", "sleep", "poweroff", "reboot"):
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\necho "{name}${{*:+ $*}}" >>{tmp_path}/calls\n')
        program.chmod(0o755)
    command = [find_tool("dash"), "-c", f"efi=/efi\n{leave}leave {way}"]
    subprocess.run(command, env={"PATH": str(tmp_path)}, capture_output=True, check=True)
    assert (tmp_path / "calls").read_text().splitlines() == ["sync", "umount /efi", "sleep 1", *calls, "sleep 60"]


def test_a_job_goes_on_with_its_steps_once_the_disk_is_as_wanted(tmp_path: Path) -> None:
    machine = Provisioning(tmp_path / "m", job(layout=DiskLayout(oem_size=2 * MIB)))
    make_cos(machine.root)
    assert machine.run().status == 0
    started, completed = machine.reports()
    assert (started.kind, completed.kind) == (STARTED, COMPLETED)
    assert started.message == STAYS


def test_a_job_reboots_and_fails_as_its_disk_does(tmp_path: Path) -> None:
    machine = Provisioning(tmp_path / "m", job(layout=DiskLayout(oem_size=16 * MIB)))
    cos = make_cos(machine.root)
    cos.set_size(2 * DISK)
    assert machine.run().status == 194
    assert machine.kinds() == [REBOOTING]
    assert is_armed(cos)
    (folder_of(cos) / "failed").write_text("no\n")
    assert machine.run().status == 1
    assert (machine.reports()[-1].kind, machine.reports()[-1].message) == (
        FAILED,
        "the partitions stay as they were: no",
    )
    assert not is_armed(cos)


def test_another_system_has_no_such_layout(tmp_path: Path) -> None:
    machine = Provisioning(tmp_path / "m", job(layout=DiskLayout(reclaim=True)))
    assert machine.run().status == 1
    [failed] = machine.reports()
    assert failed.kind == FAILED
    assert failed.message.startswith("a disk layout needs Container-Optimized OS")
    assert DISK_WANTED not in machine.kinds()
