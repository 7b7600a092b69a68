"""Boot a disk by its own boot loader, on a machine with a BIOS or with UEFI, and return what its console says."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from shared.machines.start import OVMF
from tests.shared.disks.small_disks import ENVIRONMENT, tool

BOOT_SECONDS = 600  # on a busy machine without KVM; 30 to 60 on a quiet one
TELL = """#!/bin/bash
# At the first boot: say by which firmware, and what has failed; then end the machine.
set -eu
cat >/etc/systemd/system/tell.service <<'END'
[Unit]
After=basic.target
[Service]
Type=oneshot
StandardOutput=tty
TTYPath=/dev/ttyS0
ExecStart=/bin/sh -c 'echo "booted by $([ -d /sys/firmware/efi ] && echo efi || echo bios)"'
ExecStart=/bin/sh -c 'echo "root: $(findmnt -no SOURCE,LABEL,OPTIONS /)"'
ExecStart=/bin/sh -c 'echo "failed units: $(systemctl --failed --no-legend | wc -l)"'
ExecStart=/bin/systemctl poweroff --no-block
[Install]
WantedBy=multi-user.target
END
mkdir -p /etc/systemd/system/multi-user.target.wants /etc/systemd/system.conf.d
cat >/etc/systemd/system.conf.d/patient.conf <<'END'
[Manager]
DefaultDeviceTimeoutSec=10min
DefaultTimeoutStartSec=10min
END
ln -s ../tell.service /etc/systemd/system/multi-user.target.wants/tell.service
"""
"""A script of install.d."""


def boot(disk: Path, firmware: str, folder: Path) -> str:
    """Boot a copy of a raw disk until it ends itself; return the text of its serial console."""
    overlay = folder / f"{firmware}.qcow2"
    tool("qemu-img", "create", "-q", "-f", "qcow2", "-b", disk, "-F", "raw", overlay)
    command = ["qemu-system-x86_64", "-accel", "tcg,thread=multi", "-M", "q35", "-smp", "2", "-m", "1024"]
    command += ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio"]
    command += ["-drive", f"if=none,id=root,file={overlay},format=qcow2,cache=unsafe"]
    command += ["-device", "virtio-blk-pci,drive=root,bootindex=1"]
    if firmware == "efi":
        code, variables = next(pair for pair in OVMF if pair[0].exists())
        own = shutil.copy(variables, folder / "variables.fd")
        command += ["-drive", f"if=pflash,format=raw,readonly=on,file={code}"]
        command += ["-drive", f"if=pflash,format=raw,file={own}"]
    console = folder / f"{firmware}.console"
    with console.open("wb") as output:
        done = subprocess.run(
            ["timeout", str(BOOT_SECONDS), *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            env=ENVIRONMENT,
            check=False,
        )
    text = console.read_text(errors="replace")
    assert done.returncode == 0, text[-4000:]
    return text
