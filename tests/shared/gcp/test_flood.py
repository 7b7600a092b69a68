"""A VM that has had a flood of events recorded, in Firestore."""

from __future__ import annotations

import uuid
from collections.abc import Mapping

import pytest

from shared.gcp.documents import event_fields
from shared.gcp.firestore import GoogleStore
from tests.contracts.flood_contract import FloodContract, flood
from tests.world import values

COUNT = 2_000  # of 32 KiB each: what 100,000 small ones take, without the emulator's minutes for writing them


@pytest.fixture(scope="module")
def flooded(google: Mapping[str, str]) -> GoogleStore:
    store = GoogleStore(f"test-{uuid.uuid4().hex[:20]}", google["FIRESTORE_EMULATOR_HOST"])
    store.create(values.build(), values.requested())
    batch = store._client.batch()
    for event in flood(COUNT, 32 << 10):
        batch.create(store._event(values.BUILD_ID, event.event_id), event_fields(event))
        if len(batch) == 100:
            batch.commit()
            batch = store._client.batch()
    batch.commit()
    return store


class TestFloodInFirestore(FloodContract):
    COUNT = FOLLOWED = COUNT

    @pytest.fixture
    def followed(self, flooded: GoogleStore) -> GoogleStore:
        return flooded
