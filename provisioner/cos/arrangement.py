"""Bring the partitions of Container-Optimized OS to the places of the job's layout, over as many boots as it takes.

    root runs from ROOT-A, which is to be reclaimed ─► copy it to ROOT-B, prefer that ─► reboot
    partitions lie otherwise than wanted            ─► arm the maintenance boot, wait for a larger disk ─► reboot
    they lie as wanted                              ─► fit OEM's file system, go on with the steps

Each boot reads the disk and does what is missing, so the state holds only the number of tries. The maintenance boot is
armed before a larger disk is asked for: a normal boot on a disk that has grown makes STATE fill it, and would leave no
room to move STATE to.
"""

from __future__ import annotations

import os

from ..protocol import DISK_WANTED, FAILED, REBOOTING, SLOWEST_MOVE, DiskLayout
from ..reporting.journal import Journal
from ..system.file_system import FILE_SYSTEM_HEAD, file_system_size
from ..system.output import StepConsole
from ..system.partition_table import SECTOR, PartitionTableError, read_table
from . import maintenance
from .cos import KERNEL_B, OEM, ROOT_A, ROOT_B, BootDisk, CosError, EfiSystem, must_call, require_cos
from .disk_layout import DiskLayoutError, wanted_layout
from .grub_config import GrubConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .disk_layout import Targets

MOST_BOOTS = 12  # of one attempt; two or three are normal
DISK_SECONDS = 180.0  # until the larger disk must be there
CHUNK = 4 << 20  # bytes copied at once
BLOCK = 4096  # bytes, DiskLayout.oem_blocks counts in these
BOOT_SECONDS = 300.0  # that a boot without a report may take, on an emulated CPU


def arrange(layout: DiskLayout, journal: Journal, console: StepConsole, root: str, archive: str) -> tuple[str, str]:
    """Do this boot's part; return REBOOTING, FAILED or "", and a reason or a note for people. OSError."""
    arrangement = Arrangement(layout, journal, console, root, archive)
    try:
        return arrangement.run(), "; ".join(arrangement.notes)
    except CosError as error:
        return FAILED, str(error)


class Arrangement:
    """One boot's part of it, on a machine whose files are below `root`; `archive` is the path of provisioner.pyz.

    `patience` is how many seconds to wait for a larger disk. `notes` are for people, afterwards.
    """

    def __init__(
        self,
        layout: DiskLayout,
        journal: Journal,
        console: StepConsole,
        root: str,
        archive: str,
        patience: float = DISK_SECONDS,
    ) -> None:
        self.notes: list[str] = []
        self._layout = layout
        self._journal = journal
        self._console = console
        self._root = root
        self._archive = archive
        self._patience = patience

    def run(self) -> str:
        """Return REBOOTING when the machine must restart, "" when the layout is as wanted. CosError; OSError."""
        state = self._journal.state
        if state.arranged:
            return ""
        state.arranging += 1
        if state.arranging > MOST_BOOTS:
            raise CosError(f"after {MOST_BOOTS} boots the partitions are still not laid out as asked")
        try:
            outcome = self._go_on()
        except (DiskLayoutError, GrubConfigError, PartitionTableError) as error:
            raise CosError(str(error)) from error
        state.arranged = not outcome
        self._journal.commit()
        return outcome

    def _go_on(self) -> str:
        require_cos(self._root, "a disk layout")
        disk = BootDisk(self._root)
        if self._layout.reclaim and disk.root_number() == ROOT_A:
            self._console.say("copying the root file system to the other root partition, to start from there")
            copy_partition(disk.path, ROOT_A, ROOT_B)
            must_call(["cgpt", "prioritize", "-P", "5", "-i", str(KERNEL_B), disk.path], self._root)
            return self._reboot("to start from the second root partition", BOOT_SECONDS)
        with EfiSystem(disk, self._root) as efi:
            reason = maintenance.failure(efi)
            if reason:
                maintenance.disarm(efi)
                raise CosError(f"the partitions stay as they were: {reason}")
            targets = self._targets(disk)
            if not targets.placements and self._fits(disk):
                maintenance.disarm(efi)
                return ""
            maintenance.arm(efi, self._root, self._archive, self._layout)
            self._wait_for_disk(disk, efi)
        moved = sum(place.size * SECTOR for place in targets.placements if place.start != place.new_start)
        return self._reboot(f"to move {moved >> 20} MiB of partitions", BOOT_SECONDS + moved / SLOWEST_MOVE)

    def _reboot(self, purpose: str, seconds: float) -> str:
        """Prepare the last report before a boot that sends none for up to `seconds`."""
        self._console.say(f"rebooting {purpose}")
        self._journal.report(REBOOTING, seconds=seconds, message="; ".join([f"rebooting {purpose}", *self.notes]))
        return REBOOTING

    def _targets(self, disk: BootDisk) -> Targets:
        """Return what has to move once the disk has its wanted size."""
        table = read_table(disk.path)
        targets = wanted_layout(table, self._layout, max(disk.sectors(), (self._layout.disk_size or 0) // SECTOR))
        self.notes += targets.warnings
        for warning in targets.warnings:
            self._console.say(warning)
        return targets

    def _fits(self, disk: BootDisk) -> bool:
        """Return whether OEM's file system has the wanted size; without a wanted size it always has."""
        if self._layout.oem_blocks is None:
            return True
        with open(disk.partition(OEM), "rb") as file:
            return file_system_size(file.read(FILE_SYSTEM_HEAD)) == self._layout.oem_blocks * BLOCK

    def _wait_for_disk(self, disk: BootDisk, efi: EfiSystem) -> None:
        wanted = self._layout.disk_size or 0
        if disk.sectors() * SECTOR >= wanted:
            return
        self._journal.record(DISK_WANTED, message=f"waiting for the boot disk to have {wanted >> 30} GB")
        if not disk.wait_for(wanted, self._patience):
            maintenance.disarm(efi)
            raise CosError(
                f"the boot disk still has {disk.sectors() * SECTOR >> 30} GB after {self._patience:g} s, and "
                f"{wanted >> 30} are needed to extend OEM; the account of the build must be able to resize it"
            )


def copy_partition(path: str, source: int, target: int) -> None:
    """Copy one partition of a disk over another, and read it back. CosError; PartitionTableError; OSError.

    Equal chunks are not written: after an interruption only the rest is.
    """
    partitions = read_table(path).partitions
    if not {source, target} <= set(partitions) or partitions[target].size < partitions[source].size:
        raise CosError(f"{path}: partition {source} cannot be copied to partition {target}: it would not fit")
    start, new_start = (partitions[number].start * SECTOR for number in (source, target))
    size = partitions[source].size * SECTOR
    disk = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        _copy(disk, start, new_start, size)
        os.fsync(disk)
        os.posix_fadvise(disk, new_start, size, os.POSIX_FADV_DONTNEED)  # read the disk next, not the memory
        if _copy(disk, start, new_start, size):
            raise CosError(f"{path}: partition {target} does not hold what was written to it; the disk is damaged")
    finally:
        os.close(disk)


def _copy(disk: int, start: int, new_start: int, size: int) -> int:
    """Write the chunks that differ; return how many."""
    written = 0
    for offset in range(0, size, CHUNK):
        length = min(CHUNK, size - offset)
        data = os.pread(disk, length, start + offset)
        if data == os.pread(disk, length, new_start + offset):
            continue
        written += 1
        view = memoryview(data)
        at = new_start + offset
        while view:
            count = os.pwrite(disk, view, at)
            view, at = view[count:], at + count
    return written
