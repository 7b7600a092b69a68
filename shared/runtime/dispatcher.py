"""Carries each message to what handles it, until the build is finished; in the cloud, subscriptions do this.

Reports and events go to the engine on this thread, orders to their workers on one other, one at a time: while an export
runs, the deadline, a cancellation and the VM's death are still noticed. A worker whose result is not wanted any more is
stopped at its next word of progress.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

from ..backend import Backend
from ..build.build import Build, State
from ..build.events import Event
from ..build.orders import Order
from ..engine.engine import Engine, Listener
from ..engine.messages import read_message
from ..engine.verifiers import note_signs
from ..errors import GoldsmithError, NoSpace, PoisonMessage, Transient
from ..interruption import Interruption
from ..local.bus import LeasedMessage, LocalBus
from ..planning.requests import ask_to_cancel, given_up
from ..planning.turns import take_turn
from ..upkeep.watch import watch
from ..workers.carry_out import carry_out
from ..workers.undo import is_stale

LOG = logging.getLogger(__name__)

STUCK = 30.0  # seconds of clean-up
TICK = 0.5  # seconds between looks at the VM and the deadline
AWAKE = 30.0  # seconds between two looks, at most, while this machine and this process are awake
RETRY = (0.2, 0.5, 1.0, 2.0, 5.0)  # seconds before an order is delivered again; the last for all that follow


class Abandoned(Transient):
    """The worker's result is not wanted any more: the build has moved on, or is left to a later command."""


