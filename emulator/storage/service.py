"""What every part of the endpoint works with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flask import request

from ..identity import Identity
from .faults import Faults
from .preconditions import Preconditions
from .staged_data import StagedData
from .store import Store
from .stored_object import StoredObject
from .sums import Sums


@dataclass(frozen=True)
class Service:
    """One emulator's Cloud Storage. `announce` is told of every finalized object, and does not make the caller wait."""

    store: Store
    identity: Identity
    faults: Faults
    announce: Callable[[StoredObject], None]

    def finish(
        self,
        staged: StagedData,
        bucket: str,
        name: str,
        settings: dict[str, Any],
        demands: Preconditions,
        sums: Sums,
    ) -> StoredObject:
        """Make uploaded bytes an object, and announce it. ApiError; then the staged bytes are still the caller's."""
        sums.check(staged)
        stored = self.store.commit(staged, bucket, name, settings, demands)
        self.announce(stored)
        return stored


def resource(one: StoredObject) -> dict[str, Any]:
    """Give an object's resource with links that lead where this request came in."""
    return one.resource(request.host_url.rstrip("/"))
