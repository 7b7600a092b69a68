"""Find out whether KVM works here, by starting a machine on it.

/dev/kvm alone proves nothing: one that is present and hangs its guests has been seen, and one that cannot be opened is
common. The probe is a program of 6 or 16 bytes that makes QEMU exit; it has two seconds. The answer is kept until the
host reboots or has another QEMU. Machines of another architecture than the host's are always emulated.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from ..architectures import ARM64, X86_64, Architecture, of_host
from ..host.processes import boot_id
from ..host.programs import find_tool
from ..host.scratch import faults, scratch_folder

QEMU = X86_64.emulator
DEVICE = Path("/dev/kvm")
PROBE_SHARE = 0.8  # of the timeout, for the machine; the rest is for ending it
EXIT_PORT, EXIT_VALUE = 0xF4, 0x31
EXIT_STATUS = EXIT_VALUE << 1 | 1  # what isa-debug-exit makes of a value

BOOT_SECTOR = bytes([0xB0, EXIT_VALUE, 0xE6, EXIT_PORT, 0xEB, 0xFE]).ljust(510, b"\0") + b"\x55\xaa"
"""mov al, EXIT_VALUE; out EXIT_PORT, al; jmp $"""

POWER_OFF = struct.pack("<4I", 0x52B08000, 0x72800100, 0xD4000002, 0x14000000)
"""movz w0, 0x8400, lsl 16; movk w0, 8; hvc 0; b . -- PSCI's SYSTEM_OFF, as the Arm document DEN0022 has it"""


@dataclass(frozen=True)
class _Probe:
    """A machine that ends by itself: QEMU's options, among them {program}'s file, the program, and the exit status."""

    options: tuple[str, ...]
    program: bytes
    status: int


_PROBES: Mapping[str, _Probe] = {
    X86_64.name: _Probe(
        (
            *("-M", "pc", "-m", "16", "-device", f"isa-debug-exit,iobase={EXIT_PORT:#x},iosize=1"),
            *("-drive", "if=ide,format=raw,file={program}"),
        ),
        BOOT_SECTOR,
        EXIT_STATUS,
    ),
    ARM64.name: _Probe(
        ("-M", "virt,gic-version=max", "-cpu", "max", "-m", "64", "-kernel", "{program}"), POWER_OFF, status=0
    ),
}


@dataclass(frozen=True)
class Accelerator:
    """The accelerator of this host, and the reason for it, for people."""

    name: Literal["kvm", "tcg"]
    reason: str


def accelerator(
    home: Path,
    timeout: float = 2.0,
    device: Path = DEVICE,
    architecture: Architecture = X86_64,
    host: Architecture | None = of_host(os.uname().machine),  # noqa: B008 - it never changes
) -> Accelerator:
    """Return how machines of an architecture run on this host, from a probe or an earlier one's answer. MissingTool.

    It takes at most `timeout` seconds.
    """
    qemu = Path(find_tool(architecture.emulator))
    if architecture != host:
        here = "another kind of processor" if host is None else host.name
        return Accelerator(
            "tcg", f"this host has {here}, and the image is for {architecture.name}; machines are emulated, and slow"
        )
    status = qemu.stat()
    key = f"{boot_id()} {qemu} {status.st_size} {status.st_mtime_ns} {device} {_access(device)}"
    kept = home / "cache" / "accelerator.json"
    remembered = _recall(kept, key)
    if remembered is not None:
        return remembered
    found = _probe(str(qemu), _PROBES[architecture.name], timeout, device)
    _keep(kept, key, found)
    return found


def _access(device: Path) -> str:
    """Describe what may change without a reboot: whether the device exists, and whether this user may open it."""
    return f"{device.exists()} {os.access(device, os.R_OK | os.W_OK)}"


def _probe(qemu: str, probe: _Probe, timeout: float, device: Path) -> Accelerator:
    if not device.exists():
        return Accelerator("tcg", f"there is no {device}; machines are emulated, and slow")
    if not os.access(device, os.R_OK | os.W_OK):
        remedy = "add yourself to the group kvm, and log in again"
        return Accelerator("tcg", f"{device} may not be opened ({remedy}); machines are emulated, and slow")
    program = os.memfd_create("goldsmith-probe")  # a killed process leaves no such file behind
    try:
        os.write(program, probe.program)
        return _boot(qemu, probe, program, timeout, device)
    finally:
        os.close(program)


def _boot(qemu: str, probe: _Probe, program: int, timeout: float, device: Path) -> Accelerator:
    command = [
        *(qemu, "-accel", "kvm", "-nodefaults", "-no-user-config", "-display", "none"),
        *(option.format(program=f"/proc/self/fd/{program}") for option in probe.options),
    ]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, pass_fds=(program,)
    )
    try:
        _, complaint = process.communicate(timeout=timeout * PROBE_SHARE)
    except subprocess.TimeoutExpired:
        process.kill()
        try:
            process.communicate(timeout=timeout * (1 - PROBE_SHARE))
        except subprocess.TimeoutExpired:  # a process that hangs in the kernel may outlive its kill
            threading.Thread(target=process.communicate, daemon=True).start()
        return Accelerator("tcg", f"{device} is there, and a machine on it hangs; machines are emulated, and slow")
    if process.returncode == probe.status:
        return Accelerator("kvm", f"a machine on {device} runs")
    last = complaint.decode(errors="replace").strip().rpartition("\n")[2] or f"status {process.returncode}"
    return Accelerator("tcg", f"{device} is there, and QEMU cannot use it ({last}); machines are emulated, and slow")


def _recall(kept: Path, key: str) -> Accelerator | None:
    try:
        document = json.loads(kept.read_text())
        return Accelerator(document["name"], document["reason"]) if document["key"] == key else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None  # not probed before, or damaged: probe again


def _keep(kept: Path, key: str, found: Accelerator) -> None:
    with faults(kept.parent):
        kept.parent.mkdir(parents=True, exist_ok=True)
        with scratch_folder(kept.parent) as scratch:
            written = scratch.path / "accelerator.json"
            written.write_text(json.dumps({"key": key, **asdict(found)}))
            written.replace(kept)
