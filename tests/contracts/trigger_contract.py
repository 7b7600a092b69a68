"""What every Store must do with specs that have triggers; store_contract.py has all else, and the fixtures."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from shared.build.trigger import TriggeredBuild
from shared.errors import DamagedDocument
from shared.ports import Store
from tests.world import values

Damage = Callable[..., None]
TRIGGER = values.trigger()
OTHER_TRIGGER = replace(TRIGGER, id="ff" * 16, spec="gs://goldsmith-test/specs/other.yaml")


class TriggerContract:
    """A part of StoreContract."""

    def test_a_trigger_is_written_only_as_it_is_known(self, store: Store) -> None:
        assert (store.trigger(TRIGGER.id), list(store.triggers())) == (None, [])
        assert not store.save_trigger(TRIGGER, replace(TRIGGER, number=1)), "there is none yet"
        assert [store.save_trigger(TRIGGER, None) for _ in range(2)] == [True, False]
        assert (store.trigger(TRIGGER.id), list(store.triggers())) == (TRIGGER, [TRIGGER])
        asked = replace(TRIGGER, number=1, asked=(TriggeredBuild("hello-1", 1, "source", "4711", values.NOON),))
        assert [store.save_trigger(asked, TRIGGER) for _ in range(2)] == [True, False]
        removed = replace(asked, removed=values.NOON + 1)
        assert store.save_trigger(removed, asked)
        assert (store.trigger(TRIGGER.id), list(store.triggers())) == (removed, [])

    def test_of_many_that_write_a_trigger_at_once_one_does(self, store: Store) -> None:
        store.save_trigger(TRIGGER, None)
        offered = [replace(TRIGGER, number=number) for number in range(1, 9)]
        with ThreadPoolExecutor(8) as pool:
            written = list(pool.map(lambda each: store.save_trigger(each, TRIGGER), offered))
        assert (written.count(True), store.trigger(TRIGGER.id)) == (1, offered[written.index(True)])

    @pytest.mark.parametrize("text", ["{", "{}", "[" * 100_000, json.dumps({"id": "other"})])
    def test_what_is_damaged_of_a_trigger_is_said_and_never_written_over(
        self, store: Store, damage: Damage, text: str
    ) -> None:
        store.save_trigger(TRIGGER, None)
        store.save_trigger(OTHER_TRIGGER, None)
        damage("", text, trigger=TRIGGER.id)
        with pytest.raises(DamagedDocument, match=f"trigger {TRIGGER.id}"):
            store.trigger(TRIGGER.id)
        with pytest.raises(DamagedDocument, match=f"trigger {TRIGGER.id}"):
            store.save_trigger(TRIGGER, None)
        assert [getattr(each, "spec", "damaged") for each in store.triggers()] == ["damaged", OTHER_TRIGGER.spec]
