"""The services that every part of the endpoint uses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flask import request

from ..web.identity import Identity
from .kept.preconditions import Preconditions
from .kept.staged_data import StagedData, Sums
from .kept.store import Store
from .kept.stored_object import StoredObject
from .rest.faults import Faults


@dataclass(frozen=True)
class Service:
    """One emulator's Cloud Storage. `announce` takes every finalized object, without making the caller wait."""

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
    """Return an object's resource with links to the address that this request was sent to."""
    return one.resource(request.host_url.rstrip("/"))
