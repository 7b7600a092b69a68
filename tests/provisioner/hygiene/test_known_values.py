"""Values that are known to be secret, in a machine's own files: what was not searched must not seem to be clean."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from provisioner.hygiene.known_values import search_files
from provisioner.hygiene.own_files import OwnFile, own_files
from provisioner.system.mounts import Mount

VALUES = {"uses.secrets.TOKEN": b"tok/3n+of the repository"}


def test_a_file_that_cannot_be_read_ends_the_search() -> None:
    """The kernel answers EIO, as for a disk that is damaged."""
    unreadable = OwnFile("/proc/self", "/mem", os.lstat("/proc/self/mem"), lambda found: False)
    with pytest.raises(OSError, match=r"cannot be searched for secrets: Input/output error: '/mem'$"):
        search_files([unreadable], VALUES)


def test_a_file_that_goes_meanwhile_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "gone").write_bytes(VALUES["uses.secrets.TOKEN"])
    files = list(own_files(str(tmp_path), "", whole=True))
    (tmp_path / "gone").unlink()
    assert search_files(files, VALUES) == {}


def test_the_file_system_of_the_boot_loader_is_searched(tmp_path: Path) -> None:
    """Not every kernel has vfat: this one is in memory, and listed as if it were."""
    root, efi = tmp_path / "root", tmp_path / "root/boot/efi"
    efi.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(efi)], check=True)
    listed = [Mount(f"36 35 8:15 / {efi} rw - vfat /dev/sda15 rw")]
    try:
        (efi / "loader.conf").write_bytes(VALUES["uses.secrets.TOKEN"])
        found = search_files(own_files(str(root), "", whole=True, mounted=lambda: listed), VALUES)
        checked = [file.path for file in own_files(str(root), "", mounted=lambda: listed)]
    finally:
        subprocess.run(["umount", str(efi)], check=True)
    assert [finding.path for finding in found.values()] == ["/boot/efi/loader.conf"]
    assert checked == []
