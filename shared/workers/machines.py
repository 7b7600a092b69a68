"""Make, find and await build VMs: the building one and the verifying one get a job in the same way."""

from __future__ import annotations

from dataclasses import replace

from provisioner.protocol import BUILD, EXPORT, Job, Step

from ..backend import Backend
from ..build import resources
from ..build.build import Build
from ..build.events import MachineStarted
from ..build.orders import Order
from ..build.plan import Plan
from ..errors import Permanent, Transient
from ..ownership import revocation_of
from ..ports import Machine, MachineRequest

OUTLIVES = 600.0  # seconds past the deadline after which a VM ends by itself, when everything else is down
STOPS_WITHIN = 120  # seconds from the last report to a VM that has powered itself off


def job_of(
    build: Build,
    attempt: int,
    phase: str,
    backend: Backend,
    machine: str = "",
    steps: tuple[Step, ...] | None = None,
) -> Job:
    """Return the document that the VM's provisioner works from; `machine` is the name of a verifier.

    Its steps are those of the plan, or others.
    """
    plan = planned(build)
    own = plan.verifier(machine)
    if steps is None:
        steps = plan.steps if phase == BUILD else plan.verify_steps or ()
    job = Job(
        build_id=plan.build_id,
        attempt=attempt,
        key=backend.keys.of_machine(plan.build_id, attempt, phase, build.keys, machine=machine),
        steps=steps,
        phase=phase,
        publish_url=backend.reports.publish_url,
        token_url=backend.reports.token_url,
        report_port=backend.reports.port,
        linger=backend.reports.linger,
        clean=False,
        context_digest=plan.context.digest if plan.context and phase != EXPORT else "",
        hold=plan.machine.hold,
        kept=plan.keep_disk > 0 and phase != EXPORT,
        machine=machine,
    )
    if own is not None:
        job = replace(job, steps=own.steps(job.steps))
    if any(step.secrets for step in job.steps):
        job = replace(job, secrets_url=backend.reports.secrets_url)
    if phase == EXPORT:
        return job
    if phase != BUILD:
        return replace(job, allow_failed=plan.allow_failed)
    return replace(  # what only a job has whose disk becomes the image
        job,
        clean=plan.origin is None,
        makes_root=plan.origin is not None,
        layout=plan.layout,
        scratch=plan.machine.scratch_gb > 0,
        hygiene=plan.hygiene,
        allow=tuple(allowance.path for allowance in plan.allow),
        inventory=backend.reports.of_contents,
        source_date=plan.source_date,
    )


def start_machine(build: Build, order: Order, backend: Backend, phase: str) -> MachineStarted:
    """Make and start the VM of a phase. Permanent where its source was revoked since the build was planned."""
    plan = planned(build)
    revoked = revocation_of(plan.source, backend) if phase == BUILD and plan.origin is None else None
    if revoked is not None:
        raise Permanent(f"source: image {plan.source.name} was {revoked.text}; name another image")
    source = plan.source if plan.origin is None else plan.origin.maker
    image = source if phase == BUILD else plan.image
    machine, scratch, root = plan.machine, "", ""
    own, number = plan.verifier(order.machine), plan.verifier_number(order.machine)
    longest = build.deadline - backend.clock.now()
    if phase != BUILD:
        machine = dict(plan.verifying_machines())[order.machine]
        longest = min(longest, own.timeout if own is not None and own.timeout is not None else longest)
    elif machine.scratch_gb:
        scratch = resources.scratch_disk_name(plan.build_id, order.attempt)
    if phase == BUILD and plan.origin is not None:
        root = resources.root_disk_name(plan.build_id, order.attempt)
    request = MachineRequest(
        name=resources.machine_name(plan.build_id, order.attempt, phase, number),
        boot_disk=resources.boot_disk_name(plan.build_id, order.attempt, phase, number),
        source_project=image.project,
        source_image=image.name,
        plan=machine,
        labels=resources.labels(build.id, order.attempt, build.deadline + max(plan.keep_disk, plan.retry_disk_for)),
        job=job_of(build, order.attempt, phase, backend, order.machine),
        context=plan.context,
        max_seconds=max(60.0, longest + OUTLIVES),
        silence=plan.silence,
        scratch_disk=scratch,
        root_disk=root,
        root_gb=plan.image.disk_size_gb if root else 0,
        whole_plan=plan if phase == BUILD else None,
        architecture=plan.source.architecture,
    )
    zone = backend.compute.create_machine(request)
    return MachineStarted(
        build_id=build.id,
        event_id=order.fact_id("MachineStarted"),
        time=backend.clock.now(),
        attempt=order.attempt,
        phase=phase,
        zone=zone,
        machine=order.machine,
    )


def find_machine(build: Build, phase: str, backend: Backend, verifier: str = "") -> Machine | None:
    """Look this attempt's VM up; in all zones of the plan while no worker has said which one it is in."""
    plan = planned(build).machine
    name = resources.machine_name(build.id, build.attempt, phase, planned(build).verifier_number(verifier))
    for zone in (build.zone,) if build.zone else plan.zones or ("",):
        machine = backend.compute.machine(name, plan.project, zone)
        if machine is not None:
            return machine
    return None


def zone_of(build: Build, phase: str, backend: Backend) -> str:
    """Return the zone of a VM that has sent a report, perhaps before its worker could name the zone. Transient."""
    if build.zone:
        return build.zone
    found = find_machine(build, phase, backend)
    if found is None:
        name = resources.machine_name(build.id, build.attempt, phase)
        raise Transient(f"{name} is in none of the plan's zones, and its zone is not known yet")
    return found.zone


def wait_until_stopped(machine: str, project: str, zone: str, backend: Backend) -> None:
    """Wait until a VM that has said that it is done has powered itself off. Transient."""
    for _second in range(STOPS_WITHIN):
        if backend.compute.wait_until_stopped(machine, project, zone, 1.0):
            return
        backend.progress(f"waiting for {machine} to stop", 0, 0)
    raise Transient(f"{machine} says that it is done and has not stopped after {STOPS_WITHIN} s")


def planned(build: Build) -> Plan:
    """Return the plan of a build that was not rejected: only those get orders to make something."""
    if build.plan is None:
        raise Permanent(f"build {build.id} has no plan")
    return build.plan
