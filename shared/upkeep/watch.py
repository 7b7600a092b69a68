"""Look at a build's VM itself, since a VM that is gone sends no messages.

Reports that never came over the bus are read from the VM's report port and published from here, with the signatures of
the VM. watch() runs before every tick, which gets its result: after an outage of ours a VM may seem silent although all
its reports stand on its report port.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence

from provisioner.protocol import BUILD, COMPLETED, FAILED, HEARTBEAT, Report

from ..backend import Backend
from ..build.build import Build, State
from ..build.events import MachineStopped, Reported, Stop, machine_id, report_id
from ..build.plan import Plan
from ..build.resources import grown_gb
from ..engine.lifecycle import decide
from ..engine.machine_in_use import phase_of
from ..engine.messages import event_message, plain_words, serial_reports
from ..engine.verifiers import each_view, note_signs
from ..errors import GoldsmithError, NotFound
from ..ports import Machine, Message
from ..workers.logs import CONSOLE, store_console
from ..workers.machines import find_machine, planned

LOG = logging.getLogger(__name__)

REPORT_PORT = 3
WATCHED = (State.PROVISIONING, State.EXPORTING, State.VERIFYING)
QUIET = 120.0  # seconds: six heartbeats that have not come; fewer where a plan allows less silence
SOON = 40.0  # the same for a VM that may have to ask for a disk by its port alone, and waits three minutes for it
TAIL = 64 << 10  # bytes of a console that are looked at
REASONS, REASON_LENGTH = 4, 200  # that are told, and characters of each

_BOOT = re.compile(rb"\] Linux version |^GRUB ", re.MULTILINE)  # where the newest boot begins
_GIVEN_UP = re.compile(
    rb"^(?:You are in (?:emergency|rescue) mode|Welcome to emergency mode|Entering emergency mode"
    rb"|Cannot open access to console, the root account is locked|ALERT! .* does not exist"
    rb"|Failed to mount .* as root file system|No root device specified|\(initramfs\))",
    re.MULTILINE | re.IGNORECASE,
)
_REASON = re.compile(
    rb"^(?:\[ *(?:FAILED|DEPEND|TIME) *\] )?((?:Timed out|Dependency failed|Failed to|ALERT!|mount:) .*)",
    re.MULTILINE,
)
_CONTROL = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")


def watch(build: Build, backend: Backend) -> bool:
    """Publish what the VMs in use could not send themselves; return whether there was anything."""
    if build.state not in WATCHED or phase_of(build) is None:
        return False
    told = [_watch_one(name, seen, build, backend) for name, seen in each_view(build)]
    return True in told


def _watch_one(name: str, build: Build, whole: Build, backend: Backend) -> bool:
    """Do that for one of them, with the build as it sees it and as it is."""
    phase = phase_of(build) or BUILD
    machine = find_machine(build, phase, backend, name)
    if machine is None and not build.zone:  # not made yet, for all we know
        return False
    quiet = backend.clock.now() - build.last_seen >= quiet_seconds(planned(build))
    if machine is not None and machine.status != "stopped" and not quiet:
        return False
    output = _serial_port(build, machine, REPORT_PORT, backend) if machine is not None else b""
    reports = serial_reports(output or b"", backend.keys, build, phase, name)
    if machine is not None and machine.status != "stopped" and (reports or not plain_words(output or b"")):
        alive = note_life(build, reports, backend, name)
        heard = publish_unheard(whole, reports, backend)
        given_up = "" if alive or heard else emergency(_serial_port(build, machine, CONSOLE, backend) or b"")
        if given_up:
            _publish_stop(build, name, backend, "gave-up", None, given_up)
        return heard or bool(given_up)
    if output is None and machine is not None and machine.how in (None, "powered-off") and not quiet:
        return False  # its last word may be on its way over the bus, and cannot be looked up
    publish_unheard(whole, reports, backend)
    words = [report.kind for report, _message in reports if report.kind in (COMPLETED, FAILED)]
    how: Stop = "lost" if machine is None else machine.how or "powered-off"
    detail = "" if machine is None else machine.detail or plain_words(output or b"")
    _publish_stop(build, name, backend, how, words[-1] if words else None, detail)
    return True


def quiet_seconds(plan: Plan) -> float:
    """Return after how many seconds without a sign of life the report port is read: well before the silence ends."""
    return min(SOON if grown_gb(plan) else QUIET, plan.silence / 2)


def _publish_stop(build: Build, name: str, backend: Backend, how: Stop, claim: str | None, detail: str) -> None:
    phase = phase_of(build) or BUILD
    fact = MachineStopped(
        build_id=build.id,
        event_id=f"{machine_id(phase, build.attempt, name)}-stopped",
        time=backend.clock.now(),
        attempt=build.attempt,
        phase=phase,
        how=how,
        claim=claim,
        detail=detail,
        machine=name,
    )
    backend.bus.publish(event_message(fact))


def keep_console(build: Build, backend: Backend) -> None:
    """Store the consoles of the VMs in use while they run, for people, should one vanish. A fault is logged alone."""
    phase = phase_of(build)
    if build.state not in WATCHED or phase is None:
        return
    for name, seen in each_view(build):
        try:
            machine = find_machine(seen, phase, backend, name)
            if machine is not None and machine.status != "stopped":
                store_console(machine.name, planned(build).machine.project, machine.zone, build, backend)
        except GoldsmithError as error:
            LOG.warning("build %s: the console of its VM is not stored: %s", build.id, error)


def _serial_port(build: Build, machine: Machine, port: int, backend: Backend) -> bytes | None:
    """Read a serial port: the console, or reports, or why the start script turned the machine off without any.

    None when it cannot be read: the VM has gone meanwhile, or it has stopped and the cloud keeps nothing of such.
    """
    project = planned(build).machine.project
    try:
        return backend.compute.serial_output(machine.name, project, machine.zone, port, 0)[0]
    except NotFound:
        return None


def emergency(console: bytes) -> str:
    """Return why the newest boot on a console has given up, in one line; "" if it has not.

    The provisioner does not run in emergency mode or in the shell of the initrd, so that the VM is silent. A guest may
    write anything on its console: the words are for people, and only end a VM from which nothing else is heard."""
    text = _CONTROL.sub(b"", console[-TAIL:])
    boots = list(_BOOT.finditer(text))
    text = text[boots[-1].start() :] if boots else text
    given_up = _GIVEN_UP.search(text)
    if given_up is None:
        return ""
    reasons = [found[1].decode("utf-8", "replace").rstrip(" .") for found in _REASON.finditer(text)]
    told = list(dict.fromkeys(reasons))[:REASONS] or [given_up[0].decode("utf-8", "replace")]
    return "; ".join(line[:REASON_LENGTH] for line in told)


def note_life(build: Build, reports: Sequence[tuple[Report, Message]], backend: Backend, name: str = "") -> bool:
    """Count heartbeats of a VM that reaches nothing but its report port; return whether there were new ones.

    So a long step is no silence.

    They have the guest's times. What has passed there since its last recorded report has passed here since that came.
    """
    beats = [report.time for report, _message in reports if report.kind == HEARTBEAT]
    if not beats:
        return False
    said = [
        event
        for event in backend.store.newest_events(build.id)
        if isinstance(event, Reported)
        and (event.report.attempt, event.report.phase, event.report.machine) == (build.attempt, phase_of(build), name)
    ]
    if not said:
        return False
    last = max(said, key=lambda event: event.report.sequence)  # they may have come in any order
    seen = min(last.time + beats[-1] - last.report.time, backend.clock.now())
    if seen <= build.last_seen:
        return False
    note_signs(backend.store, build, seen, name)
    return True


def publish_unheard(build: Build, reports: Sequence[tuple[Report, Message]], backend: Backend) -> bool:
    """Publish the reports that are not recorded as events and would be; return whether there were any.

    What the build drops is never recorded: it would be published again at every look, and a VM that has sent too much
    and hangs would never be silent. Heartbeats are no facts.
    """
    facts = {report_id(report): (report, message) for report, message in reports if report.kind != HEARTBEAT}
    known = backend.store.recorded(build.id, facts)
    now, heard = backend.clock.now(), False
    for event_id, (report, message) in facts.items():
        if event_id in known:
            continue
        decision = decide(build, Reported(build_id=build.id, event_id=event_id, time=now, report=report))
        if decision.ignored:
            continue
        build, heard = decision.build, True  # as it will be: there is room for one report less
        backend.bus.publish(message)
    return heard
