"""What every Store must do with what people ask for in the dashboard; store_contract.py has the fixtures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from shared.errors import DamagedDocument
from shared.person_requests import PersonRequest
from shared.ports import Store
from tests.world import values

Damage = Callable[..., None]
CANCEL = PersonRequest("ab" * 16, "cancel", "hello-0123456789ab", "ann@example.com", "stuck", values.NOON)
LATER = replace(CANCEL, id="00" * 16, asked=values.NOON + 1)
OTHER = replace(CANCEL, id="cd" * 16, target="other-0123456789ab")


class PersonRequestContract:
    """A part of StoreContract."""

    def test_a_request_is_written_only_as_it_is_known(self, store: Store) -> None:
        assert (store.person_request(CANCEL.id), list(store.person_requests(CANCEL.target))) == (None, [])
        assert not store.save_person_request(CANCEL, LATER), "there is none yet"
        assert [store.save_person_request(CANCEL, None) for _ in range(2)] == [True, False]
        done = CANCEL.after("done", "it is asked to end", values.NOON + 2)
        assert [store.save_person_request(done, CANCEL) for _ in range(2)] == [True, False]
        for other in (LATER, OTHER):
            assert store.save_person_request(other, None)
        assert store.person_request(CANCEL.id) == done
        assert list(store.person_requests(CANCEL.target)) == [done, LATER]

    def test_what_is_damaged_of_a_request_is_said_and_never_written_over(self, store: Store, damage: Damage) -> None:
        for each in (CANCEL, LATER):
            store.save_person_request(each, None)
        damage("", "{", person_request=CANCEL.id)
        with pytest.raises(DamagedDocument, match=f"request {CANCEL.id}"):
            store.person_request(CANCEL.id)
        with pytest.raises(DamagedDocument, match=f"request {CANCEL.id}"):
            store.save_person_request(CANCEL, None)
        assert [getattr(each, "kind", "damaged") for each in store.person_requests(CANCEL.target)] == [
            "damaged",
            "cancel",
        ]