class Patience:
    """The time that a clean-up may take before it is left to a later command."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._since: float | None = None

    def is_over(self, build: Build) -> bool:
        """Return whether the build has been in `cleaning` for too long."""
        if build.state is not State.CLEANING:
            return False
        self._since = self._since or time.monotonic()
        return time.monotonic() - self._since > self._seconds


class Dispatcher:
    """Runs builds of this machine to their end, one at a time."""

    def __init__(
        self, backend: Backend, bus: LocalBus, listener: Listener | None = None, look: Callable[[], None] | None = None
    ) -> None:
        """`look` is called at every tick until the build has an outcome; NoSpace, which it may raise, ends run()."""
        self._look = look
        self._backend = replace(backend, progress=self._progress)
        self._say = backend.progress
        self._bus = bus
        self._listener = listener
        self.engine = Engine(backend.store, backend.bus, backend.clock, self._heard)
        self._build: Build | None = None
        self._order: Order | None = None  # what the worker is at
        self._work: set[Future[None]] = set()
        self._fault: BaseException | None = None  # of a worker or a look at the VM, and nothing it is meant to raise
        self._interruption = Interruption()
        self._leaving = False  # the build is left as it is
        self._blind = ""  # why the VM could not be looked at
        self._looked = 0.0  # when the last tick began

    def run(self, build_id: str, interruption: Interruption, patience: float = STUCK, *, leave: bool = False) -> Build:
        """Handle the build's messages until it is finished; give it as it ended.

        An interruption cancels the build; with `leave`, it is given as it is then, for a later command to go on with.
        A clean-up that has not come to its end after `patience` seconds is left to a later command: the build is given
        unfinished. A worker's unforeseen exception ends the build like any failure, cleans up, and is raised then.
        NoSpace is raised at once: it cannot be said what of all this could be written down.
        """
        self._build = build = self.engine.resend(build_id)
        self._interruption = interruption
        cancelled = False
        next_tick = 0.0
        while_cleaning = Patience(patience)
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="worker") as pool:
            while self._work or not (build.finished or while_cleaning.is_over(build)):
                if interruption.asked and leave:
                    self._leaving = True  # which the worker sees at its next word, and the pool waits for
                    break
                if interruption.asked and not cancelled:
                    cancelled = True
                    ask_to_cancel(build_id, interruption.reason, self._backend.bus, self._backend.clock)
                delivery = self._bus.receive(build_id=build_id, seconds=max(0.0, next_tick - time.monotonic()))
                if delivery is not None:
                    self._handle(delivery, pool)
                if self._reap() or time.monotonic() >= next_tick:
                    self._tick(build_id)
                    next_tick = time.monotonic() + TICK
                build = self._build
        self._reap()  # what the worker was at when the build was left
        if build.finished:
            self._bus.forget(build_id)
        if self._fault is not None:
            raise self._fault
        return self._backend.store.load(build_id).build  # what the listener heard had its last orders in its outbox yet

    def _heard(self, build: Build, event: Event) -> None:
        self._build = build
        if self._listener is not None:
            self._listener(build, event)

    def _progress(self, what: str, done: int, total: int) -> None:
        order, build = self._order, self._build
        self._refuse_leaving()
        if order is not None and build is not None and is_stale(order, build):
            raise Abandoned(f"build {build.id} is {build.state} and does not want {order.kind} any more")
        self._say(what, done, total)

    def _refuse_leaving(self) -> None:
        if self._leaving:
            raise Abandoned("the build is left to a later command, and so is its order")

    def _tick(self, build_id: str) -> None:
        try:
            looked = self._note_sleep(build_id)
            build = self._backend.store.load(build_id).build
            self._build = build  # another process may have written, for one to cancel the build
            if self._look is not None and build.outcome is None:
                self._look()
            if build.state is State.QUEUED and self._fault is None and not self._interruption.asked:
                self._queue(build)
            if self._fault is not None and build.outcome is None:
                fault = f"internal fault: {type(self._fault).__name__}: {self._fault}"
                self.engine.receive(given_up(build, fault, self._backend.clock.now()))
            elif not build.finished:
                self.engine.tick(build_id, heard=self._watch(build), looked=looked)
        except Transient as error:  # such as a database that others write to for long
            LOG.info("%s; again at the next tick", error)

    def _note_sleep(self, build_id: str) -> float:
        """Return the time; that for which this machine slept, or this process stood still, is no silence of the VM.

        The VM slept as well, or could not be heard. It gets a whole silence from now on to speak.
        """
        now = self._backend.clock.now()
        if self._looked and now - self._looked > AWAKE:
            note_signs(self._backend.store, self._backend.store.load(build_id).build, now)
        self._looked = now
        return now

    def _queue(self, build: Build) -> None:
        """Begin the build when its turn has come; say what it waits for otherwise."""
        wait = take_turn(build, self._backend, self.engine)
        if wait is not None:
            self._say(f"queued: {wait}", 0, 0)

    def _watch(self, build: Build) -> bool:
        """Look at the VM; whatever that comes to, the deadline holds. Silence says nothing while it cannot be seen."""
        try:
            return watch(build, self._backend)
        except Transient as error:
            LOG.info("%s; again at the next tick", error)
        except GoldsmithError as error:
            if str(error) != self._blind:  # and not twice a second
                self._blind = str(error)
                LOG.warning("build %s: its VM cannot be looked at: %s", build.id, error)
        except Exception as fault:  # noqa: BLE001 - raised at the end of the build, which it ends at the next tick
            self._fault = self._fault or fault
        return True

    def _handle(self, delivery: LeasedMessage, pool: ThreadPoolExecutor) -> None:
        try:
            read = read_message(delivery.message)
            if isinstance(read, Order):
                self._work.add(pool.submit(self._carry_out, read, delivery))
                return
            self.engine.take(read, self._backend.keys)
        except PoisonMessage as error:
            LOG.warning("dropped a message of %s: %s", delivery.message.topic, error)
        except Transient as error:
            _again(delivery, error)
            return
        _acknowledge(delivery)

    def _carry_out(self, order: Order, delivery: LeasedMessage) -> None:
        """On the worker's thread."""
        self._order = order
        try:
            self._refuse_leaving()
            carry_out(order, self._backend)
        except PoisonMessage as error:
            LOG.warning("dropped an order: %s", error)
        except Transient as error:
            _again(delivery, error)
            return
        finally:
            self._order = None
        _acknowledge(delivery)

    def _reap(self) -> bool:
        """Forget the work that is done; return whether it has met with something that was not foreseen."""
        for future in [future for future in self._work if future.done()]:
            self._work.remove(future)
            fault = future.exception()
            if fault is None:
                continue
            if isinstance(fault, NoSpace):
                raise fault
            if self._fault is not None:  # the clean-up after the first fault has one too: leave it to the next command
                raise fault
            self._fault = fault  # which ends the build at the next tick, and is raised when all is cleaned up
            return True
        return False


def _again(delivery: LeasedMessage, error: Transient) -> None:
    seconds = RETRY[min(delivery.attempt, len(RETRY)) - 1]
    LOG.info("%s; again in %.1f s", error, seconds)
    try:
        delivery.retry(seconds)
    except Transient as fault:  # it stays ours until the bus is closed; a tick past wake_at gives the order again
        LOG.warning("a message of %s cannot be given back: %s", delivery.message.topic, fault)


def _acknowledge(delivery: LeasedMessage) -> None:
    try:
        delivery.acknowledge()
    except Transient as fault:  # it comes again with the next process, and changes nothing then
        LOG.warning("a message of %s cannot be acknowledged: %s", delivery.message.topic, fault)
