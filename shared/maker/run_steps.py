"""run: a sandbox on a copy of the made root does the steps, and says on standard output how far it is."""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
from dataclasses import replace
from pathlib import Path

from provisioner.protocol import BUILD, HEARTBEAT, Job, ProtocolError, decode_job, decode_report, sign

from ..build.plan import Context, MachinePlan
from ..build.resources import boot_disk_name, machine_name
from ..clock import SystemClock
from ..delivery.cidata import CONTEXT
from ..errors import NotFound
from ..host.build_folder import BuildFolder
from ..images.catalogue import Catalogue
from ..images.contents import date_of
from ..local.compute import CONSOLE, LocalCompute
from ..machines.machines import CHROOT, Machines
from ..machines.qemu import ADDRESS
from ..machines.record import ZONE
from ..names import LOCAL
from ..ports import MachineRequest, Message
from ..quantities import MIB
from ..topology import REPORTS_TOPIC
from .make_root import made_root

JOB_NOTE = "job.json"
POLL = 0.5  # seconds between two looks at the sandbox
OWN_MEMORY = 256 * MIB  # bytes that the maker VM keeps for itself
SIGNATURE = "signature"
PUBLISH_URL = f"http://{ADDRESS}/v1/projects/{LOCAL}/topics/{REPORTS_TOPIC}:publish"


class Told:
    """Prints objects, one a line, by several threads."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._turn = threading.Lock()

    def say(self, kind: str, value: object) -> None:
        """Print one."""
        with self._turn:
            sys.stdout.write(json.dumps({kind: value}) + "\n")
            sys.stdout.flush()

    def publish(self, message: Message) -> None:
        """Print a report of the sandbox, if its signature is right; those that only say that it is alive are not."""
        if sign(self._job.key, message.data) != message.attributes.get(SIGNATURE):
            return
        try:
            report = decode_report(message.data)
        except ProtocolError:
            return
        if report.kind != HEARTBEAT:
            self.say("report", json.loads(message.data))


def run_steps(home: Path, cidata: Path, job_file: Path) -> None:
    """Run a job in a sandbox on a fresh copy of the made root, until it has ended. GoldsmithError."""
    made, catalogue = made_root(home), Catalogue(home, SystemClock())
    job = replace(
        decode_job(job_file.read_bytes()),
        publish_url=PUBLISH_URL,
        token_url=None,
        source_date=date_of(catalogue.disk(made.image)) or None,
    )
    told = Told(job)
    folder = BuildFolder(home, job.build_id)
    shutil.rmtree(folder.path, ignore_errors=True)  # of an attempt that was cut off: its disk may hold anything
    with Machines(home, told.publish) as machines:
        machines.check(CHROOT, "", internet=True)
        compute = LocalCompute(home, catalogue, machines, SystemClock(), environment={})
        name = machine_name(job.build_id, job.attempt, BUILD)
        compute.create_machine(_request(job, name, made.image, made.disk_size_gb, cidata / CONTEXT))
        read = 0
        while not compute.wait_until_stopped(name, LOCAL, ZONE, POLL):
            read = _tell_console(compute, name, read, told)
        _tell_console(compute, name, read, told)
        machine = compute.machine(name, LOCAL, ZONE)
    (folder.path / JOB_NOTE).write_text(json.dumps([job.build_id, job.attempt]))
    lost = "the sandbox is gone" if machine is None else machine.detail if machine.how != "powered-off" else ""
    told.say("end", lost)


def _request(job: Job, name: str, image: str, disk_size_gb: int, context: Path) -> MachineRequest:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") - OWN_MEMORY
    size = context.stat().st_size if context.exists() else 0
    return MachineRequest(
        name=name,
        boot_disk=boot_disk_name(job.build_id, job.attempt, BUILD),
        source_project=LOCAL,
        source_image=image,
        plan=MachinePlan(LOCAL, engine="chroot", disk_size_gb=disk_size_gb, memory_mb=max(memory // MIB, 256)),
        labels={},
        job=job,
        context=Context(str(context), job.context_digest, size) if size else None,
        max_seconds=0.0,
    )


def _tell_console(compute: LocalCompute, name: str, read: int, told: Told) -> int:
    """Print what the console has had since a byte; return the next one."""
    try:
        new, end = compute.serial_output(name, LOCAL, ZONE, CONSOLE, read)
    except NotFound:
        return read
    if new:
        told.say("console", new.decode("utf-8", "replace"))
    return end
