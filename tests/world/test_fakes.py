"""The fakes obey the contracts that the real adapters obey."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from shared.ports import Bucket, Bus, Message, Store
from tests.contracts.bucket_contract import BucketContract
from tests.contracts.bus_contract import BusContract
from tests.contracts.store_contract import Damage, StoreContract
from tests.world.fakes import MemoryBus
from tests.world.memory_bucket import MemoryBucket
from tests.world.memory_store import MemoryStore


class TestMemoryStore(StoreContract):
    @pytest.fixture
    def store(self) -> Store:
        return MemoryStore()

    @pytest.fixture
    def damage(self, store: MemoryStore) -> Damage:
        return store.damage


class TestMemoryBucket(BucketContract):
    @pytest.fixture
    def bucket(self) -> Bucket:
        return MemoryBucket()

    @pytest.fixture
    def uri(self) -> Callable[[str], str]:
        return lambda name: f"gs://bucket/{name}"


class TestMemoryBus(BusContract):
    @pytest.fixture
    def bus(self) -> Bus:
        return MemoryBus()

    @pytest.fixture
    def pull(self, bus: MemoryBus) -> Callable[[str, int], list[Message]]:
        def take(key: str, count: int) -> list[Message]:
            found = [message for message in bus.waiting if message.ordering_key == key][:count]
            for message in found:
                bus.waiting.remove(message)
            return found

        return take
