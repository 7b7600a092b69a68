"""The maintenance boot, in which partitions are moved: the kernel starts only a script of ours.

Arming puts the provisioner, the wanted layout and a start script into a folder on EFI-SYSTEM, and then appends an init
of ours to every kernel line of grub.cfg. From then on each boot is a maintenance boot, until one has removed that init
again. So after a power cut the next boot goes on, and no half-moved partition is ever mounted: the root file system
lies elsewhere and is read-only.

    armed ─► maintenance boot ─► relocated, OEM fitted ─► disarmed ─► normal boot
                 │ failed, nothing moved yet  ─► disarmed, the reason in FAILED ─► normal boot, which reports it
                 └ failed or cut while moving ─► maintenance boot, MOST_BOOTS times; then off, so that people see why
"""

from __future__ import annotations

import json
import os
import sys

from ..protocol import DiskLayout
from ..system.files import write_whole
from ..system.output import StepConsole
from ..system.partition_table import SECTOR, PartitionTableError, read_table
from ..system.process import find_program
from .cos import OEM, BootDisk, CosError, EfiSystem
from .disk_layout import DiskLayoutError, fit_oem, wanted_layout
from .grub_config import GrubConfigError, with_suffix, without_suffix
from .relocation import relocate

FOLDER = "goldsmith"  # on EFI-SYSTEM
LAYOUT, JOURNAL, FAILED, SAVED = "layout.json", "journal", "failed", "grub.cfg"  # in it
MOST_BOOTS = 8  # a disk that cannot be written to would be tried forever
DISK_SECONDS = 20.0  # to wait for the larger disk, which cannot be asked for here
SPARE = 1 << 20  # bytes of EFI-SYSTEM for the journal and a second grub.cfg
WANTED = ("sh", "python3", "mount", "grep", "e2fsck", "resize2fs")  # programs that the image must have

# GRUB removes these quotes and passes double ones to the kernel, because there are spaces; the kernel removes those. So
# there can be no quote and no backslash within.
INIT = (
    " init=/bin/sh -- -c '"
    "export PATH=/usr/sbin:/usr/bin:/sbin:/bin; mount -t devtmpfs dev /dev; mount -t proc proc /proc; "
    "mount -t sysfs sys /sys; mount -t tmpfs run /run; m=/run/goldsmith/efi; mkdir -p $m; "
    "for n in 1 2 3 4 5 6 7 8 9; do for p in $(grep -lx PARTNAME=EFI-SYSTEM /sys/class/block/*/uevent); do "
    "p=${p%/uevent}; mount -t vfat /dev/${p##*/} $m && cp $m/goldsmith/start.sh /run && sh /run/start.sh; "
    "umount $m; done; sleep $n; done; echo o >/proc/sysrq-trigger && sleep 60; poweroff -ff; sleep 60'"
)

START = f"""\
# Started by the kernel, as its only process. Never returns.
efi=/run/goldsmith/efi
here=$efi/{FOLDER}
say() {{
    echo "goldsmith: $1" >/dev/console
}}
leave() {{
    cd /
    sync
    umount $efi
    sleep 1 # for the console
    echo "$1" >/proc/sysrq-trigger && sleep 60
    [ "$1" = b ] || poweroff -ff # where the kernel has no such trigger; these ask no init
    reboot -ff
    sleep 60
}}
echo boot >>$here/boots
sync
boots=$(grep -c . $here/boots)
status=1
if [ "$boots" -le {MOST_BOOTS} ]; then
    python3 -I -S -E $here/provisioner.pyz --maintenance 2>/run/goldsmith/error
    status=$?
fi
[ $status -ne 0 ] || leave b
cat /run/goldsmith/error >/dev/console
reason="the maintenance boot failed with status $status: $(tail -n 1 /run/goldsmith/error)"
if [ -s $here/{JOURNAL} ]; then
    say "partitions are half moved, and this was try $boots of {MOST_BOOTS}: $reason"
    [ "$boots" -gt {MOST_BOOTS} ] || leave b
    leave o
fi
[ -s $here/{FAILED} ] || echo "$reason" >$here/{FAILED}
sync
cp $here/{SAVED} $efi/efi/boot/grub.new
sync
mv $efi/efi/boot/grub.new $efi/efi/boot/grub.cfg
leave b
"""


