"""A machine of Container-Optimized OS: its partitions, its boot loader's configuration, its set-up.

Everything is read below a root, from /sys and /proc as the kernel writes them, and never from udev's links: the
maintenance boot has no udev.
"""

from __future__ import annotations

import os
import struct
import time

from ..system.files import read_text, write_whole
from ..system.mounts import mounts
from ..system.os_release import COS, system_id
from ..system.output import StepConsole
from ..system.process import find_program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, Callable, Optional

    from ..system.partition_table import Partition

STATE, ROOT_A, KERNEL_B, ROOT_B, OEM, EFI_SYSTEM = 1, 3, 4, 5, 8, 12  # numbers of the partitions
UPDATE_ENGINE = "update-engine.service"
EFI_LABEL = "EFI-SYSTEM"
GRUB_CFG = "efi/boot/grub.cfg"
_MOUNT_POINT = "run/goldsmith/efi"
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}
SECTOR = 512  # /sys counts in these, whatever the disk does
PAUSE = 0.5  # seconds between two looks at a disk's size
_BLKPG, _ADD, _DELETE = 0x1269, 1, 2  # linux/blkpg.h, and the structures in it
_PARTITION, _REQUEST = struct.Struct("@qqi64s64s4x"), struct.Struct("@iiiP")
_SECONDS = 60.0  # that a program of the set-up may take


class CosError(Exception):
    """This is not Container-Optimized OS, or not laid out as it is; the text says why and what to do about it."""


def require_cos(root: str, what: str) -> None:
    """Raise CosError where the system below `root` is another one. `what` is the subject of the message."""
    system = system_id(root)
    if system != COS:
        raise CosError(
            f"{what} needs Container-Optimized OS, and this image is another system (ID={system or 'nothing'} in "
            "os-release); take it out of the spec, or start from an image of cos-cloud"
        )


