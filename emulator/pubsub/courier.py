"""Delivers requests to functions as Google's push does: again and again, ever more rarely, until one is acknowledged.

    send ─► line of its key ─► a thread of the function's ─► POST ─┬─ 102, 200, 201, 202, 204 ─► done
               (ordered)              ▲                            ├─ anything else ─► backoff ─┐
                                      └────────────────────────────┼────────────────────────────┘
                                                                   └─ the last attempt ─► dead

Things go wrong on purpose as `faults` says, for any deliveries from then on.
"""

from __future__ import annotations

import heapq
import http.client
import itertools
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

ACKNOWLEDGED = (102, 200, 201, 202, 204)  # https://cloud.google.com/pubsub/docs/push#receive_push
NO_ANSWER = 0  # instead of a status
THREADS = 8  # for each function: what one process of it takes at once
REMEMBERED = 20_000  # attempts


def _nothing(_attempts: int) -> None:
    """Do nothing."""


@dataclass(frozen=True)
class Policy:
    """How often, and how long, a delivery is tried."""

    timeout: float  # seconds for one answer
    min_backoff: float = 10.0  # seconds, doubled each time
    max_backoff: float = 600.0
    max_attempts: int = 100


@dataclass(frozen=True)
class Delivery:
    """One thing that a function is to be told, by POST. `request` gives headers and body of the n-th attempt."""

    name: str  # of the subscription
    id: str  # of the message
    function: str
    url: str
    request: Callable[[int], tuple[Mapping[str, str], bytes]]
    policy: Policy
    key: str = ""  # deliveries of one name and key come one after the other
    on_done: Callable[[int], None] = _nothing  # with the number of attempts
    on_dead: Callable[[int], None] = _nothing


@dataclass(frozen=True)
class Attempt:
    """What came of one POST."""

    name: str
    id: str
    function: str
    number: int
    status: int  # NO_ANSWER where there was none
    began: float  # Unix seconds
    seconds: float


@dataclass(frozen=True)
class Faults:
    """What goes wrong, for all deliveries. Pub/Sub promises none of what is broken here."""

    copies: int = 1  # of every delivery, at the same time
    delay: float = 0.0  # seconds at most before each; a part of it by chance
    is_lost: bool = False  # the first attempt never arrives
    is_answer_lost: bool = False  # the first attempt does its work, and its answer is lost
    is_disordered: bool = False  # keys count for nothing; with a delay, later ones overtake
    seed: int = 1


@dataclass(order=True)
class _Due:
    at: float  # of time.monotonic()
    number: int  # first come, first served
    run: Callable[[], None] = field(compare=False)


class Courier:
    """Delivers from its making until close(). Thread-safe."""

    def __init__(self) -> None:
        self.faults = Faults()
        self.history: deque[Attempt] = deque(maxlen=REMEMBERED)
        self.attempts = 0  # ever
        self._change = threading.Condition()
        self._lines: dict[tuple[str, str], deque[Delivery]] = {}
        self._pools: dict[str, ThreadPoolExecutor] = {}
        self._due: list[_Due] = []
        self._numbers = itertools.count()
        self._random = random.Random(self.faults.seed)  # noqa: S311 - chance that can be repeated, guards nothing
        self._is_closed = False
        self._pending = 0
        self._clock = threading.Thread(target=self._keep_time, name="courier", daemon=True)
        self._clock.start()

    @property
    def pending(self) -> int:
        """How many deliveries are neither done nor dead."""
        return self._pending

    def break_things(self, faults: Faults) -> None:
        """Let things go wrong from now on; Faults() ends it."""
        with self._change:
            self.faults = faults
            self._random.seed(faults.seed)

    def send(self, delivery: Delivery) -> None:
        """Deliver, as soon as those of the same key before it are done."""
        with self._change:
            faults = self.faults
            if faults.is_disordered:
                delivery = replace(delivery, key="")
            copy = replace(delivery, key="", on_done=_nothing, on_dead=_nothing)
            once = replace(copy, policy=replace(delivery.policy, max_attempts=1))
            self._pending += faults.copies
            for _ in range(faults.copies - 1):
                self._plan(once, 1)
            line = self._lines.setdefault((delivery.name, delivery.key), deque()) if delivery.key else None
            if line is not None:
                line.append(delivery)
            if line is None or len(line) == 1:
                self._plan(delivery, 1)

    def close(self) -> None:
        """Begin no more attempts. Those under way end with their functions."""
        with self._change:
            self._is_closed = True
            self._change.notify_all()
            pools = list(self._pools.values())
        for pool in pools:
            pool.shutdown(wait=False, cancel_futures=True)
        self._clock.join()

    def _plan(self, delivery: Delivery, number: int) -> None:
        """Have an attempt made now, or later; the lock is held."""
        waits = self._random.uniform(0, self.faults.delay) if self.faults.delay else 0.0
        if number > 1:
            policy = delivery.policy
            waits += min(policy.min_backoff * 2 ** min(number - 2, 30), policy.max_backoff)
        if waits:
            run = _Due(time.monotonic() + waits, next(self._numbers), lambda: self._submit(delivery, number))
            heapq.heappush(self._due, run)
            self._change.notify_all()
        else:
            self._submit(delivery, number)

    def _submit(self, delivery: Delivery, number: int) -> None:
        if self._is_closed:
            return
        pool = self._pools.get(delivery.function)
        if pool is None:
            pool = self._pools[delivery.function] = ThreadPoolExecutor(THREADS, delivery.function)
        pool.submit(self._try, delivery, number)

    def _keep_time(self) -> None:
        with self._change:
            while not self._is_closed:
                now = time.monotonic()
                while self._due and self._due[0].at <= now:
                    heapq.heappop(self._due).run()
                self._change.wait(self._due[0].at - now if self._due else None)

    def _try(self, delivery: Delivery, number: int) -> None:
        """Make one attempt, on a thread of the function's."""
        faults, began, start = self.faults, time.time(), time.monotonic()
        status = NO_ANSWER
        if not (faults.is_lost and number == 1):
            headers, body = delivery.request(number)
            status = post(delivery.url, headers, body, delivery.policy.timeout)
        if faults.is_answer_lost and number == 1:
            status = NO_ANSWER
        seconds = time.monotonic() - start
        with self._change:
            self.attempts += 1
        self.history.append(Attempt(delivery.name, delivery.id, delivery.function, number, status, began, seconds))
        if self._is_closed:  # the receiver of on_done and on_dead may be closed already
            return
        if status not in ACKNOWLEDGED and number < delivery.policy.max_attempts:
            with self._change:
                self._plan(delivery, number + 1)
            return
        try:
            (delivery.on_done if status in ACKNOWLEDGED else delivery.on_dead)(number)
        finally:
            self._next(delivery)

    def _next(self, delivery: Delivery) -> None:
        """Go on with the next one of the line."""
        with self._change:
            self._pending -= 1
            line = self._lines.get((delivery.name, delivery.key)) if delivery.key else None
            if line is None:
                return
            line.popleft()
            if line:
                self._plan(line[0], 1)
            else:
                del self._lines[delivery.name, delivery.key]


def post(url: str, headers: Mapping[str, str], body: bytes, timeout: float) -> int:
    """POST; return the status, or NO_ANSWER. Every time by a connection of its own, which no server can have closed."""
    parts = urlsplit(url)
    assert parts.hostname is not None, f"{url} has no host"
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout)
    try:
        connection.request("POST", parts.path or "/", body, {**headers, "Connection": "close"})
        response = connection.getresponse()
        response.read()
    except (OSError, http.client.HTTPException):
        return NO_ANSWER
    finally:
        connection.close()
    return response.status