def arm(efi: EfiSystem, root: str, archive: str, layout: DiskLayout) -> None:
    """Make every boot from now on a maintenance boot. `archive` is the path of provisioner.pyz.

    CosError when the image lacks something that such a boot needs; GrubConfigError; OSError.
    """
    missing = [name for name in WANTED if not find_program(name, root)]
    if missing:
        raise CosError(f"partitions cannot be moved on this image: it has no {', '.join(missing)}")
    if is_armed(efi):
        return
    folder = os.path.join(efi.folder, FOLDER)
    remove(efi)
    with open(archive, "rb") as file:
        provisioner = file.read()
    room = os.statvfs(efi.folder)
    if room.f_bavail * room.f_frsize < len(provisioner) + SPARE:
        raise CosError(
            f"EFI-SYSTEM has no room for {(len(provisioner) + SPARE) >> 10} KiB, which moving partitions needs"
        )
    os.makedirs(folder)
    for name, data in (
        ("provisioner.pyz", provisioner),
        ("start.sh", START.encode()),
        (LAYOUT, json.dumps(vars(layout)).encode()),
        (SAVED, efi.boot_configuration().encode("utf-8", "surrogateescape")),
    ):
        write_whole(os.path.join(folder, name), data)
    efi.edit_boot_configuration(lambda text: with_suffix(text, INIT))


def is_armed(efi: EfiSystem) -> bool:
    """Return whether the next boot is a maintenance boot."""
    text = efi.boot_configuration()
    return without_suffix(text, INIT) != text


def disarm(efi: EfiSystem) -> None:
    """Make the next boot a normal one. OSError; GrubConfigError."""
    efi.edit_boot_configuration(lambda text: without_suffix(text, INIT))
    remove(efi)


def remove(efi: EfiSystem) -> None:
    """Remove our files from EFI-SYSTEM. OSError."""
    folder = os.path.join(efi.folder, FOLDER)
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        os.unlink(os.path.join(folder, name))
    if os.path.isdir(folder):
        os.rmdir(folder)


def failure(efi: EfiSystem) -> str:
    """Return why a maintenance boot has given up before it moved anything; "" where none has."""
    try:
        with open(os.path.join(efi.folder, FOLDER, FAILED), encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except FileNotFoundError:
        return ""


def main() -> int:
    """Do the work of a maintenance boot; return 0 when the next boot is a normal one.

    Else the next boot has to go on, or, where nothing was moved yet, the reason is on EFI-SYSTEM.
    """
    console = StepConsole("/dev/console")
    disk = BootDisk("/")
    with EfiSystem(disk, "/") as efi:
        folder = os.path.join(efi.folder, FOLDER)
        try:
            with open(os.path.join(folder, LAYOUT), "rb") as file:
                layout = DiskLayout(**json.loads(file.read()))
            if is_under_way(folder) or disk.wait_for(layout.disk_size or 0, DISK_SECONDS):
                move_partitions(disk, layout, os.path.join(folder, JOURNAL), console)
            else:
                console.say("the larger disk is not there: the normal system has to ask for it again")
            disarm(efi)
        except (CosError, DiskLayoutError, GrubConfigError, PartitionTableError, OSError) as error:
            write_whole(os.path.join(folder, FAILED), str(error).encode())
            sys.stderr.write(f"{error}\n")
            return 1
    return 0


def is_under_way(folder: str) -> bool:
    """Return whether an earlier boot has begun to move partitions."""
    path = os.path.join(folder, JOURNAL)
    return os.path.exists(path) and os.path.getsize(path) > 0


def move_partitions(disk: BootDisk, layout: DiskLayout, journal: str, console: StepConsole) -> None:
    """Move the partitions, and fit OEM's file system into its own.

    CosError; DiskLayoutError; PartitionTableError; OSError.
    """
    table = read_table(disk.path)
    relocate(disk.path, wanted_layout(table, layout, table.disk_sectors), journal, console.say)
    if layout.oem_size is not None or layout.oem_blocks is not None:
        partitions = read_table(disk.path).partitions
        disk.tell_kernel(partitions.values())
        console.say(f"fitting the OEM file system into {partitions[OEM].size * SECTOR >> 20} MiB")
        fit_oem(disk.partition(OEM), layout.oem_blocks)