def call(argv: list[str], root: str = "/", seconds: Optional[float] = None) -> tuple[int, str]:
    """Run a program of the image to its end; return its exit status and its output.

    CosError where the image does not have it, or when it takes longer than `seconds`.
    """
    import subprocess  # slow to import; builds of other systems do not need it

    program = find_program(argv[0], root)
    if not program:
        raise CosError(f"this image has no {argv[0]}")
    try:
        done = subprocess.run(
            [program, *argv[1:]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=_ENVIRONMENT,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise CosError(f"{argv[0]} was not done within {seconds:g} s") from error
    return done.returncode, done.stdout.decode("utf-8", "replace").strip()


def must_call(argv: list[str], root: str = "/") -> None:
    """Run a program of the image to its end. CosError with its output when it fails."""
    status, said = call(argv, root)
    if status:
        raise CosError(f"{' '.join(argv)} ended with status {status}: {said}")


class BootDisk:
    """The disk that the machine has started from."""

    def __init__(self, root: str) -> None:
        """Find the disk with a partition EFI-SYSTEM; of several, the one of the root file system. CosError."""
        self._root = root
        self._sys = os.path.join(root, "sys/class/block")
        self.root_device = root_device(root)  # sda3
        found = sorted(_disk_of(os.path.join(self._sys, name)) for name in partitions_labelled(EFI_LABEL, root))
        if len(found) > 1:
            found = [name for name in found if name == _disk_of(os.path.join(self._sys, self.root_device))]
        if len(found) != 1:
            raise CosError(f"{len(found)} disks have a partition {EFI_LABEL}; the boot disk cannot be determined")
        self.name = found[0]
        self.path = os.path.join(root, "dev", self.name)

    def partition(self, number: int) -> str:
        """Return a partition's device. CosError."""
        for name in os.listdir(os.path.join(self._sys, self.name)):
            facts = _uevent(os.path.join(self._sys, self.name, name))
            if facts.get("PARTN") == str(number):
                return os.path.join(self._root, "dev", name)
        raise CosError(f"{self.path} has no partition {number}, as Container-Optimized OS has it")

    def root_number(self) -> int:
        """Return the number of the root file system's partition; 0 where that is on another disk."""
        return int(_uevent(os.path.join(self._sys, self.name, self.root_device)).get("PARTN", "0"))

    def sectors(self) -> int:
        """Return the disk's present size in the kernel, in sectors of 512 bytes. OSError."""
        return _number(os.path.join(self._sys, self.name), "size")

    def wait_for(self, size: int, seconds: float) -> bool:
        """Wait until the disk has `size` bytes; return whether it has, within `seconds`. OSError."""
        rescan = os.path.join(self._sys, self.name, "device/rescan")
        until = time.monotonic() + seconds
        while self.sectors() * SECTOR < size:
            if time.monotonic() >= until:
                return False
            if os.path.exists(rescan):  # a SCSI disk reports its new size only when it is asked
                with open(rescan, "w", encoding="ascii") as file:
                    file.write("1")
            time.sleep(PAUSE)
        return True

    def tell_kernel(self, partitions: Iterable[Partition]) -> None:
        """Update the kernel's list of partitions. OSError while one that has moved is in use.

        The kernel refuses to read the table again while anything is mounted from the disk, as the root always is.
        """
        moved = [partition for partition in partitions if self._is_elsewhere(partition)]
        disk = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            for operation in (_DELETE, _ADD):  # delete all before adding any: they may not overlap
                for partition in moved:
                    _change_partition(disk, operation, partition)
        finally:
            os.close(disk)

    def _is_elsewhere(self, partition: Partition) -> bool:
        folder = os.path.join(self._sys, os.path.basename(self.partition(partition.number)))
        return (_number(folder, "start"), _number(folder, "size")) != (partition.start, partition.size)

    def mount_points(self, number: int) -> list[str]:
        """Return the mount points of a partition, the newest first."""
        device = "{MAJOR}:{MINOR}".format(**_uevent(os.path.join(self._sys, os.path.basename(self.partition(number)))))
        return [mount.path for mount in mounts(self._root) if mount.device == device][::-1]


class EfiSystem:
    """The files of EFI-SYSTEM, mounted while this context lasts. CosError."""

    def __init__(self, disk: BootDisk, root: str) -> None:
        self._device = disk.partition(EFI_SYSTEM)
        self._root = root
        self._mounted = False
        self.folder = os.path.join(root, _MOUNT_POINT)
        self._path = os.path.join(self.folder, GRUB_CFG)

    def __enter__(self) -> EfiSystem:
        """Mount the partition, unless it is mounted already."""
        if not os.path.exists(self._path):
            os.makedirs(self.folder, exist_ok=True)
            must_call(["mount", "-t", "vfat", self._device, self.folder], self._root)
            self._mounted = True
        return self

    def __exit__(self, *_: Any) -> None:
        """Unmount the partition, which writes all changes to the disk."""
        if self._mounted:
            must_call(["umount", self.folder], self._root)

    def boot_configuration(self) -> str:
        """Return the text of grub.cfg. CosError; OSError."""
        try:
            return read_text(self._path)
        except FileNotFoundError as error:
            raise CosError(f"{EFI_LABEL} has no {GRUB_CFG}, with which Container-Optimized OS boots") from error

    def edit_boot_configuration(self, edit: Callable[[str], str]) -> bool:
        """Change grub.cfg; return whether that was needed. CosError; OSError; the errors of `edit`."""
        text = self.boot_configuration()
        edited = edit(text)
        if edited == text:
            return False
        write_whole(self._path, edited.encode("utf-8", "surrogateescape"))
        return True


def edit_boot_configuration(root: str, what: str, edit: Callable[[str], str]) -> bool:
    """Change grub.cfg of the system below `root`; return whether that was needed. CosError; OSError."""
    require_cos(root, what)
    with EfiSystem(BootDisk(root), root) as efi:
        return efi.edit_boot_configuration(edit)


def partitions_labelled(label: str, root: str = "/") -> list[str]:
    """Return the kernel's names of the partitions with a label, such as sda12."""
    folder = os.path.join(root, "sys/class/block")
    return [name for name in os.listdir(folder) if _uevent(os.path.join(folder, name)).get("PARTNAME") == label]


def root_device(root: str = "/") -> str:
    """Return the kernel's name of the root file system's partition, also below dm-verity. CosError."""
    number = [mount.device for mount in mounts(root) if mount.path == "/"][-1:]
    path = os.path.realpath(os.path.join(root, "sys/dev/block", *number))
    slaves = os.path.join(path, "slaves")
    below = sorted(os.listdir(slaves)) if os.path.isdir(slaves) else []
    if not number or not os.path.isdir(path):
        raise CosError("the root file system is not on a disk")
    return below[0] if below else os.path.basename(path)


def set_up_cos(console: StepConsole) -> None:
    """Make the machine ready for the steps. A failure is only printed: the steps may not need it."""
    _attempt(console, "systemctl", "stop", UPDATE_ENGINE)
    if "/root" not in (mount.path for mount in mounts()):  # the root file system cannot be written to
        _attempt(console, "mount", "-t", "tmpfs", "-o", "mode=0700", "tmpfs", "/root")
    if find_program("docker-credential-gcr"):
        _attempt(console, "docker-credential-gcr", "configure-docker")


def _attempt(console: StepConsole, *argv: str) -> None:
    try:
        status, said = call(list(argv), seconds=_SECONDS)
    except (CosError, OSError) as error:
        status, said = -1, str(error)
    if status:
        console.say(f"{' '.join(argv)}: {said or f'status {status}'}")


def _change_partition(disk: int, operation: int, partition: Partition) -> None:
    import ctypes
    import fcntl

    place = _PARTITION.pack(partition.start * SECTOR, partition.size * SECTOR, partition.number, b"", b"")
    buffer = ctypes.create_string_buffer(place, len(place))
    fcntl.ioctl(disk, _BLKPG, _REQUEST.pack(operation, 0, len(place), ctypes.addressof(buffer)))


def _number(folder: str, name: str) -> int:
    with open(os.path.join(folder, name), encoding="ascii") as file:
        return int(file.read())


def _disk_of(partition: str) -> str:
    return os.path.basename(os.path.dirname(os.path.realpath(partition)))


def _uevent(folder: str) -> dict[str, str]:
    """Return the kernel's uevent variables of a block device; none where there is no such device."""
    try:
        with open(os.path.join(folder, "uevent"), encoding="utf-8", errors="replace") as file:
            return dict(line.rstrip("\n").split("=", 1) for line in file if "=" in line)
    except OSError:
        return {}
