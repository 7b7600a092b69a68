"""The first image that a person makes, examined with tools that are not ours, booted, and searched for traces."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.shared.disks.small_disks import tool
from tests.system.archives import assert_whole, debugfs, holds, root_partition
from tests.system.command import ROOT, Document, Goldsmith
from tests.system.terminal import is_readable

pytestmark = pytest.mark.vm

BOOT_SECONDS = 600.0  # from power-on to the login prompt, by BIOS and boot loader, emulated on a busy machine
LEFT_HALF, RIGHT_HALF = "3f9c2a", "d41b7e"  # of a mark that stands nowhere but in what a step prints


@pytest.fixture
def spec(goldsmith: Goldsmith) -> Path:
    """The example, with a step that says something which must be nowhere in the image."""
    folder = goldsmith.folder / "hello"
    shutil.copytree(ROOT / "examples" / "hello", folder)
    (folder / "speak.sh").write_text(
        f'printf "%s%s\\n" {LEFT_HALF} {RIGHT_HALF} | tee /var/tmp/spoken\nlogger "{LEFT_HALF}$(echo {RIGHT_HALF})"\n'
    )
    text = (folder / "build.yaml").read_text()
    step = "  - {name: speak, action: run-script, inputs: {script: speak.sh}}\n"
    (folder / "build.yaml").write_text(
        text.replace("\n# The image that comes out.", step + "\n# The image that comes out.")
    )
    return folder / "build.yaml"


def test_hello(goldsmith: Goldsmith, spec: Path) -> None:
    done, build = goldsmith.build(spec, "--output", goldsmith.output)
    assert done.status == 0, done.text
    assert [(step["name"], step["status"]) for step in build["steps"]] == [("greet", "done"), ("speak", "done")]
    goldsmith.traces.assert_none()
    manifest = assert_whole(goldsmith.output)
    assert_complete(manifest, build)
    assert_in_catalogue(goldsmith, build)
    unpacked = goldsmith.folder / "unpacked"
    unpacked.mkdir()
    tool("tar", "-xSf", goldsmith.output / f"{manifest['image']['name']}.tar.gz", "-C", unpacked)
    disk = unpacked / "disk.raw"
    assert_sound(disk)
    assert_clean(disk, build["id"])
    assert_boots(disk, goldsmith.folder)


def assert_complete(manifest: dict[str, Any], build: Document) -> None:
    assert manifest["build"]["id"] == build["id"]
    assert manifest["image"]["family"] == "hello"
    assert manifest["source"]["family"] == "debian-12"
    names = {package["name"] for package in manifest["packages"]}
    assert {"bash", "systemd", "python3"} <= names
    assert any(name.startswith("linux-image-") for name in names)
    assert all(package["version"] for package in manifest["packages"])
    assert [(step["name"], step["exit_status"]) for step in manifest["steps"]] == [("greet", 0), ("speak", 0)]
    assert all(step["seconds"] > 0 for step in manifest["steps"])


def assert_in_catalogue(goldsmith: Goldsmith, build: Document) -> None:
    (image,) = goldsmith.images()
    assert (image["family"], image["labels"]["team"]) == ("hello", "infra")
    assert image["labels"]["goldsmith-build"] == build["id"]
    assert image["labels"]["goldsmith-digest"] == build["plan"]["content_digest"][:40]
    assert goldsmith.run("images", "show", image["name"]).status == 0


def assert_sound(disk: Path) -> None:
    assert disk.stat().st_blocks * 512 < disk.stat().st_size / 10, "it was not unpacked sparsely"
    tool("sfdisk", "--verify", disk)
    start, size = root_partition(disk)
    tool("e2fsck", "-f", "-n", f"{disk}?offset={start}")
    assert size <= disk.stat().st_size - start
    assert debugfs(disk, "cat /var/lib/hello") == "hello from x86_64\n"


def assert_clean(disk: Path, build_id: str) -> None:
    assert debugfs(disk, "cat /etc/machine-id") == ""
    assert "ssh_host_" not in debugfs(disk, "ls -p /etc/ssh")
    assert "goldsmith" not in debugfs(disk, "ls -p /var/lib")
    assert holds(disk, LEFT_HALF, build_id, LEFT_HALF + RIGHT_HALF) == []
    assert holds(disk, "hello from x86_64") == ["hello from x86_64"]


def assert_boots(disk: Path, folder: Path) -> None:
    """By BIOS and its own boot loader, on an overlay that is thrown away, up to the login prompt."""
    overlay, console = folder / "overlay.qcow2", folder / "console.log"
    tool("qemu-img", "create", "-q", "-f", "qcow2", "-b", disk, "-F", "raw", overlay)
    machine = subprocess.Popen(
        [
            *(
                "setpriv",
                "--pdeathsig",
                "KILL",
                "qemu-system-x86_64",
                "-nodefaults",
                "-display",
                "none",
                "-accel",
                "tcg",
                "-machine",
                "q35",
                "-smp",
                "2",
            ),
            *("-m", "768", "-drive", f"file={overlay},if=virtio,format=qcow2,cache=unsafe"),
            *("-serial", "stdio", "-no-reboot"),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    try:
        said = read_until(machine, b" login:", time.monotonic() + BOOT_SECONDS)
        console.write_bytes(said)
        assert b" login:" in said, said[-2000:]
    finally:
        machine.kill()
        machine.wait()
        assert machine.stdout is not None
        machine.stdout.close()


def read_until(machine: subprocess.Popen[bytes], wanted: bytes, until: float) -> bytes:
    assert machine.stdout is not None
    said = b""
    while wanted not in said and is_readable(machine.stdout.fileno(), until - time.monotonic()):
        data = machine.stdout.read1(65536)  # type: ignore[attr-defined]  # it is a BufferedReader
        if not data:
            break
        said += data
    return said
