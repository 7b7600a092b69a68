"""A whole build against its floor and its peers, on the same source image: `python -m benchmarks.build`.

The floor is what no builder that boots a machine can do without: a copy of the source's disk, the same machine booted
the same way to a unit that runs `true` and powers off, and the export. The peers run the same script on a copy of the
same disk, and do not export. All take turns in one run; compare no times across runs.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from benchmarks.measure import Candidate, compare, machine, median, ratio, table
from provisioner.protocol import BUILD
from shared.build.resources import machine_name
from shared.clock import SystemClock
from shared.disks.archive import write_archive
from shared.disks.archive_reader import verify_archive
from shared.disks.disk import Disk
from shared.disks.extents import copy_sparse
from shared.engine.history import each_event
from shared.host.build_folder import BuildFolder
from shared.host.programs import run_tool
from shared.images.bootstrap.bootstrap import bootstrap_image
from shared.images.catalogue import Catalogue
from shared.machines.machines import Machines, MachineSpec
from shared.runtime.opening import local

ROOT = Path(__file__).parents[1]
OURS, PACKED, FLOOR = "goldsmith build", "goldsmith build --output", "floor: copy, boot, export"
VIRT_CUSTOMIZE, PACKER = "virt-customize", "packer"
SCRIPT = '#!/bin/bash\nset -eu\necho "hello from $(uname --machine)" > /var/lib/hello\n'
SPEC = """\
name: hello
source: {project: local, family: debian-12}
context: .
steps:
  - {name: greet, action: run-script, inputs: {script: hello.sh}}
output: {name: hello}
local: {network: false}
"""
POWER_OFF = b"#!/bin/sh\ntrue\nsync\nexec systemctl poweroff -ff\n"
OWN = """\
import resource, sys
from goldsmith.__main__ import main
try:
    status = main()
except SystemExit as ended:
    status = ended.code
used = resource.getrusage(resource.RUSAGE_SELF)  # without children: QEMU is one
print(used.ru_utime + used.ru_stime, used.ru_maxrss * 1024, file=sys.stderr)
sys.exit(status)
"""
FLOOR_BUILD = "floor-000000000000"


def floor(home: Path, disk: Path, output: Path) -> None:
    """Copy, boot to `true`, export: with our own parts, and nothing between them."""
    name = machine_name(FLOOR_BUILD, 1, BUILD)
    folder = BuildFolder(home, FLOOR_BUILD)
    folder.disk(name).parent.mkdir(parents=True)
    copy_sparse(disk, folder.disk(name))
    spec = MachineSpec(name, folder.machine(name), folder.disk(name), {"bootstrap.sh": POWER_OFF}, internet=False)
    with Machines(home, lambda message: None) as machines:
        machines.start(spec)
        if not machines.wait(name, 120):
            raise RuntimeError("the floor's machine did not power off")
    archive = write_archive(folder.disk(name), output)
    verify_archive(output, archive)


def candidates(home: Path, folder: Path) -> list[Candidate]:
    """Return ours with and without export, the floor, and the peers that are installed."""
    disk = Catalogue(home, SystemClock()).disk(_base(home))
    (folder / "spec").mkdir()
    (folder / "spec" / "build.yaml").write_text(SPEC)
    (folder / "spec" / "hello.sh").write_text(SCRIPT)
    build: list[str | Path] = [ROOT / ".venv/bin/goldsmith", "build", folder / "spec" / "build.yaml"]
    here = {"GOLDSMITH_HOME": str(home)}

    def afresh() -> None:
        Catalogue(home, SystemClock()).delete("hello")
        shutil.rmtree(BuildFolder(home, FLOOR_BUILD).path, ignore_errors=True)
        for name in ("out", "floor.tar.gz", "peer.raw", "packer"):
            _remove(folder / name)

    once: list[str | Path] = [sys.executable, "-m", "benchmarks.build", "--floor", home, disk, folder / "floor.tar.gz"]
    found = [
        Candidate(OURS, [build], prepare=afresh, environment=here),
        Candidate(PACKED, [[*build, "--output", folder / "out"]], prepare=afresh, environment=here),
        Candidate(FLOOR, [once], prepare=afresh),
    ]
    if shutil.which("virt-customize"):
        found.append(virt_customize(disk, folder, folder / "spec" / "hello.sh", afresh))
    if shutil.which("packer"):
        found.append(_packer(disk, folder, afresh))
    return found


def virt_customize(disk: Path, folder: Path, script: Path, afresh: Callable[[], None]) -> Candidate:
    """Return the script on a copy of the disk, peer.raw, which `afresh` removes.

    Its appliance runs the source's own kernel, and is made before the first run.
    """
    kernel, modules = _kernel(disk, folder / "kernel")
    Path("/lib/modules").mkdir(exist_ok=True)  # it looks there too, and fails where a container has no such folder
    copy = ["cp", "--sparse=always", str(disk), str(folder / "peer.raw")]
    customize = ["virt-customize", "-a", str(folder / "peer.raw"), "--run", str(script)]
    line = f"{' '.join(copy)} && chmod u+w {folder / 'peer.raw'} && exec {' '.join(customize)}"
    environment = {
        "LIBGUESTFS_BACKEND": "direct",
        "LIBGUESTFS_BACKEND_SETTINGS": "force_tcg",
        "LIBGUESTFS_CACHEDIR": str(folder),
        "SUPERMIN_KERNEL": str(kernel),
        "SUPERMIN_MODULES": str(modules),
    }
    return Candidate(VIRT_CUSTOMIZE, [["sh", "-c", line]], prepare=afresh, environment=environment)


def _packer(disk: Path, folder: Path, afresh: Callable[[], None]) -> Candidate:
    """The same script by cloud-init, from a NoCloud disk, as Packer's QEMU builder is used without ssh."""
    user_data = {"runcmd": [["bash", "-c", SCRIPT], ["systemctl", "poweroff", "-ff"]]}
    (folder / "user-data").write_text("#cloud-config\n" + json.dumps(user_data))
    (folder / "meta-data").write_text('{"instance-id": "packer"}\n')
    builder = {
        "type": "qemu",
        "disk_image": True,
        "iso_url": str(disk),
        "iso_checksum": "none",
        "format": "raw",
        "skip_compaction": True,
        "accelerator": "tcg",
        "headless": True,
        "cpus": 2,
        "memory": 1024,
        "communicator": "none",
        "shutdown_timeout": "5m",
        "cd_files": [str(folder / "user-data"), str(folder / "meta-data")],
        "cd_label": "cidata",
        "output_directory": str(folder / "packer"),
    }
    (folder / "packer.json").write_text(json.dumps({"builders": [builder]}))
    environment = {"PACKER_CACHE_DIR": str(folder / "packer-cache"), "CHECKPOINT_DISABLE": "1"}
    return Candidate(PACKER, [["packer", "build", folder / "packer.json"]], prepare=afresh, environment=environment)


