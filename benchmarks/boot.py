"""How long a machine takes to the job's first line, and to power off again: `python -m benchmarks.boot`.

`direct` is what builds do. Each other candidate leaves one of its measures out, or boots as the cloud does. Machines
are started as builds start them, but for that one thing, and run `true` in place of a provisioner: the floor of any
build. The seconds count from the start of QEMU. All take turns in one run; compare no times across runs.
"""

from __future__ import annotations

import argparse
import json
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

from benchmarks.measure import Candidate, compare, machine, table
from shared.clock import SystemClock
from shared.delivery.cidata import write_cidata
from shared.disks.disk import Disk
from shared.disks.extents import copy_sparse
from shared.host.programs import find_tool
from shared.images.bootstrap.bootstrap import bootstrap_image
from shared.images.catalogue import Catalogue
from shared.machines.accelerator import accelerator
from shared.machines.qemu import CPU, KernelFiles, MachineSpec, Wiring, command
from shared.machines.start import choose_firmware
from tests.shared.images.families import newest

MARK = b"the job begins"
JOB = b"#!/bin/sh\necho the job begins\ntrue\nsync\nexec systemctl poweroff -ff\n"
CLOUD_INIT = b"""#cloud-config
bootcmd:
 - mkdir -p /run/goldsmith/cidata
 - mount -o ro LABEL=cidata /run/goldsmith/cidata
 - sh /run/goldsmith/cidata/bootstrap.sh >/dev/console
"""
CIDATA: Mapping[str, bytes | Path] = {
    "bootstrap.sh": JOB,
    "user-data": CLOUD_INIT,
    "meta-data": b"instance-id: floor\n",
}
LONGEST = 600.0  # seconds
BASE = "direct"


def _packed_kernel(files: KernelFiles, disk: Path) -> KernelFiles:
    root = Disk(disk).root
    packed = disk.with_name("bzImage")
    newest = max(name for name in root.names("/boot") if name.startswith("vmlinuz-"))
    packed.write_bytes(root.read(f"/boot/{newest}"))
    return replace(files, kernel=packed)


def _without(pattern: str, files: KernelFiles, disk: Path) -> KernelFiles:
    return replace(files, command_line=re.sub(pattern, "", files.command_line))


def _without_rom(files: KernelFiles, disk: Path) -> KernelFiles:
    return replace(files, rom=False)


KERNELS: Mapping[str, Callable[[KernelFiles, Path], KernelFiles]] = {
    "packed kernel (bzImage)": _packed_kernel,
    "SeaBIOS, not qboot": _without_rom,
    "no unit masked": partial(_without, r"systemd\.mask=\S+"),
    "crypto self-tests": partial(_without, r"cryptomgr\.notests"),
    "RCU not expedited": partial(_without, r"rcupdate\.\S+"),
    "pages zeroed": partial(_without, r"init_on_alloc=0"),
    "kernel and systemd talk": partial(_without, r"\bquiet\b|systemd\.show_status=\S+"),
}
VARIANTS = (BASE, *KERNELS, "one processor", "CPU with few features", "firmware, cloud-init")


def boot(variant: str, home: Path, disk: Path, folder: Path) -> dict[str, float]:
    """Boot a fresh copy of the disk once; return the seconds to the job and to the end."""
    copy = folder / "disk.raw"
    copy.unlink(missing_ok=True)
    copy_sparse(disk, copy)
    spec = MachineSpec(
        "floor",
        folder,
        copy,
        CIDATA,
        boot="firmware" if variant.startswith("firmware") else "direct",
        cpus=1 if variant == "one processor" else 2,
        internet=False,
    )
    write_cidata(CIDATA, folder / "cidata.iso")
    firmware, _ = choose_firmware(spec, home)
    if variant in KERNELS and isinstance(firmware, KernelFiles):
        firmware = KERNELS[variant](firmware, copy)
    with ExitStack() as stack:
        console, its_console, _reports, its_reports = (
            stack.enter_context(end) for _ in range(2) for end in socket.socketpair()
        )
        wiring = Wiring(its_console.fileno(), its_reports.fileno(), "unused")
        line = command(spec, folder / "cidata.iso", firmware, accelerator(home).name, wiring, find_tool("socat"))
        if variant == "CPU with few features":
            line = [argument.replace(CPU["tcg"], "qemu64,+rdrand") for argument in line]
        began = time.perf_counter()
        process = subprocess.Popen([find_tool(line[0]), *line[1:]], pass_fds=(wiring.console, wiring.reports))
        its_console.close()
        its_reports.close()
        try:
            return _follow(console, process, began)
        finally:
            process.kill()
            process.wait()


def _follow(console: socket.socket, process: subprocess.Popen[bytes], began: float) -> dict[str, float]:
    console.settimeout(LONGEST)
    said, script = b"", 0.0
    while data := console.recv(1 << 16):
        said += data
        if not script and MARK in said:
            script = time.perf_counter() - began
    process.wait(LONGEST)
    if not script:
        raise RuntimeError(f"the machine ended without its job: {said[-2000:].decode(errors='replace')}")
    return {"to the job": script, "to power off": time.perf_counter() - began}


def report(home: Path, folder: Path, rounds: int, variants: tuple[str, ...]) -> None:
    """Measure the variants, and print the table."""
    catalogue = Catalogue(home, SystemClock())
    image = newest(catalogue, "debian-12") or bootstrap_image("debian-12", catalogue, home=home)
    disk, figures = catalogue.disk(image.name), folder / "figures.json"
    once: list[str | Path] = [
        sys.executable,
        "-m",
        "benchmarks.boot",
        "--home",
        home,
        "--once",
        disk,
        "--folder",
        folder,
    ]
    candidates = [
        Candidate(variant, [[*once, "--variant", variant]], figures, inspect=lambda: json.loads(figures.read_text()))
        for variant in variants
    ]
    samples = compare(candidates, rounds)
    print(f"{accelerator(home).name}; {rounds} rounds; {machine()}\n")
    print(table(samples, BASE))


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.boot", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--home", type=Path, required=True, help="a GOLDSMITH_HOME; its debian-12 is made if it has none"
    )
    parser.add_argument("--folder", type=Path, help="where the copy of the disk goes; default: a temporary one")
    parser.add_argument(
        "--variant", action="append", choices=VARIANTS, help="only these, beside direct; may be repeated"
    )
    parser.add_argument("--once", type=Path, metavar="DISK", help="boot a copy of this disk once, print its figures")
    arguments = parser.parse_args()
    if arguments.once:
        print(json.dumps(boot(arguments.variant[0], arguments.home, arguments.once, arguments.folder)))
        return
    chosen = tuple(v for v in VARIANTS if v == BASE or not arguments.variant or v in arguments.variant)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        report(arguments.home, Path(folder), arguments.rounds, chosen)


if __name__ == "__main__":
    main()
