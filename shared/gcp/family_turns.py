"""publishers/{project}~{family}: whose turn it is to publish in a family. See shared/engine/family_turn.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from google.api_core import exceptions as api

from .documents import PUBLISHERS
from .errors import mapped

_REFUSALS = (api.AlreadyExists, api.FailedPrecondition, api.Aborted, api.NotFound)


class _Documents(Protocol):
    _patience: Mapping[str, Any]

    @property
    def _client(self) -> Any: ...


class FamilyTurns:
    """The part of the store that passes turns on."""

    def publisher(self: _Documents, project: str, family: str) -> str:
        """Return the build whose turn it is, or was last, to publish in a family; "" where there is none."""
        with mapped(f"family {family}"):
            found = self._client.collection(PUBLISHERS).document(f"{project}~{family}").get(**self._patience)
        return _build_of(found)

    def pass_turn(self: _Documents, project: str, family: str, build_id: str, expected: str) -> bool:
        """Pass that turn on if it is still that of the build `expected`; return whether it was."""
        batch = self._client.batch()
        with mapped(f"family {family}"):
            found = self._client.collection(PUBLISHERS).document(f"{project}~{family}").get(**self._patience)
            if _build_of(found) != expected:
                return False
            if found.exists:
                option = self._client.write_option(last_update_time=found.update_time)
                batch.update(found.reference, {"build": build_id}, option)
            else:
                batch.create(found.reference, {"build": build_id})
            try:
                batch.commit(**self._patience)
            except _REFUSALS:
                return False
        return True


def _build_of(found: Any) -> str:
    fields = found.to_dict() if found.exists else None
    return str((fields or {}).get("build", ""))