def _kernel(disk: Path, folder: Path) -> tuple[Path, Path]:
    """Take the source's kernel and modules out of its disk: a host in a container has none of its own."""
    root = Disk(disk).root
    release = next(name.removeprefix("vmlinuz-") for name in root.names("/boot") if name.startswith("vmlinuz-"))
    folder.mkdir()
    run_tool(["debugfs", "-R", f"rdump /usr/lib/modules/{release} {folder}", f"{disk}?offset={root.partition.start}"])
    kernel = folder / f"vmlinuz-{release}"
    kernel.write_bytes(root.read(f"/boot/vmlinuz-{release}"))
    return kernel, folder / release


def _base(home: Path) -> str:
    catalogue = Catalogue(home, SystemClock())
    return bootstrap_image("debian-12", catalogue, home=home).name


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def report(home: Path, folder: Path, rounds: int) -> None:
    """Measure all, and print the tables: times, what they are held to, and where the time of a build goes."""
    samples = compare(candidates(home, folder), rounds)
    where = phases(home)
    print(f"hello from a cached base; {rounds} rounds after one that does not count; {machine()}\n")
    print(table(samples, FLOOR))
    print("\n| required | measured |\n| --- | --- |")
    print(f"| at most 1.25 times the floor | {ratio(samples, PACKED, FLOOR):.2f} times |")
    if VIRT_CUSTOMIZE in samples:
        print(f"| at most 0.6 times virt-customize | {ratio(samples, PACKED, VIRT_CUSTOMIZE):.2f} times |")
    seconds, peak = own_use(home, folder)
    print(f"| goldsmith's own CPU time, without export, under 2 s | {seconds:.2f} s |")
    print(f"| its memory, without export, below 120 MB | {peak / 1e6:.0f} MB |")
    print(f"\n{median(samples[PACKED]).wall:.1f} s of a build with export, phase by phase, in its last run:\n")
    print(where)


def own_use(home: Path, folder: Path) -> tuple[float, int]:
    """Build once more, without export; give CPU seconds and peak bytes of goldsmith's process alone."""
    Catalogue(home, SystemClock()).delete("hello")
    done = subprocess.run(
        [sys.executable, "-c", OWN, "build", folder / "spec" / "build.yaml"],
        env={**os.environ, "GOLDSMITH_HOME": str(home)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    seconds, peak = done.stderr.split()[-2:]
    return float(seconds), int(peak)


def phases(home: Path) -> str:
    """Return a Markdown table of the newest build: how long each of its events was waited for."""
    with local(home) as backend:
        build = backend.store.builds()[0]
        events = list(each_event(backend.store, build.id))
    rows = ["| until | seconds |", "| --- | ---: |"]
    for before, event in pairwise(events):
        what = getattr(event, "report", None)
        name = event.kind if what is None else f"{event.kind}: {what.kind}"
        rows.append(f"| {name} | {event.time - before.time:.2f} |")
    return "\n".join(rows)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.build", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--home", type=Path, help="a GOLDSMITH_HOME with a bootstrapped base; default: a new one")
    parser.add_argument("--floor", type=Path, nargs=3, metavar=("HOME", "DISK", "OUTPUT"), help="run the floor once")
    arguments = parser.parse_args()
    if arguments.floor:
        floor(*arguments.floor)
        return
    with tempfile.TemporaryDirectory(prefix="goldsmith-bench-") as folder:
        home = arguments.home or Path(folder) / "home"
        report(home, Path(folder), arguments.rounds)


if __name__ == "__main__":
    main()
