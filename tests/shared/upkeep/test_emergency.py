"""What consoles show of systems that did not come up."""

from __future__ import annotations

import pytest

from shared.upkeep.watch import REASON_LENGTH, REASONS, emergency

BOOT = b"[    0.000000] Linux version 6.1.0 (x)\r\n"


@pytest.mark.parametrize(
    ("console", "told"),
    [
        (b"[FAILED] Failed to mount /data.\nYou are in rescue mode. After", "Failed to mount /data"),
        (b"[ TIME ] Timed out waiting for device x.\nYou are in emergency mode.", "Timed out waiting for device x"),
        (
            b"Cannot open access to console, the root account is locked.\n",
            "Cannot open access to console, the root account is locked",
        ),
        (
            b"ALERT!  UUID=0f does not exist.  Dropping to a shell!\n",
            "ALERT!  UUID=0f does not exist.  Dropping to a shell!",
        ),
        (
            b"mount: mounting /dev/nvme0n1p1 on /root failed: No such device\n"
            b"Failed to mount UUID=0f as root file system.\n\nBusyBox v1.35.0 built-in shell (ash)\n\n(initramfs) ",
            "mount: mounting /dev/nvme0n1p1 on /root failed: No such device; "
            "Failed to mount UUID=0f as root file system",
        ),
        (
            b"mount: No such device\nFailed to mount /dev/vda1 as root file system.\n(initramfs) ",
            "mount: No such device; Failed to mount /dev/vda1 as root file system",
        ),
        (b"BusyBox v1.35.0 (Debian 1:1.35.0-4) built-in shell (ash)\n\n(initramfs) ", "(initramfs)"),
        (b"[step x] (initramfs) \n", ""),
        (b"Entering emergency mode. Exit the shell to continue.\n", "Entering emergency mode"),
        (b"", ""),
        (b"[FAILED] Failed to start app.service.\nDebian GNU/Linux 12 debian ttyS0\n", ""),
        (b"[step x] You are in emergency mode\n", ""),
    ],
)
def test_the_reason_is_on_the_console(console: bytes, told: str) -> None:
    assert emergency(BOOT + console.replace(b"\n", b"\r\n")) == told


def test_only_the_newest_boot_counts() -> None:
    assert emergency(BOOT + b"You are in emergency mode\r\n" + BOOT + b"all is well\r\n") == ""
    console = (
        b"Failed to start old\nYou are in emergency mode\n"
        + BOOT
        + b"Failed to mount /new.\nYou are in emergency mode\n"
    )
    assert emergency(console) == "Failed to mount /new"


def test_what_is_told_is_bounded() -> None:
    lines = b"".join(b"Failed to start %d %s\n" % (number, b"x" * 1000) for number in range(100))
    told = emergency(b"\xff\x1b[31m" * 100_000 + lines + b"You are in emergency mode\n")
    assert len(told) < REASONS * (REASON_LENGTH + 2)
    assert told.isprintable()
