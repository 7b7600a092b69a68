"""Documents beside builds and images, each written only if it is still as it was read: see kept_documents.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from google.api_core import exceptions as api

from ..build.damage import Damaged
from ..build.image.approval import AskedPromotion
from ..build.trigger import Trigger
from ..person_requests import PersonRequest
from .documents import (
    PERSON_REQUESTS,
    PROMOTIONS,
    TARGET,
    TRIGGERS,
    WRITES,
    person_request_fields,
    person_request_of,
    person_request_or_damage,
    promotion_fields,
    promotion_of,
    promotion_or_damage,
    trigger_fields,
    trigger_of,
    trigger_or_damage,
)
from .errors import mapped

_Kept = TypeVar("_Kept")
_REFUSALS = (api.FailedPrecondition, api.AlreadyExists, api.Aborted, api.NotFound)  # of a conditional write


class KeptCollections:
    """The part of the store that has triggers, promotions, and what people have asked for."""

    _patience: Mapping[str, Any]
    _client: Any

    def triggers(self) -> Sequence[Trigger | Damaged]:
        """List the specs with triggers by their ids, without those that are removed."""
        return [trigger_or_damage(*each) for each in self._listed(TRIGGERS, "active")]

    def trigger(self, key: str) -> Trigger | None:
        """Read one trigger by its id. DamagedDocument."""
        return self._kept(TRIGGERS, key, trigger_of)

    def save_trigger(self, trigger: Trigger, expected: Trigger | None) -> bool:
        """Write a trigger if it is still as expected, or absent for None; return whether it was. DamagedDocument."""
        return self._save_kept(TRIGGERS, trigger.id, trigger_fields(trigger), expected, trigger_of)

    def promotions(self) -> Sequence[AskedPromotion | Damaged]:
        """List the promotions that have not ended, by their ids."""
        return [promotion_or_damage(*each) for each in self._listed(PROMOTIONS, "open")]

    def promotion(self, key: str) -> AskedPromotion | None:
        """Read one promotion by its id. DamagedDocument."""
        return self._kept(PROMOTIONS, key, promotion_of)

    def save_promotion(self, asked: AskedPromotion, expected: AskedPromotion | None) -> bool:
        """Write a promotion if it is still as expected; return whether it was. DamagedDocument."""
        return self._save_kept(PROMOTIONS, asked.id, promotion_fields(asked), expected, promotion_of)

    def person_request(self, key: str) -> PersonRequest | None:
        """Read one request by its id. DamagedDocument."""
        return self._kept(PERSON_REQUESTS, key, person_request_of)

    def person_requests(self, target: str) -> Sequence[PersonRequest | Damaged]:
        """List the requests about a target, the oldest first."""
        found = [person_request_or_damage(*each) for each in self._listed(PERSON_REQUESTS, TARGET, target)]
        return sorted(found, key=lambda each: (getattr(each, "asked", 0.0), each.id))

    def save_person_request(self, asked: PersonRequest, expected: PersonRequest | None) -> bool:
        """Write a request if it is still as expected; return whether it was. DamagedDocument."""
        return self._save_kept(PERSON_REQUESTS, asked.id, person_request_fields(asked), expected, person_request_of)

    def _listed(self, collection: str, field: str, value: bool | str = True) -> list[tuple[str, Mapping[str, Any]]]:
        """Return the documents of a collection of which a field has a value, by their ids."""
        from google.cloud.firestore import FieldFilter

        query = self._client.collection(collection).where(filter=FieldFilter(field, "==", value))
        with mapped(collection):
            found = sorted(query.stream(**self._patience), key=lambda document: str(document.id))
        return [(each.id, _fields(each)) for each in found]

    def _kept(self, collection: str, key: str, read: Callable[[str, Mapping[str, Any]], _Kept]) -> _Kept | None:
        with mapped(f"{collection.removesuffix('s')} {key}"):
            found = self._client.collection(collection).document(key).get(**self._patience)
        return read(key, _fields(found)) if found.exists else None

    def _save_kept(
        self,
        collection: str,
        key: str,
        fields: Mapping[str, Any],
        expected: _Kept | None,
        read: Callable[[str, Mapping[str, Any]], _Kept],
    ) -> bool:
        """Write a document if it is still as expected, or absent for None; return whether it was. DamagedDocument."""
        from google.cloud.firestore import Increment

        reference = self._client.collection(collection).document(key)
        batch = self._client.batch()
        with mapped(f"{collection.removesuffix('s')} {key}"):
            found = reference.get(**self._patience)
            if (read(key, _fields(found)) if found.exists else None) != expected:
                return False
            if found.exists:
                option = self._client.write_option(last_update_time=found.update_time)
                batch.update(reference, {**fields, WRITES: Increment(1)}, option)
            else:
                batch.create(reference, dict(fields))
            try:
                batch.commit(**self._patience)
            except _REFUSALS:
                return False
        return True


def _fields(snapshot: Any) -> Mapping[str, Any]:
    return snapshot.to_dict() or {}
