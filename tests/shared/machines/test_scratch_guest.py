"""A scratch disk in a real machine: it holds what steps put there over a reboot, and nothing of it is in the image."""

from __future__ import annotations

from pathlib import Path

import pytest

from provisioner.protocol import COMPLETED, Job, Step
from shared.build import resources
from shared.build.plan import MachinePlan
from shared.context.packing import pack_context
from shared.disks.disk import Disk
from shared.engine.messages import serial_reports
from shared.host.build_folder import BuildFolder
from shared.ports import MachineRequest
from shared.runtime import opening
from tests.world.values import BUILD_ID, build, plan

PATIENCE = 400.0  # seconds, on a machine that does much else
FIRST = """\
set -e
mountpoint /mnt/disks/scratch
lsblk -no LABEL,FSTYPE "$(findmnt -no SOURCE /mnt/disks/scratch)" | grep "SCRATCH ext4"
echo kept > /mnt/disks/scratch/file
exit 194
"""
SECOND = """\
set -e
mountpoint /mnt/disks/scratch
grep -x kept /mnt/disks/scratch/file
(cd /mnt/disks/scratch && setsid sleep 1000 > /dev/null 2>&1 &)
"""


@pytest.mark.vm
def test_it_is_there_in_every_boot_and_gone_from_the_image(debian_home: Path, tmp_path: Path) -> None:
    """install-gpu: a 10 GB ext4 scratch disk labelled SCRATCH, mounted at /mnt/disks/scratch."""
    scripts = tmp_path / "context"
    scripts.mkdir()
    for name, text in (("first.sh", FIRST), ("second.sh", SECOND)):
        (scripts / name).write_text(text)
    steps = tuple(Step(name, "run-script", {"script": f"{name}.sh"}) for name in ("first", "second"))
    name = resources.machine_name(BUILD_ID, 1, "build")
    boot = resources.boot_disk_name(BUILD_ID, 1, "build")
    with opening.local(debian_home) as local:
        key = local.keys.of_machine(BUILD_ID, 1, "build")
        job = Job(BUILD_ID, 1, key, steps, publish_url=local.reports.publish_url, scratch=True)
        request = MachineRequest(
            name=name,
            boot_disk=boot,
            source_project="local",
            source_image="debian-12-base",
            plan=MachinePlan("local", scratch_gb=10),
            labels=resources.labels(plan().build_id, 1, plan().requested + plan().timeout),
            job=job,
            context=pack_context(scripts, tmp_path / "context.tar"),
            max_seconds=PATIENCE,
            scratch_disk=resources.scratch_disk_name(BUILD_ID, 1),
        )
        local.compute.create_machine(request)
        assert local.compute.wait_until_stopped(name, "local", "local", PATIENCE)
        console = local.compute.serial_output(name, "local", "local", 1, 0)[0].decode("utf-8", "replace")
        port, _end = local.compute.serial_output(name, "local", "local", 3, 0)
        said = serial_reports(port, local.keys, build(id=BUILD_ID), "build")
        folder = BuildFolder(debian_home, BUILD_ID)
        assert said[-1][0].kind == COMPLETED, console
        assert said[-1][0].message == ""
        assert console.count("is formatted") == 1
        assert folder.machine(name).joinpath("scratch.raw").stat().st_size == 10 << 30
        assert not Disk(folder.disk(boot)).root.exists("/mnt/disks")
        local.compute.delete("machine", name, "local", "local")
        assert folder.disks() == [boot]
        assert folder.machines() == []
