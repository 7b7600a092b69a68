"""Looks at a build's VM itself, not only at its messages: a VM that is gone says nothing.

Reports that never came over the bus are read from the VM's report port and published from here, with the signatures
that the VM gave them; the engine knows which ones it has had. Called by every tick.
"""

from __future__ import annotations

from provisioner.protocol import COMPLETED, FAILED, HEARTBEAT

from .build import Build, State
from .errors import NotFound
from .events import MachineStopped
from .factory import Factory
from .lifecycle import phase_of
from .messages import event_message, serial_reports
from .ports import Machine
from .workers.machines import find_machine

REPORT_PORT = 3
WATCHED = (State.PROVISIONING, State.VERIFYING)
QUIET = 60.0  # seconds: three heartbeats that have not come


def watch(build: Build, factory: Factory) -> bool:
    """Publish what the VM in use could not say itself; give whether it was seen stopped."""
    if build.state not in WATCHED:
        return False
    phase = phase_of(build)
    machine = find_machine(build, phase, factory)
    if machine is None and not build.zone:  # not made yet, for all we know
        return False
    if machine is not None and machine.status != "stopped":
        if factory.clock.now() - build.last_seen >= QUIET:
            publish_unheard(build, machine, factory, phase)
        return False
    claim = publish_unheard(build, machine, factory, phase) if machine is not None else None
    fact = MachineStopped(
        build_id=build.id,
        event_id=f"{phase[0]}{build.attempt}-stopped",
        time=factory.clock.now(),
        attempt=build.attempt,
        phase=phase,
        how="lost" if machine is None else machine.how or "powered-off",
        claim=claim,
        detail="" if machine is None else machine.detail,
    )
    factory.bus.publish(event_message(fact))
    return True


def publish_unheard(build: Build, machine: Machine, factory: Factory, phase: str) -> str | None:
    """Publish every report on the VM's report port; give the kind of its last word, if that is one."""
    try:
        output, _next = factory.compute.serial_output(machine.name, machine.zone, REPORT_PORT, 0)
    except NotFound:
        return None
    claim = None
    for report, message in serial_reports(output, factory.keys, build.id, build.attempt, phase):
        if report.kind != HEARTBEAT:
            factory.bus.publish(message)
        if report.kind in (COMPLETED, FAILED):
            claim = report.kind
    return claim
