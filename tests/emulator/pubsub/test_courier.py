"""Deliveries: until acknowledged, in the order of their keys, and with faults on purpose."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from emulator.pubsub.courier import NO_ANSWER, THREADS, Courier, Delivery, Faults, Policy
from emulator.web.processes import free_port
from tests.emulator.listener import SECONDS, Heard, Listener

QUICK = Policy(timeout=5.0, min_backoff=0.05, max_backoff=0.2, max_attempts=5)


@pytest.fixture
def listener() -> Iterator[Listener]:
    made = Listener()
    with made.serving():
        yield made


@pytest.fixture
def courier() -> Iterator[Courier]:
    made = Courier()
    yield made
    made.close()


class End:
    """Waits for the end of deliveries."""

    def __init__(self) -> None:
        self.done: list[int] = []
        self.dead: list[int] = []
        self._news = threading.Condition()

    def wait(self, count: int = 1) -> None:
        with self._news:
            assert self._news.wait_for(lambda: len(self.done) + len(self.dead) >= count, SECONDS)

    def on_done(self, attempts: int) -> None:
        with self._news:
            self.done.append(attempts)
            self._news.notify_all()

    def on_dead(self, attempts: int) -> None:
        with self._news:
            self.dead.append(attempts)
            self._news.notify_all()


def delivery(listener: Listener, end: End, text: str = "hello", **more: Any) -> Delivery:
    fields = {"policy": QUICK, "url": listener.url + "/x", "on_done": end.on_done, "on_dead": end.on_dead, **more}
    return Delivery(
        name="events",
        id=text,
        function="advance_build",
        request=lambda attempt: ({"X-Attempt": str(attempt)}, text.encode()),
        **fields,
    )


def bodies(listener: Listener) -> list[str]:
    return [heard.body.decode() for heard in listener.heard]


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_acknowledged_once(listener: Listener, courier: Courier, status: int) -> None:
    end = End()
    listener.answer = lambda _heard: status
    courier.send(delivery(listener, end))
    end.wait()
    assert (end.done, bodies(listener), courier.pending) == ([1], ["hello"], 0)


@pytest.mark.parametrize("status", [203, 301, 400, 404, 429, 500, 503])
def test_anything_else_is_tried_again_later_and_later(listener: Listener, courier: Courier, status: int) -> None:
    end = End()
    listener.answer = lambda heard: 200 if heard.headers["X-Attempt"] == "4" else status
    courier.send(delivery(listener, end))
    end.wait()
    assert (end.done, end.dead) == ([4], [])
    times = [attempt.began for attempt in courier.history]
    waits = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert [attempt.status for attempt in courier.history] == [status, status, status, 200]
    assert [wait >= least for wait, least in zip(waits, (0.05, 0.1, 0.2), strict=True)] == [True] * 3


def test_the_last_attempt_ends_in_death(listener: Listener, courier: Courier) -> None:
    end = End()
    listener.answer = lambda _heard: 500
    courier.send(delivery(listener, end))
    end.wait()
    assert (end.done, end.dead, len(listener.heard), courier.pending) == ([], [5], 5, 0)


def test_function_that_is_not_there_or_too_slow(listener: Listener, courier: Courier) -> None:
    end, never = End(), threading.Event()
    listener.answer = lambda _heard: 200 + never.wait(SECONDS)
    slow = Policy(timeout=0.1, min_backoff=0.05, max_attempts=2)
    courier.send(delivery(listener, end, policy=slow))
    courier.send(delivery(listener, end, policy=slow, url=f"http://127.0.0.1:{free_port()}/"))
    end.wait(2)
    never.set()
    assert end.dead == [2, 2]
    assert {attempt.status for attempt in courier.history} == {NO_ANSWER}


def test_one_key_is_delivered_in_order_also_over_failures(listener: Listener, courier: Courier) -> None:
    end = End()
    listener.answer = lambda heard: 500 if heard.headers["X-Attempt"] == "1" and heard.body != b"4" else 200
    for number in range(6):
        courier.send(delivery(listener, end, str(number), key="b"))
    end.wait(6)
    assert bodies(listener) == ["0", "0", "1", "1", "2", "2", "3", "3", "4", "5", "5"]


def test_keys_do_not_wait_for_each_other_and_no_key_waits_for_nothing(listener: Listener, courier: Courier) -> None:
    end, all_there = End(), threading.Barrier(THREADS)

    def together(_heard: Heard) -> int:
        all_there.wait(SECONDS)
        return 200

    listener.answer = together
    for number in range(THREADS // 2):
        courier.send(delivery(listener, end, key=str(number)))
        courier.send(delivery(listener, end))
    end.wait(THREADS)
    assert end.done == [1] * THREADS


def test_no_more_than_a_functions_threads_at_once(listener: Listener, courier: Courier) -> None:
    end, lock, gate = End(), threading.Lock(), threading.Event()
    busy, most = 0, 0

    def count(_heard: Heard) -> int:
        nonlocal busy, most
        with lock:
            busy += 1
            most = max(most, busy)
        gate.wait(SECONDS)
        with lock:
            busy -= 1
        return 200

    listener.answer = count
    for _ in range(THREADS + 5):
        courier.send(delivery(listener, end))
    listener.wait_for(THREADS)
    gate.set()
    end.wait(THREADS + 5)
    assert most == THREADS


class TestFaults:
    def test_copies(self, listener: Listener, courier: Courier) -> None:
        end = End()
        courier.break_things(Faults(copies=3))
        for number in range(4):
            courier.send(delivery(listener, end, str(number), key="b"))
        listener.wait_for(12)
        end.wait(4)
        assert sorted(bodies(listener)) == sorted("0123" * 3)
        assert end.done == [1] * 4

    def test_first_one_lost(self, listener: Listener, courier: Courier) -> None:
        end = End()
        courier.break_things(Faults(is_lost=True))
        courier.send(delivery(listener, end))
        end.wait()
        assert (end.done, len(listener.heard), listener.heard[0].headers["X-Attempt"]) == ([2], 1, "2")

    def test_first_answer_lost(self, listener: Listener, courier: Courier) -> None:
        end = End()
        courier.break_things(Faults(is_answer_lost=True))
        courier.send(delivery(listener, end))
        end.wait()
        assert (end.done, len(listener.heard)) == ([2], 2)

    def test_disorder_is_the_same_for_the_same_seed(self, listener: Listener, courier: Courier) -> None:
        orders = []
        for _ in range(2):
            listener.heard.clear()
            end = End()
            courier.break_things(Faults(delay=2.0, is_disordered=True, seed=32))
            for number in range(5):
                courier.send(delivery(listener, end, str(number), key="b"))
            end.wait(5)
            orders.append(bodies(listener))
        assert orders[0] == orders[1] != ["0", "1", "2", "3", "4"]

    def test_end(self, listener: Listener, courier: Courier) -> None:
        end = End()
        courier.break_things(Faults(copies=2, is_lost=True))
        courier.break_things(Faults())
        courier.send(delivery(listener, end))
        end.wait()
        assert (end.done, len(listener.heard)) == ([1], 1)


def test_close_begins_nothing_more(listener: Listener) -> None:
    courier, end = Courier(), End()
    listener.answer = lambda _heard: 500
    courier.send(delivery(listener, end, policy=Policy(timeout=5.0, min_backoff=0.3)))
    listener.wait_for(1)
    courier.close()
    begun = len(listener.heard)
    courier.send(delivery(listener, end))
    time.sleep(0.5)  # as long as the second attempt, which must not come, would have taken to begin
    assert (len(listener.heard), end.done, end.dead) == (begun, [], [])
