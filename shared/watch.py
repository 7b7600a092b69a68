"""Looks at a build's VM itself, not only at its messages: a VM that is gone says nothing.

Reports that never came over the bus are read from the VM's report port and published from here, with the signatures
that the VM gave them. Called before every tick, which is told the result: after an outage of ours a VM may seem silent
whose every word stands on its report port.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from provisioner.protocol import COMPLETED, FAILED, HEARTBEAT, Report

from .build import Build, State
from .damage import Damaged
from .errors import GoldsmithError, NotFound
from .events import MachineStopped, Reported, report_id
from .factory import Factory
from .lifecycle_guards import phase_of
from .messages import event_message, plain_words, serial_reports
from .ports import Machine, Message
from .resources import grown_gb
from .workers.logs import store_console
from .workers.machines import find_machine, planned

LOG = logging.getLogger(__name__)

REPORT_PORT = 3
WATCHED = (State.PROVISIONING, State.VERIFYING)
QUIET = 120.0  # seconds: six heartbeats that have not come
SOON = 40.0  # the same for a VM that may have to ask for a disk by its port alone, and waits three minutes for it


def watch(build: Build, factory: Factory) -> bool:
    """Publish what the VM in use could not say itself; give whether there was anything."""
    if build.state not in WATCHED:
        return False
    phase = phase_of(build)
    machine = find_machine(build, phase, factory)
    if machine is None and not build.zone:  # not made yet, for all we know
        return False
    quiet = factory.clock.now() - build.last_seen >= (SOON if grown_gb(planned(build)) else QUIET)
    if machine is not None and machine.status != "stopped" and not quiet:
        return False
    output = _reports_port(build, machine, factory) if machine is not None else b""
    reports = serial_reports(output or b"", factory.keys, build, phase)
    if machine is not None and machine.status != "stopped" and (reports or not plain_words(output or b"")):
        note_life(build, reports, factory)
        return publish_unheard(build, reports, factory)
    if output is None and machine is not None and machine.how in (None, "powered-off") and not quiet:
        return False  # its last word may be on its way over the bus, and cannot be looked up
    publish_unheard(build, reports, factory)
    words = [report.kind for report, _message in reports if report.kind in (COMPLETED, FAILED)]
    fact = MachineStopped(
        build_id=build.id,
        event_id=f"{phase[0]}{build.attempt}-stopped",
        time=factory.clock.now(),
        attempt=build.attempt,
        phase=phase,
        how="lost" if machine is None else machine.how or "powered-off",
        claim=words[-1] if words else None,
        detail="" if machine is None else machine.detail or plain_words(output or b""),
    )
    factory.bus.publish(event_message(fact))
    return True


def keep_console(build: Build, factory: Factory) -> None:
    """Store the console of the VM in use while it runs, for people, should it vanish. A fault is logged alone."""
    if build.state not in WATCHED:
        return
    try:
        machine = find_machine(build, phase_of(build), factory)
        if machine is not None and machine.status != "stopped":
            store_console(machine.name, planned(build).machine.project, machine.zone, build, factory)
    except GoldsmithError as error:
        LOG.warning("build %s: the console of its VM is not stored: %s", build.id, error)


def _reports_port(build: Build, machine: Machine, factory: Factory) -> bytes | None:
    """Read all that stands on the report port: reports, or why the start script turned the machine off without any.

    None when it cannot be read: the VM has gone meanwhile, or it has stopped and the cloud keeps nothing of such.
    """
    project = planned(build).machine.project
    try:
        return factory.compute.serial_output(machine.name, project, machine.zone, REPORT_PORT, 0)[0]
    except NotFound:
        return None


def note_life(build: Build, reports: Sequence[tuple[Report, Message]], factory: Factory) -> None:
    """Count heartbeats of a VM that reaches nothing but its report port, so that a long step is no silence.

    They have the guest's times. What has passed there since its last recorded report has passed here since that came.
    """
    beats = [report.time for report, _message in reports if report.kind == HEARTBEAT]
    recorded = [
        event
        for event in factory.store.events(build.id)
        if isinstance(event, Reported)
        and (event.report.attempt, event.report.phase) == (build.attempt, phase_of(build))
    ]
    if not beats or not recorded:
        return
    last = recorded[-1]
    seen = min(last.time + beats[-1] - last.report.time, factory.clock.now())
    if seen > build.last_seen:
        factory.store.touch(build.id, seen)


def publish_unheard(build: Build, reports: Sequence[tuple[Report, Message]], factory: Factory) -> bool:
    """Publish the reports that are not recorded as events; give whether there were any. Heartbeats are no facts."""
    recorded = factory.store.events(build.id)
    known = {event.id if isinstance(event, Damaged) else event.event_id for event in recorded}
    unheard = [message for report, message in reports if report.kind != HEARTBEAT and report_id(report) not in known]
    for message in unheard:
        factory.bus.publish(message)
    return bool(unheard)
