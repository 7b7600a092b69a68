"""What every Store must do with promotions to channels with approvers; store_contract.py has the fixtures."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from shared.build.image.approval import Approval, AskedPromotion
from shared.errors import DamagedDocument
from shared.ports import Store
from tests.world import values

Damage = Callable[..., None]
ASKED = AskedPromotion(
    "example.com:my-project", "hello-1", "4711", "prod", 1, values.NOON, values.NOON + 60.0, at_least=3
)
OTHER = replace(ASKED, image="hello-2", image_id="4712")
YES = Approval("ann@example.com", values.NOON, "it ran in staging for a week", "ab" * 32)


class PromotionContract:
    """A part of StoreContract."""

    def test_a_promotion_is_written_only_as_it_is_known(self, store: Store) -> None:
        assert (store.promotion(ASKED.id), list(store.promotions())) == (None, [])
        assert not store.save_promotion(ASKED, replace(ASKED, number=2)), "there is none yet"
        assert [store.save_promotion(ASKED, None) for _ in range(2)] == [True, False]
        assert (store.promotion(ASKED.id), list(store.promotions())) == (ASKED, [ASKED])
        approved = replace(ASKED, approvals=(YES,), state="approved")
        assert [store.save_promotion(approved, ASKED) for _ in range(2)] == [True, False]
        assert list(store.promotions()) == [approved]
        ended = replace(approved, state="promoted", ended=values.NOON + 1)
        assert store.save_promotion(ended, approved)
        assert (store.promotion(ASKED.id), list(store.promotions())) == (ended, [])

    def test_of_many_that_write_a_promotion_at_once_one_does(self, store: Store) -> None:
        store.save_promotion(ASKED, None)
        offered = [replace(ASKED, approvals=(replace(YES, by=f"{number}@example.com"),)) for number in range(8)]
        with ThreadPoolExecutor(8) as pool:
            written = list(pool.map(lambda each: store.save_promotion(each, ASKED), offered))
        assert (written.count(True), store.promotion(ASKED.id)) == (1, offered[written.index(True)])

    @pytest.mark.parametrize("text", ["{", "{}", "[" * 100_000, json.dumps({"project": "other"})])
    def test_what_is_damaged_of_a_promotion_is_said_and_never_written_over(
        self, store: Store, damage: Damage, text: str
    ) -> None:
        store.save_promotion(ASKED, None)
        store.save_promotion(OTHER, None)
        damage("", text, promotion=ASKED.id)
        with pytest.raises(DamagedDocument, match=f"promotion {ASKED.id}"):
            store.promotion(ASKED.id)
        with pytest.raises(DamagedDocument, match=f"promotion {ASKED.id}"):
            store.save_promotion(ASKED, None)
        assert [getattr(each, "image", "damaged") for each in store.promotions()] == ["damaged", OTHER.image]
