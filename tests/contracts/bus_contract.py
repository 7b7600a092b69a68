"""What every Bus must do: a queue in SQLite on this machine, Pub/Sub in the cloud.

A subclass, its name beginning with Test, brings the fixtures `bus` and `pull`: pull(key, count) waits for `count`
messages of that ordering key, acknowledges them and gives them as they came.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from shared.ports import Bus, Message
from tests.world.values import BUILD_ID

Pull = Callable[[str, int], list[Message]]


def numbered(number: int, *, topic: str = "build-events", key: str = BUILD_ID) -> Message:
    return Message(topic, str(number).encode(), {"build_id": key, "kind": "Ticked"}, key)


class BusContract:
    def test_what_is_published_arrives(self, bus: Bus, pull: Pull) -> None:
        message = Message("build-orders", b'{"number": 1}', {"order": "clean_up", "build_id": BUILD_ID}, BUILD_ID)
        bus.publish(message)
        assert pull(BUILD_ID, 1) == [message]

    @pytest.mark.parametrize(
        "message",
        [
            Message("build-events", bytes(range(256)), {"signature": "00ff"}, BUILD_ID),
            Message("build-events", "ünïcödé 🙂".encode(), {"kind": "ünïcödé 🙂"}, BUILD_ID),
            Message("build-events", b"", {"kind": "empty"}, BUILD_ID),
            Message("build-events", b"x" * 1_000_000, {}, BUILD_ID),
        ],
        ids=["every byte", "beyond ASCII", "no data", "a megabyte"],
    )
    def test_bytes_and_attributes_are_carried_as_they_are(self, bus: Bus, pull: Pull, message: Message) -> None:
        bus.publish(message)
        assert pull(BUILD_ID, 1) == [message]

    def test_messages_of_one_key_keep_their_order(self, bus: Bus, pull: Pull) -> None:
        for number in range(20):
            bus.publish(numbered(number))
        assert pull(BUILD_ID, 20) == [numbered(number) for number in range(20)]

    def test_messages_of_other_keys_are_apart(self, bus: Bus, pull: Pull) -> None:
        for number in range(6):
            bus.publish(numbered(number, key=f"build-{number % 2}"))
        assert [message.data for message in pull("build-1", 3)] == [b"1", b"3", b"5"]
        assert [message.data for message in pull("build-0", 3)] == [b"0", b"2", b"4"]

    def test_the_same_message_may_be_published_twice(self, bus: Bus, pull: Pull) -> None:
        bus.publish(numbered(1))
        bus.publish(numbered(1))
        assert pull(BUILD_ID, 2) == [numbered(1)] * 2

    def test_several_threads_may_publish(self, bus: Bus, pull: Pull) -> None:
        def publish(thread: int) -> None:
            for number in range(25):
                bus.publish(numbered(thread * 100 + number))

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(publish, range(4)))
        arrived = [int(message.data) for message in pull(BUILD_ID, 100)]
        assert sorted(arrived) == sorted(thread * 100 + number for thread in range(4) for number in range(25))
        for thread in range(4):
            mine = [number for number in arrived if number // 100 == thread]
            assert mine == sorted(mine)
