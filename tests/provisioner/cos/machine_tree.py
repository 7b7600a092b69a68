"""A tree of files that looks like a machine of Container-Optimized OS from below: /sys, /proc, and EFI-SYSTEM's files.

The kernel of the machine that tests run on may know neither vfat nor partition tables: EFI-SYSTEM's files lie where the
provisioner would mount them, and disks are files.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from provisioner.protocol import Step
from provisioner.steps.step_context import StepContext, act
from provisioner.system.output import StepConsole, StepOutput

ROOT_UUID = "CB1C1C5F-8A0B-4D57-9A2E-3B0D0E1A2F33"
VERITY = (
    "1 vroot none ro 1,0 4077568 verity payload=PARTUUID={0} hashtree=PARTUUID={0} hashstart=4077568 alg=sha256 "
    "root_hexdigest=" + "ab" * 32 + " salt=" + "cd" * 32
).format(ROOT_UUID)
GRUB_CFG = f"""\
defaultA=2
defaultB=3
gptpriority $grubdisk 3 prioA
gptpriority $grubdisk 5 prioB

menuentry "local image A" {{
  linux /syslinux/vmlinuz.A init=/usr/lib/systemd/systemd boot=local rootwait ro noresume loglevel=7 console=ttyS0 \
root=PARTUUID={ROOT_UUID} i915.modeset=1 cros_efi
}}

menuentry "verified image B" {{
  linux /syslinux/vmlinuz.B init=/usr/lib/systemd/systemd rootwait ro console=ttyS0 i915.modeset=1 cros_efi \
root=/dev/dm-0 dm="{VERITY}"
}}
"""


class CosTree:
    """The tree. `root_partition` is the number of the root file system's partition."""

    def __init__(self, root: Path, *, disk: str = "sda", root_partition: int = 3) -> None:
        self.root = root
        self.disk = disk
        self.device = root / "dev" / disk
        self.grub_cfg = root / "run/goldsmith/efi/efi/boot/grub.cfg"
        self.write("etc/os-release", 'NAME="Container-Optimized OS"\nID=cos\nVERSION_ID=113\n')
        self.write("run/goldsmith/efi/efi/boot/grub.cfg", GRUB_CFG)
        self.write(f"sys/devices/pci/{disk}/uevent", f"MAJOR=8\nMINOR=0\nDEVNAME={disk}\nDEVTYPE=disk\n")
        self.set_size(0)
        for number, name in ((1, "STATE"), (3, "ROOT-A"), (5, "ROOT-B"), (8, "OEM"), (12, "EFI-SYSTEM")):
            self.partition(number, name)
        self._link("sys/class/block", disk, f"sys/devices/pci/{disk}")
        self.write("proc/self/mountinfo", f"22 1 8:{root_partition} / / ro - ext4 /dev/root ro\n")
        (root / "dev").mkdir()

    def write(self, path: str, text: str) -> None:
        """Write a file of the tree, whole for readers at any moment, as the kernel's files are."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        staged = file.with_name(f".{file.name}.new")
        staged.write_text(text)
        staged.replace(file)

    def set_size(self, size: int) -> None:
        """Set the disk's size in bytes, as the kernel shows it."""
        self.write(f"sys/devices/pci/{self.disk}/size", f"{size // 512}\n")

    def partition(self, number: int, name: str) -> None:
        """Add a partition, as the kernel shows it."""
        device, folder = f"{self.disk}{number}", f"sys/devices/pci/{self.disk}/{self.disk}{number}"
        facts = f"MAJOR=8\nMINOR={number}\nDEVNAME={device}\nDEVTYPE=partition\nPARTN={number}\nPARTNAME={name}\n"
        self.write(f"{folder}/uevent", facts)
        self._link("sys/class/block", device, folder)
        self._link("sys/dev/block", f"8:{number}", folder)

    def program(self, name: str, target: str) -> None:
        """Link a program of this machine into the tree."""
        self._link("usr/bin", name, os.path.relpath(target, "/"), target)

    def act(self, action: str, inputs: Mapping[str, Any]) -> int:
        """Do a step on the tree."""
        return act_on(self.root, action, inputs)

    def _link(self, folder: str, name: str, path: str, target: str = "") -> None:
        (self.root / folder).mkdir(parents=True, exist_ok=True)
        (self.root / folder / name).symlink_to(target or os.path.relpath(self.root / path, self.root / folder))


def act_on(root: Path, action: str, inputs: Mapping[str, Any]) -> int:
    """Do a step on a tree."""
    output = StepOutput(action, str(root / "log"), StepConsole(os.devnull))
    return act(Step(action, action, inputs), StepContext(str(root), str(root), output, time.monotonic() + 20))
