"""The scratch disk: a blank disk of the build VM alone, for what must not be in the image, such as a compiler.

It is found by its name, as is a maker VM's disk for the root, never by its size or place. On Compute Engine and its
emulator it is a SCSI disk of the vendor Google with that device name, or the target of the link that Google's udev
rules make. In a direct boot it is the namespace SCRATCH_NAMESPACE of the controller whose serial number is NVME_SERIAL;
a disk that is given to a machine that runs has a controller of its own there, whose serial number ends in its name.
A disk that holds anything at all is never formatted.
"""

from __future__ import annotations

import os
import time

from ..cos.cos import CosError, call, must_call
from ..protocol import EXPORT_DISK, NVME_SERIAL, ROOT_DISK, ROOT_NAMESPACE, SCRATCH, SCRATCH_NAMESPACE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Optional

    from ..system.output import StepConsole

MOUNT_POINT = "mnt/disks/scratch"
LABEL = "SCRATCH"
SECONDS = 60.0  # for the disk to appear
PAUSE = 0.2  # seconds between two looks
_LINK = "dev/disk/by-id/google-"
_MAGIC_AT, _MAGIC = 0x438, b"\x53\xef"  # of ext4
_LABEL_AT, _LABEL_SIZE = 0x478, 16
_NOTHING_FOUND = 2  # exit status of blkid(8)


class ScratchError(Exception):
    """The disk is not there, or cannot be used; the text says why and what to do about it."""


def mount(console: StepConsole, root: str = "/") -> str:
    """Mount the disk, after formatting it where it is blank; return what is wrong, or ""."""
    point = os.path.join(root, MOUNT_POINT)
    if os.path.ismount(point):
        return ""
    try:
        device = wait_for(root, SECONDS)
        if prepare_scratch_disk(device, root):
            console.say(f"the scratch disk {device} is formatted")
        os.makedirs(point, exist_ok=True)
        must_call(["mount", "-t", "ext4", device, point], root)
    except (CosError, OSError, ScratchError) as error:
        return f"the scratch disk cannot be used: {error}"
    return ""


def unmount(root: str = "/") -> None:
    """Unmount the disk, in use or not, and remove its folders from the image. Its contents are lost with the VM."""
    point = os.path.join(root, MOUNT_POINT)
    if not os.path.ismount(point):
        return
    if call(["umount", point], root)[0]:
        call(["umount", "-l", point], root)
    for folder in (point, os.path.dirname(point)):
        try:
            os.rmdir(folder)
        except OSError:  # not empty, or a mount point: not ours to remove
            return


def wait_for(root: str, seconds: float, name: str = SCRATCH, find: Optional[Callable[[str], str]] = None) -> str:
    """Return a disk's device once the kernel has it. ScratchError."""
    find = find or find_scratch_disk
    until = time.monotonic() + seconds
    device = find(root)
    while not device:
        if time.monotonic() >= until:
            raise ScratchError(f"no disk of this machine is named {name}; build again")
        time.sleep(PAUSE)
        device = find(root)
    return device


def find_scratch_disk(root: str) -> str:
    """Return the disk's device below `root`, or ""."""
    return _find(root, SCRATCH, SCRATCH_NAMESPACE)


def find_root_disk(root: str) -> str:
    """Return the device of a maker VM's second disk, of which the image is taken, or ""."""
    return _find(root, ROOT_DISK, ROOT_NAMESPACE)


def find_export_disk(root: str) -> str:
    """Return the device of the disk that is to be exported, or ""."""
    return _find(root, EXPORT_DISK, 0)


def _find(root: str, name: str, namespace: int) -> str:
    link = os.path.join(root, _LINK + name)
    if os.path.exists(link):
        return os.path.realpath(link)
    blocks = os.path.join(root, "sys/block")
    for block in sorted(os.listdir(blocks)):
        if _is_named(os.path.join(blocks, block), name, namespace):
            return os.path.join(root, "dev", block)
    return ""


def prepare_scratch_disk(device: str, root: str = "/") -> bool:
    """Format a blank disk; return whether that was needed. ScratchError where it holds anything without our label."""
    with open(device, "rb") as disk:
        head = disk.read(_LABEL_AT + _LABEL_SIZE)
    label = head[_LABEL_AT:].split(b"\0")[0]
    if head[_MAGIC_AT:].startswith(_MAGIC) and label == LABEL.encode():
        return False
    status, said = call(["blkid", "-p", device], root)
    if status != _NOTHING_FOUND:
        raise ScratchError(f"{device} holds something already, and is not formatted: {said or f'status {status}'}")
    must_call(["mkfs.ext4", "-q", "-F", "-m", "0", "-L", LABEL, device], root)
    return True


def _is_named(block: str, name: str, namespace: int) -> bool:
    serial, vendor = (_read(os.path.join(block, "device", field)).strip() for field in ("serial", "vendor"))
    if serial == f"{NVME_SERIAL}-{name}".encode():
        return True
    if serial == NVME_SERIAL.encode():
        return _read(os.path.join(block, "nsid")).strip() == str(namespace).encode()
    return vendor == b"Google" and name.encode() in _names(_read(os.path.join(block, "device/vpd_pg83")))


def _names(page: bytes) -> list[bytes]:
    """Return the vendor specific names of a SCSI disk, from its page of identifications (SPC-4, 7.8.6)."""
    names, at = [], 4
    while at + 4 <= len(page):
        end = at + 4 + page[at + 3]
        if page[at] & 0x0F == 2 and page[at + 1] & 0x3F == 0:  # in ASCII, of the disk, vendor specific
            names.append(page[at + 4 : end])
        at = end
    return names


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:  # disks of another kind have no such file
        return b""
