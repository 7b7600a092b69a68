"""The only writer of a build's state: it takes events, lets lifecycle.py decide, saves, and publishes the orders.

    load build@v ──► decide ──► save(build, event, if still v) ──► publish outbox ──► save(outbox emptied)
         ▲                          │ Conflict: another process wrote
         └──────── pause ◄──────────┘

The event and what it leads to are one conditional write, so that of two deliveries one wins and the other is a
duplicate. Orders stand in the outbox of that write: a process that dies before it has published them leaves them to
the next one that looks (resend), and one that dies after it publishes them twice, which every worker bears.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

from ..build.build import Build, State
from ..build.events import (
    BuildRejected,
    BuildRequested,
    Event,
    ImageLabelled,
    Reported,
    Ticked,
    TurnCame,
    is_heartbeat,
    report_id,
)
from ..build.resources import image_document
from ..errors import AlreadyExists, Conflict, NotFound, PoisonMessage, StoreError, TooLarge, Transient
from ..keys import BY_ATTEMPT, Keys
from ..ports import Bus, Clock, Store, Stored
from .family_turn import take_turn_to_publish
from .lifecycle import Decision, begin, decide, subject
from .machine_in_use import says_too_much, speaks
from .messages import SignedReport, order_message
from .verifiers import foreign_reason, note_signs

LOG = logging.getLogger(__name__)

TRIES = 12  # of a conditional write; each waits up to PAUSE longer than the one before
PAUSE = 0.05  # seconds
OFTEN = 5.0  # seconds: heartbeats that come faster are not written down, so that a flood of them costs no writes
SELDOM = 0.1  # of the silence that a plan allows: those of verifiers, which share one document

Listener = Callable[[Build, Event], None]


class Engine:
    """Leads builds through their lifecycle. Any number of engines may work on one store."""

    def __init__(self, store: Store, bus: Bus, clock: Clock, listener: Listener | None = None) -> None:
        self._store = store
        self._bus = bus
        self._clock = clock
        self._listener = listener

    def request(self, event: BuildRequested | BuildRejected) -> Build:
        """Begin a build, or return the one that this request has begun. StoreError if its id is another request's."""
        event = replace(event, time=self._clock.now())
        decision = begin(event)
        replaces = event.replaces if isinstance(event, BuildRequested) else ""
        try:
            self._store.create(decision.build, event, image_document(decision.build), replaces)
        except AlreadyExists:
            existing = self._store.load(event.build_id).build
            if existing.request != decision.build.request:
                raise StoreError(
                    f"build id {event.build_id} belongs to another request already; give the spec another name"
                ) from None
            return self.resend(existing.id)
        self._tell(decision.build, event)
        return self._publish(decision.build)

    def receive(self, event: Event) -> str:
        """Apply an event; return "" or the reason why it changed nothing.

        Transient when there are too many conflicts, or another build publishes in its family; PoisonMessage for an
        event of no build that there is, or one that the store cannot take; NameTaken for a turn whose image's name is
        another build's by now.
        """
        return self._apply(self._stored(event.build_id, event.event_id), event)

    def take(self, fact: Event | SignedReport, keys: Keys) -> str:
        """Apply what a message has brought, a VM's report once its signature is checked.

        WrongSignature for a report that is not of the VM that it names; otherwise as receive().
        """
        if not isinstance(fact, SignedReport):
            return self.receive(fact)
        stored = self._stored(fact.report.build_id, report_id(fact.report))
        return self._apply(stored, fact.checked(keys, stored.build.keys))

    def tick(self, build_id: str, *, heard: bool = False, looked: float | None = None) -> str:
        """Advance one build to the time `looked`, at which its VM was looked at and watch() returned `heard`.

        A process may stand still between the two. What the VM has said since is no part of that look, and neither is
        the time since: it would count as silence.
        """
        now = self._clock.now() if looked is None else looked
        return self._write(build_id, Ticked(build_id=build_id, event_id=f"t{now:.3f}", time=now, heard=heard))

    def resend(self, build_id: str) -> Build:
        """Publish what a process that died may have left in the outbox; return the build."""
        return self._publish(self._store.load(build_id).build)

    def _stored(self, build_id: str, event_id: str) -> Stored:
        try:
            return self._store.load(build_id)
        except NotFound as error:
            raise PoisonMessage(f"{event_id} is of no build that there is: {build_id}") from error

    def _apply(self, stored: Stored, event: Event) -> str:
        event = replace(event, time=self._clock.now())
        if isinstance(event, Reported) and is_heartbeat(event):
            return self._note_life(stored.build, event)
        try:
            return self._write(event.build_id, event, stored)
        except TooLarge as error:
            raise PoisonMessage(f"{event.event_id} cannot be recorded: {error}") from error

    def _note_life(self, build: Build, event: Reported) -> str:
        name, seen = subject(build, event)
        if foreign_reason(build, event) or not speaks(seen, event):  # of an earlier VM, which may well be alive still
            return "it is a heartbeat of a VM that is not in use"
        silence = build.plan.silence if build.plan is not None and name else 0.0
        if event.time - seen.last_seen < max(OFTEN, silence * SELDOM):
            return "it is a heartbeat so soon after a sign of life that it says nothing new"
        note_signs(self._store, build, event.time, name)
        return ""

    def _write(self, build_id: str, event: Event, loaded: Stored | None = None) -> str:
        for tries in range(TRIES):
            stored = loaded if loaded is not None and not tries else self._store.load(build_id)
            decision: Decision = decide(self._committed_before(stored.build), event)
            if decision.ignored:
                if isinstance(event, Reported) and decision.ignored == _flood(stored.build, event):
                    text = "build %s: %s is dropped: %s"
                    LOG.warning(text, build_id, event.event_id, decision.ignored, extra={"metric": "flood"})
                LOG.debug("build %s ignores %s: %s", build_id, event.event_id, decision.ignored)
                self._publish(stored.build)  # the first delivery may have died between its write and its orders
                return decision.ignored
            if decision.build.committed and not stored.build.committed:
                take_turn_to_publish(decision.build, self._store, self._clock.now())
            known, image = image_document(stored.build), image_document(decision.build)
            try:
                self._store.save(
                    decision.build,
                    stored.version,
                    event,
                    image if image != known else None,
                    event.replaces if isinstance(event, TurnCame) and decision.build.outcome is None else None,
                )
            except AlreadyExists:  # by another delivery, or by this one: its answer was lost, its orders are unsent
                self.resend(build_id)
                return f"{event.event_id} has been recorded before"
            except Conflict:
                self._clock.pause(PAUSE * (tries + 1))
                continue
            self._tell(decision.build, event)
            self._publish(decision.build)
            return ""
        raise Transient(f"build {build_id} is written to by too many at once; {event.event_id} will be redelivered")

    def _committed_before(self, build: Build) -> Build:
        """Note the commit of a publication that the release before has begun: it wrote ImageLabelled, and no mark."""
        if build.state is not State.PUBLISHING or build.committed or build.keys != BY_ATTEMPT:
            return build
        found = self._store.events(build.id, kinds=("ImageLabelled",))
        labelled = next((event for event in found if isinstance(event, ImageLabelled)), None)
        return build if labelled is None else replace(build, committed=labelled.time)

    def _tell(self, build: Build, event: Event) -> None:
        if self._listener is not None:
            self._listener(build, event)

    def _publish(self, build: Build) -> Build:
        if not build.outbox:
            return build
        for order in build.outbox:
            self._bus.publish(order_message(order, replace(build, outbox=())))
        sent = {order.number for order in build.outbox}
        for tries in range(TRIES):
            stored = self._store.load(build.id)
            left = tuple(order for order in stored.build.outbox if order.number not in sent)
            emptied = replace(stored.build, outbox=left)
            if left == stored.build.outbox:
                return emptied
            try:
                self._store.save(emptied, stored.version)
            except Conflict:
                self._clock.pause(PAUSE * (tries + 1))
                continue
            return emptied
        return build  # published all the same; the next process that looks publishes again and empties the outbox


def _flood(build: Build, event: Reported) -> str:
    return says_too_much(subject(build, event)[1], event)
