"""Carries each message to what handles it, until the build is finished; in the cloud, subscriptions do this.

Reports and events go to the engine on this thread, orders to their workers on one other, one at a time: while an export
runs, the deadline, a cancellation and the VM's death are still noticed. A worker whose result nobody wants any more is
stopped at its next word of progress.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

from ..build import Build, State
from ..engine import Engine, Listener
from ..errors import GoldsmithError, NoSpace, PoisonMessage, Transient
from ..events import Event
from ..factory import Factory
from ..interruption import Interruption
from ..messages import (
    EVENTS_TOPIC,
    REPORTS_TOPIC,
    read_event_message,
    read_order_message,
    read_report_message,
)
from ..orders import WORKER_TOPIC, Order
from ..requests import cancel
from ..sbom import import_libraries
from ..watch import watch
from ..workers import carry_out, is_stale
from .bus import Delivery, LocalBus

LOG = logging.getLogger(__name__)

STUCK = 30.0  # seconds of clean-up
TICK = 0.5  # seconds between looks at the VM and the deadline
RETRY = (0.2, 0.5, 1.0, 2.0, 5.0)  # seconds before an order is delivered again; the last for all that follow


class Abandoned(Transient):
    """The worker's result is not wanted any more: the build has moved on."""


class Patience:
    """How long a clean-up may take before it is left alone."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._since: float | None = None

    def is_over(self, build: Build) -> bool:
        """Whether the build has been in `cleaning` for too long."""
        if build.state is not State.CLEANING:
            return False
        self._since = self._since or time.monotonic()
        return time.monotonic() - self._since > self._seconds


class Dispatcher:
    """Runs builds of this machine to their end, one at a time."""

    def __init__(
        self, factory: Factory, bus: LocalBus, listener: Listener | None = None, look: Callable[[], None] | None = None
    ) -> None:
        """`look` is called at every tick until the build has an outcome; NoSpace, which it may raise, ends run()."""
        self._look = look
        self._factory = replace(factory, progress=self._progress)
        self._say = factory.progress
        self._bus = bus
        self._listener = listener
        self.engine = Engine(factory.store, factory.bus, factory.clock, self._heard)
        self._build: Build | None = None
        self._order: Order | None = None  # what the worker is at
        self._work: set[Future[None]] = set()
        self._fault: BaseException | None = None  # of a worker or a look at the VM, and nothing it is meant to raise
        self._blind = ""  # why the VM could not be looked at

    def run(self, build_id: str, interruption: Interruption, patience: float = STUCK) -> Build:
        """Handle the build's messages until it is finished; give it as it ended.

        A clean-up that has not come to its end after `patience` seconds is left to a later command: the build is given
        unfinished. A worker's unforeseen exception ends the build like any failure, cleans up, and is raised then.
        NoSpace is raised at once: it cannot be said what of all this could be written down.
        """
        self._build = build = self.engine.resend(build_id)
        cancelled = False
        next_tick = 0.0
        while_cleaning = Patience(patience)
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="worker") as pool:
            while self._work or not (build.finished or while_cleaning.is_over(build)):
                if interruption.asked and not cancelled:
                    cancelled = True
                    cancel(build_id, interruption.reason, self._factory.bus, self._factory.clock)
                delivery = self._bus.receive(build_id=build_id, seconds=max(0.0, next_tick - time.monotonic()))
                if delivery is not None:
                    self._handle(delivery, pool)
                self._reap()
                if time.monotonic() >= next_tick:
                    self._tick(build_id)
                    next_tick = time.monotonic() + TICK
                build = self._build
        if build.finished:
            self._bus.forget(build_id)
        if self._fault is not None:
            raise self._fault
        return self._factory.store.load(build_id).build  # what the listener heard had its last orders in its outbox yet

    def _heard(self, build: Build, event: Event) -> None:
        self._build = build
        if self._listener is not None:
            self._listener(build, event)

    def _progress(self, what: str, done: int, total: int) -> None:
        order, build = self._order, self._build
        if order is not None and build is not None and is_stale(order, build):
            raise Abandoned(f"build {build.id} is {build.state} and does not want {order.kind} any more")
        self._say(what, done, total)

    def _tick(self, build_id: str) -> None:
        try:
            build = self._factory.store.load(build_id).build
            self._build = build  # another process may have written, for one to cancel the build
            if self._look is not None and build.outcome is None:
                self._look()
            if not build.finished:
                self.engine.tick(build_id, heard=self._watch(build))
        except Transient as error:  # such as a database that others write to for long
            LOG.info("%s; again at the next tick", error)

    def _watch(self, build: Build) -> bool:
        """Look at the VM; whatever that comes to, the deadline holds. Silence says nothing while it cannot be seen."""
        try:
            return watch(build, self._factory)
        except Transient as error:
            LOG.info("%s; again at the next tick", error)
        except GoldsmithError as error:
            if str(error) != self._blind:  # and not twice a second
                self._blind = str(error)
                LOG.warning("build %s: its VM cannot be looked at: %s", build.id, error)
        except Exception as fault:  # noqa: BLE001 - raised at the end of the build, which it ends
            if self._fault is None:
                self._end_for(fault)
        return True

    def _handle(self, delivery: Delivery, pool: ThreadPoolExecutor) -> None:
        message = delivery.message
        if message.topic == WORKER_TOPIC:
            self._work.add(pool.submit(self._carry_out, delivery))
            return
        try:
            if message.topic == REPORTS_TOPIC:
                self.engine.hear(read_report_message(message), self._factory.keys)
            elif message.topic == EVENTS_TOPIC:
                self.engine.receive(read_event_message(message))
        except PoisonMessage as error:
            LOG.warning("dropped a message of %s: %s", message.topic, error)
        except Transient as error:
            _again(delivery, error)
            return
        _acknowledge(delivery)

    def _carry_out(self, delivery: Delivery) -> None:
        """On the worker's thread."""
        order = None
        try:
            self._order = order = read_order_message(delivery.message)
            carry_out(order, self._factory)
        except PoisonMessage as error:
            LOG.warning("dropped an order: %s", error)
        except Transient as error:
            _again(delivery, error)
            return
        finally:
            self._order = None
        _acknowledge(delivery)
        if order is not None and order.kind == "create_resources":
            import_libraries()  # while the VM boots, and this thread has nothing to do for seconds

    def _reap(self) -> None:
        for future in [future for future in self._work if future.done()]:
            self._work.remove(future)
            fault = future.exception()
            if fault is None:
                continue
            if isinstance(fault, NoSpace):
                raise fault
            if self._fault is not None:  # the clean-up after the first fault has one too: leave it to the next command
                raise fault
            self._end_for(fault)

    def _end_for(self, fault: BaseException) -> None:
        """End the build for something that was not foreseen; it is raised when all is cleaned up."""
        self._fault = fault
        assert self._build is not None, "nothing is done before the build was loaded"
        reason = f"internal fault: {type(fault).__name__}: {fault}"
        cancel(self._build.id, reason, self._factory.bus, self._factory.clock)


def _again(delivery: Delivery, error: Transient) -> None:
    seconds = RETRY[min(delivery.attempt, len(RETRY)) - 1]
    LOG.info("%s; again in %.1f s", error, seconds)
    try:
        delivery.retry(seconds)
    except Transient as fault:  # it stays ours until the bus is closed; a tick past wake_at gives the order again
        LOG.warning("a message of %s cannot be given back: %s", delivery.message.topic, fault)


def _acknowledge(delivery: Delivery) -> None:
    try:
        delivery.acknowledge()
    except Transient as fault:  # it comes again with the next process, and changes nothing then
        LOG.warning("a message of %s cannot be acknowledged: %s", delivery.message.topic, fault)
