"""The probe of KVM: it ends in time whatever /dev/kvm does, it tells why, and it is asked once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shared.architectures import find_architecture
from shared.host.programs import find_tool
from shared.machines.accelerator import accelerator

ROOT = Path(__file__).resolve().parents[3]


def probe_with(
    qemu: str, folder: Path, timeout: float, architecture: str = "x86_64"
) -> subprocess.CompletedProcess[str]:
    """Probe in a process that finds this script as its QEMU, and any file as the device."""
    kind = find_architecture(architecture)
    program = folder / "bin" / kind.emulator
    program.parent.mkdir()
    program.write_text(qemu)
    program.chmod(0o755)
    device = folder / "kvm"
    device.touch()
    code = (
        "import sys, time; from pathlib import Path\n"
        "from shared.machines.accelerator import accelerator\n"
        "began = time.monotonic()\n"
        "from shared.architectures import find_architecture\n"
        f"kind = find_architecture({architecture!r})\n"
        f"found = accelerator(Path({str(folder / 'home')!r}), {timeout}, Path({str(device)!r}), kind, kind)\n"
        "print(found.name, f'{time.monotonic() - began:.2f}', found.reason)\n"
    )
    environment = {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}"}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )


def test_real_probe_ends_in_time_and_is_remembered(tmp_path: Path) -> None:
    began = time.monotonic()
    found = accelerator(tmp_path)
    assert time.monotonic() - began < 10  # a machine that hangs would not end by itself
    assert found.name in ("kvm", "tcg")
    assert found.reason
    kept = tmp_path / "cache" / "accelerator.json"
    before = kept.stat()
    assert accelerator(tmp_path) == found
    assert (kept.stat().st_ino, kept.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)  # no second probe


def test_boot_sector_runs_on_a_real_machine(tmp_path: Path) -> None:
    """KVM's answer is given when the machine exits as the sector asks; emulated machines run the same one."""
    qemu = f'#!/bin/sh\nshift 2\nexec {find_tool("qemu-system-x86_64")} -accel tcg "$@"\n'
    done = probe_with(qemu, tmp_path, 20)
    assert done.stdout.startswith("kvm "), done.stdout


def test_hanging_device_is_killed(tmp_path: Path) -> None:
    done = probe_with(f"#!/bin/sh\necho $$ >{tmp_path}/pid\nexec sleep 1000\n", tmp_path, 5)
    name, seconds, reason = done.stdout.split(" ", 2)
    assert name == "tcg"
    assert float(seconds) < 10
    assert "hangs" in reason
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists()


def test_refusing_device_tells_why(tmp_path: Path) -> None:
    done = probe_with("#!/bin/sh\necho 'failed to initialize kvm: Permission denied' >&2\nexit 1\n", tmp_path, 20)
    assert done.stdout.startswith("tcg ")
    assert "failed to initialize kvm: Permission denied" in done.stdout


def test_no_device(tmp_path: Path) -> None:
    found = accelerator(tmp_path, device=tmp_path / "nothing")
    assert found.name == "tcg"
    assert f"no {tmp_path / 'nothing'}" in found.reason


@pytest.mark.parametrize("text", ["", "{", "[]", '{"key": 1}', '{"name": "kvm", "reason": "x", "key": "another boot"}'])
def test_damaged_or_old_answer_is_asked_again(tmp_path: Path, text: str) -> None:
    kept = tmp_path / "cache" / "accelerator.json"
    kept.parent.mkdir()
    kept.write_text(text)
    assert accelerator(tmp_path, device=tmp_path / "nothing").name == "tcg"
    assert json.loads(kept.read_text())["name"] == "tcg"
