"""The way of the cloud on this machine: BIOS, boot loader, cloud-init, which finds the CIDATA disk (NoCloud)."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.system.archives import debugfs
from tests.system.command import ROOT, Goldsmith

pytestmark = [pytest.mark.vm, pytest.mark.soak]


def test_hello_by_firmware(goldsmith: Goldsmith) -> None:
    folder = goldsmith.folder / "hello"
    shutil.copytree(ROOT / "examples" / "hello", folder)
    with (folder / "build.yaml").open("a") as spec:
        spec.write("build: {silence: 30m}\n")  # firmware, GRUB and cloud-init, emulated, beside many other machines
        spec.write("verify: {}\n")
    done, build = goldsmith.build(folder / "build.yaml", "--boot", "firmware")
    assert done.status == 0, done.text
    (image,) = goldsmith.images()
    disk = goldsmith.home / "images" / image["name"] / "disk.raw"
    assert debugfs(disk, "cat /var/lib/hello") == "hello from x86_64\n"
    assert debugfs(disk, "cat /etc/machine-id") == ""
    assert "goldsmith" not in debugfs(disk, "ls -p /var/lib")
    assert "instance" not in debugfs(disk, "ls -p /var/lib/cloud")
    for log in Path(done.documents()[-1]["logs"]).glob("*.log"):
        assert "GRUB" in log.read_text(errors="replace") or "Booting" in log.read_text(errors="replace")
    [checks] = build["verify_steps"]
    assert "growth (" not in checks["note"], "it has grown to a disk that is larger than the image"
    size = int(re.findall(r"files take [0-9]+ of ([0-9]+) MiB", checks["note"])[0]) << 20
    assert size > disk.stat().st_size
    assert build["plan"]["machine"]["boot"] == "firmware"
    goldsmith.traces.assert_none()
