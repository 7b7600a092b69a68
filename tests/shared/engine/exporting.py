"""A build whose image is made, and whose files a VM writes: what may happen to it, by the rule that is for that."""

from __future__ import annotations

from dataclasses import replace

from provisioner.protocol import COMPLETED, DISK_WANTED, EXPORT, FAILED, STARTED
from shared.build.build import Build, State
from shared.build.events import Event
from shared.build.orders import OrderKind
from tests.world import values


def exporting(zone: str = "", attempts: int = 1) -> Build:
    plan = replace(values.plan(), exporter=values.plan().source, attempts=attempts)
    times = {"last_seen": values.NOON, "wake_at": values.NOON + 900}
    return values.build(state=State.EXPORTING, plan=plan, image=values.image_record(), zone=zone, orders=1, **times)


def said(kind: str) -> Event:
    return values.reported(time=values.NOON + 30, kind=kind, phase=EXPORT)


EXPORTS: tuple[tuple[str, Build, Event, OrderKind | None], ...] = (
    ("Reported goes_on", exporting(), said(STARTED), None),
    ("Reported wants_disk", exporting(), said(DISK_WANTED), "export_image"),
    ("Reported claims_first", exporting(), said(COMPLETED), "export_image"),
    ("MachineStarted is_current", exporting(), values.machine_started(phase=EXPORT), None),
    ("DiskGrown is_current", exporting(), values.disk_grown(phase=EXPORT), None),
)
"""Those that leave it in its state, and the orders that it gives then."""

AGAIN = exporting("here", attempts=2)
NEXT_EXPORTS: tuple[tuple[str, Build, Event], ...] = (
    ("MachineStopped may_go_on", AGAIN, values.machine_stopped(phase=EXPORT, claim=None, how="lost")),
    ("Ticked may_be_replaced", AGAIN, values.ticked(time=values.NOON + 300)),
)
"""Those that lead to the next VM."""

FAILED_EXPORTS: tuple[tuple[str, Build, Event], ...] = (
    ("Reported says_failed", exporting(), said(FAILED)),
    ("MachineStopped has_ended", exporting(), values.machine_stopped(phase=EXPORT, claim=None)),
    ("Ticked is_silent", exporting("here"), values.ticked(time=values.NOON + 300)),
)
