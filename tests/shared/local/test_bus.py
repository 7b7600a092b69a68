"""The queue in SQLite: the contract, deliveries, waiting, other processes and their death."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from shared.errors import LineFull
from shared.local.bus import ANNOUNCEMENTS_KEPT, BYTES_WAITING, REPORTS_WAITING, LeasedMessage, LocalBus
from shared.local.database import Database
from shared.ports import Message
from shared.topology import FINISHED_TOPIC
from tests.contracts.bus_contract import BusContract, Pull, numbered
from tests.shared.host.contenders import hear, hold_a_message, other_process, publish_when_told, receive_all
from tests.world.values import BUILD_ID


@pytest.fixture
def bus(database: Database) -> LocalBus:
    return LocalBus(database)


class TestLocalBus(BusContract):
    @pytest.fixture
    def pull(self, bus: LocalBus) -> Pull:
        def pulled(key: str, count: int) -> list[Message]:
            messages = []
            for _ in range(count):
                delivery = take(bus, key=key, seconds=10)
                messages.append(delivery.message)
                delivery.acknowledge()
            return messages

        return pulled


def take(bus: LocalBus, *, key: str = BUILD_ID, seconds: float = 0) -> LeasedMessage:
    delivery = bus.receive(build_id=key, seconds=seconds)
    assert delivery is not None
    return delivery


def nothing(bus: LocalBus, *, seconds: float = 0) -> bool:
    return bus.receive(build_id=BUILD_ID, seconds=seconds) is None


def test_every_topic_of_a_build_is_one_line(bus: LocalBus) -> None:
    topics = ["build-reports", "build-orders", "build-events", "build-reports"]
    for number, topic in enumerate(topics):
        bus.publish(numbered(number, topic=topic))
    assert [take(bus).message.topic for _ in topics] == topics


def test_a_held_message_is_not_delivered_twice(bus: LocalBus) -> None:
    bus.publish(numbered(1))
    bus.publish(numbered(2))
    first = take(bus)
    assert take(bus).message == numbered(2)
    assert nothing(bus)
    assert first.attempt == 1
    assert bus.pending(BUILD_ID) == 2


class TestFlood:
    """Reports are what a VM says, which may say anything."""

    def test_so_many_reports_of_a_build_wait_and_no_more(self, bus: LocalBus) -> None:
        for number in range(REPORTS_WAITING):
            bus.publish(numbered(number, topic="build-reports"))
        with pytest.raises(LineFull, match=f"build {BUILD_ID}: {REPORTS_WAITING} reports"):
            bus.publish(numbered(1, topic="build-reports"))
        assert bus.pending(BUILD_ID) == REPORTS_WAITING
        take(bus).acknowledge()
        bus.publish(numbered(1, topic="build-reports"))

    def test_and_so_many_bytes_of_them(self, bus: LocalBus) -> None:
        large = Message("build-reports", b"x" * (1 << 20), {}, BUILD_ID)
        for _ in range(BYTES_WAITING >> 20):
            bus.publish(large)
        with pytest.raises(LineFull, match=r"reports of 4\.2 MB"):
            bus.publish(numbered(1, topic="build-reports"))
        take(bus).acknowledge()
        bus.publish(large)

    def test_neither_facts_and_orders_nor_other_builds_wait_for_it(self, bus: LocalBus) -> None:
        for number in range(REPORTS_WAITING):
            bus.publish(numbered(number, topic="build-reports"))
        bus.publish(numbered(1, topic="build-events"))
        bus.publish(numbered(1, topic="build-orders"))
        other = numbered(7, topic="build-reports", key="other-1")
        bus.publish(other)
        assert take(bus, key="other-1").message == other


def test_an_acknowledged_message_is_gone(bus: LocalBus) -> None:
    bus.publish(numbered(1))
    delivery = take(bus)
    delivery.acknowledge()
    delivery.acknowledge()
    delivery.retry(0)
    assert bus.pending(BUILD_ID) == 0
    assert nothing(bus)


def test_a_message_given_back_comes_again_in_its_old_place(bus: LocalBus) -> None:
    bus.publish(numbered(1))
    bus.publish(numbered(2))
    first = take(bus)
    first.retry(0)
    again = take(bus)
    assert (again.message, again.id, again.attempt) == (first.message, first.id, 2)


def test_a_delayed_message_lets_others_pass_and_comes_when_it_is_due(bus: LocalBus) -> None:
    bus.publish(numbered(1))
    bus.publish(numbered(2))
    began = time.monotonic()
    take(bus).retry(0.2)
    assert take(bus).message == numbered(2)
    assert nothing(bus)
    assert bus.pending(BUILD_ID) == 2
    assert take(bus, seconds=10).message == numbered(1)
    assert time.monotonic() - began >= 0.2


def test_waiting_ends_when_it_should_and_costs_next_to_nothing(bus: LocalBus) -> None:
    began, worked = time.monotonic(), time.thread_time()
    assert nothing(bus, seconds=0.4)
    assert time.monotonic() - began >= 0.4
    assert time.thread_time() - worked < 0.1


def test_a_closed_bus_gives_back_what_it_holds(database: Database) -> None:
    old, new = LocalBus(database), LocalBus(database)
    old.publish(numbered(1))
    take(old)
    assert nothing(new)
    old.close()
    assert take(new).attempt == 2


def test_who_lost_a_message_cannot_end_it(database: Database) -> None:
    old, new = LocalBus(database), LocalBus(database)
    old.publish(numbered(1))
    lost = take(old)
    old.close()
    held = take(new)
    lost.acknowledge()
    lost.retry(0)
    assert nothing(old)
    assert new.pending(BUILD_ID) == 1
    held.acknowledge()
    assert new.pending(BUILD_ID) == 0


def test_a_finished_build_is_forgotten_alone(bus: LocalBus) -> None:
    bus.publish(numbered(1))
    bus.publish(numbered(2))
    bus.publish(numbered(3, key="other"))
    bus.publish(Message(FINISHED_TOPIC, b"{}", {}, BUILD_ID))
    take(bus)
    bus.forget(BUILD_ID)
    assert bus.pending(BUILD_ID) == 0
    assert bus.pending("other") == 1
    assert len(bus.announcements()) == 1


def test_announcements_are_kept_apart_and_the_newest_for_long(bus: LocalBus, database: Database) -> None:
    announcement = Message(FINISHED_TOPIC, b'{"outcome": "succeeded"}', {"build_id": BUILD_ID}, BUILD_ID)
    bus.publish(announcement)
    assert list(bus.announcements()) == [announcement]
    assert nothing(bus)
    with database.transaction() as connection:
        rows = [(str(number),) for number in range(ANNOUNCEMENTS_KEPT)]
        connection.executemany("INSERT INTO announcements (build_id, attributes, data) VALUES (?, '{}', '')", rows)
    bus.publish(announcement)
    kept = bus.announcements()
    assert len(kept) == ANNOUNCEMENTS_KEPT
    assert kept[0].ordering_key == "1"
    assert kept[-1] == announcement


def test_messages_outlive_the_bus(path: Path) -> None:
    with Database(path) as database:
        LocalBus(database).publish(numbered(1))
    with Database(path) as database:
        assert take(LocalBus(database)).message == numbered(1)


def test_a_message_of_this_process_wakes_the_receiver_at_once(bus: LocalBus) -> None:
    """A publisher that publishes each message once the last has been taken: by polling most would wait for 0.1 s."""
    taken = threading.Semaphore(0)
    published: list[float] = []

    def publish() -> None:
        for number in range(60):
            published.append(time.monotonic())
            bus.publish(numbered(number))
            assert taken.acquire(timeout=60)

    thread = threading.Thread(target=publish)
    thread.start()
    waits = []
    for _ in range(60):
        delivery = take(bus, seconds=60)
        waits.append(time.monotonic() - published[-1])
        delivery.acknowledge()
        taken.release()
    thread.join(60)
    assert sorted(waits)[10] < 0.02  # on a busy machine a thread may wait for its turn


def test_a_message_of_another_process_is_noticed_soon(bus: LocalBus, path: Path) -> None:
    waits = []
    with other_process(publish_when_told, path) as (_, pipe):
        assert hear(pipe) == "ready"
        for number in range(5):
            pipe.send(numbered(number))
            began = time.monotonic()
            assert take(bus, seconds=60).message == numbered(number)
            waits.append(time.monotonic() - began)
            assert hear(pipe) == "published"
    assert min(waits) < 0.25  # the others may have waited for their turn on a busy machine


def test_a_killed_processs_messages_are_delivered_again_at_once(bus: LocalBus, path: Path) -> None:
    bus.publish(numbered(1))
    with other_process(hold_a_message, path) as (process, pipe):
        number = hear(pipe)
        assert nothing(bus, seconds=0.15)
        process.kill()
        process.join(60)
        delivery = take(bus)
        assert (delivery.id, delivery.attempt, delivery.message) == (number, 2, numbered(1))


def test_several_processes_share_the_work_without_doubling_it(bus: LocalBus, path: Path) -> None:
    for number in range(60):
        bus.publish(numbered(number))
    with ExitStack() as stack:
        pipes = [stack.enter_context(other_process(receive_all, path))[1] for _ in range(3)]
        shares = [hear(pipe) for pipe in pipes]
    assert sorted(int(data) for share in shares for data in share) == list(range(60))
    assert bus.pending(BUILD_ID) == 0
