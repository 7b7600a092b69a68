"""The scratch disk: a blank disk of the build VM alone, for what must not be in the image, such as a compiler.

It is found by the name that it was given, and never by its size or its place: on Compute Engine, and wherever its
disks are played, a SCSI disk of the vendor Google with that device name, or whatever Google's udev rules link to it; in
a direct boot the namespace that has its number, of the controller that has our serial number. A disk that holds
anything at all is never formatted.
"""

from __future__ import annotations

import os
import time

from .cos import CosError, call, must_call
from .protocol import NVME_SERIAL, SCRATCH, SCRATCH_NAMESPACE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .output import Console

MOUNT_POINT = "mnt/disks/scratch"
LABEL = "SCRATCH"
SECONDS = 60.0  # for the disk to appear
PAUSE = 0.2  # seconds between two looks
_LINK = "dev/disk/by-id/google-" + SCRATCH
_MAGIC_AT, _MAGIC = 0x438, b"\x53\xef"  # of ext4
_LABEL_AT, _LABEL_SIZE = 0x478, 16
_NOTHING_FOUND = 2  # exit status of blkid(8)


class ScratchError(Exception):
    """The disk is not there, or cannot be taken; the text says why and what to do about it."""


def mount(console: Console, root: str = "/") -> str:
    """Mount it, after formatting it where it is blank; give what is wrong, or nothing."""
    point = os.path.join(root, MOUNT_POINT)
    if os.path.ismount(point):
        return ""
    try:
        device = wait_for(root, SECONDS)
        if prepare(device, root):
            console.say(f"the scratch disk {device} is formatted")
        os.makedirs(point, exist_ok=True)
        must_call(["mount", "-t", "ext4", device, point], root)
    except (CosError, OSError, ScratchError) as error:
        return f"the scratch disk cannot be used: {error}"
    return ""


def unmount(root: str = "/") -> None:
    """Unmount it, in use or not, and leave no folder of ours in the image. What it holds is lost with the VM."""
    point = os.path.join(root, MOUNT_POINT)
    if not os.path.ismount(point):
        return
    if call(["umount", point], root)[0]:
        call(["umount", "-l", point], root)
    for folder in (point, os.path.dirname(point)):
        try:
            os.rmdir(folder)
        except OSError:  # it holds something, or is a mount point: so it is not ours
            return


def wait_for(root: str, seconds: float) -> str:
    """Give the disk's device once the kernel has it. ScratchError."""
    until = time.monotonic() + seconds
    while not (device := find(root)):
        if time.monotonic() >= until:
            raise ScratchError(f"no disk of this machine is named {SCRATCH}; build again")
        time.sleep(PAUSE)
    return device


def find(root: str) -> str:
    """Give the disk's device below `root`, or nothing."""
    link = os.path.join(root, _LINK)
    if os.path.exists(link):
        return os.path.realpath(link)
    blocks = os.path.join(root, "sys/block")
    for name in sorted(os.listdir(blocks)):
        if _is_scratch(os.path.join(blocks, name)):
            return os.path.join(root, "dev", name)
    return ""


def prepare(device: str, root: str = "/") -> bool:
    """Format a blank disk; give whether that was needed. ScratchError for one that holds anything but our label."""
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


def _is_scratch(block: str) -> bool:
    serial, vendor = (_read(os.path.join(block, "device", name)).strip() for name in ("serial", "vendor"))
    if serial == NVME_SERIAL.encode():
        return _read(os.path.join(block, "nsid")).strip() == str(SCRATCH_NAMESPACE).encode()
    return vendor == b"Google" and SCRATCH.encode() in _names(_read(os.path.join(block, "device/vpd_pg83")))


def _names(page: bytes) -> list[bytes]:
    """Give the names of a SCSI disk's vendor's own kind, from its page of identifications (SPC-4, 7.8.6)."""
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
    except OSError:  # other kinds of disks have no such file
        return b""
