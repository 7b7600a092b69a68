"""An image for arm64 on a PC: made of packages, and built upon by both ways to boot."""

from __future__ import annotations

import json
import os
import shutil
import subprocess

import pytest

from shared.disks.disk import Disk
from tests.system.command import ROOT, Goldsmith

pytestmark = [pytest.mark.vm, pytest.mark.soak]

FAMILY = "debian-12-arm64"
BAD_INPUT = 2


def test_an_image_for_arm64_is_made_and_built_by_both_ways(empty: Goldsmith) -> None:
    """Emulated packages, and two emulated machines: many minutes."""
    line = empty.line("images", "bootstrap", "debian-12", "--architecture", "arm64")
    made = subprocess.run(line, cwd=ROOT, env={**os.environ, **empty.environment}, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    assert f"newest of family {FAMILY}" in made.stdout
    spec = empty.folder / "hello" / "build.yaml"
    shutil.copytree(ROOT / "examples" / "hello", spec.parent)
    text = spec.read_text().replace("family: debian-12", f"family: {FAMILY}")
    spec.write_text(text + "build: {silence: 60m, timeout: 2h}\n")
    refused = empty.run("build", spec, "--engine", "chroot")
    assert (refused.status, "is for arm64; write engine: vm or auto" in refused.err) == (BAD_INPUT, True), refused.text
    for boot in ("direct", "firmware"):
        done, build = empty.build(spec, "--boot", boot)
        assert done.status == 0, done.text
        image = empty.images()[0]
        assert image["architecture"] == "arm64"
        disk = empty.home / "images" / image["name"] / "disk.raw"
        with Disk(disk) as opened:
            assert opened.root.read("/var/lib/hello") == b"hello from aarch64\n"
            assert opened.root.read("/etc/machine-id") == b""
        assert build["plan"]["machine"]["boot"] == boot
        told = json.loads((empty.output / f"{image['name']}.json").read_text())
        assert told["image"]["architecture"] == "arm64"
        empty.traces.assert_none()
