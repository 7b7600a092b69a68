"""Functions that elements read from files of diskimage-builder's library."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from provisioner.elements.shell_library import write_library


def selected(folder: Path, *names: str, **variables: str) -> str:
    """Return what is selected of files in /boot, as the original's elements ask for it."""
    boot = folder / "root" / "boot"
    boot.mkdir(parents=True, exist_ok=True)
    for name in names:
        (boot / name).touch()
    if not (folder / "lib").exists():
        write_library(str(folder / "lib"))
    script = f"set -eu -o pipefail; source {folder}/lib/img-functions; select_boot_kernel_initrd {folder}/root/; "
    script += 'echo "$KERNEL $RAMDISK ${BOOTDIR##*/}"'
    known = {"PATH": "/usr/bin:/bin", **variables}
    done = subprocess.run(["/bin/bash", "-c", script], env=known, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.stdout.strip() if not done.returncode else f"{done.returncode}: {done.stdout}"


@pytest.mark.parametrize(
    ("names", "kernel", "ramdisk"),
    [
        (
            (
                "vmlinuz-6.1.0-9-amd64",
                "vmlinuz-6.1.0-10-amd64",
                "initrd.img-6.1.0-9-amd64",
                "initrd.img-6.1.0-10-amd64",
            ),
            "vmlinuz-6.1.0-10-amd64",
            "initrd.img-6.1.0-10-amd64",
        ),
        (
            ("vmlinuz-5.14-1.el9", "vmlinuz-5.14-2.el9+debug", "initramfs-5.14-1.el9.img"),
            "vmlinuz-5.14-1.el9",
            "initramfs-5.14-1.el9.img",
        ),
        (
            ("vmlinuz-6.8-1-generic", "vmlinuz-6.9-1-kvm", "initrd.img-6.8-1-generic"),
            "vmlinuz-6.8-1-generic",
            "initrd.img-6.8-1-generic",
        ),
    ],
)
def test_the_newest_kernel_is_selected(tmp_path: Path, names: tuple[str, ...], kernel: str, ramdisk: str) -> None:
    assert selected(tmp_path, *names) == f"{kernel} {ramdisk} boot"


def test_patterns_select_others(tmp_path: Path) -> None:
    names = ("vmlinuz-6.1", "initrd.img-6.1", "kernel-2", "kernel-10", "ram-10")
    patterns = {"DIB_BAREMETAL_KERNEL_PATTERN": "kernel-*", "DIB_BAREMETAL_INITRD_PATTERN": "ram-*"}
    assert selected(tmp_path, *names, **patterns) == "kernel-10 ram-10 boot"


def test_a_root_without_a_kernel_ends_the_script(tmp_path: Path) -> None:
    assert selected(tmp_path).startswith("1: there is no kernel with its initrd in ")
    assert selected(tmp_path, "vmlinuz-6.1").startswith("1: there is no kernel")
