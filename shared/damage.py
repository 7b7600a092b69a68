"""Documents that cannot be read: not JSON, of another shape, under another's key, or written by a newer release.

A list names them among all others, in their place, as values of `Damaged`: a reader has to say what becomes of them,
and none of them keeps the others from being read.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from .build import Build
from .events import Event

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Damaged:
    """One document that cannot be read."""

    id: str  # its key: the id of a build or of an event
    why: str  # for people, with the remedy


def damaged_json(damaged: Damaged) -> dict[str, Any]:
    """Return what stands for a build that cannot be read in a list of builds as JSON."""
    return {"id": damaged.id, "state": "damaged", "reason": damaged.why}


def readable_builds(found: Iterable[Build | Damaged]) -> list[Build]:
    """Return the builds that can be read, in their order; each of the others is logged, and counted."""
    found = list(found)
    _tell(found)
    return [each for each in found if not isinstance(each, Damaged)]


def readable_events(found: Iterable[Event | Damaged]) -> list[Event]:
    """Return the events that can be read, in their order; each of the others is logged, and counted."""
    found = list(found)
    _tell(found)
    return [each for each in found if not isinstance(each, Damaged)]


def _tell(found: Sequence[Build | Event | Damaged]) -> None:
    for each in found:
        if isinstance(each, Damaged):
            LOG.warning("%s", each.why, extra={"metric": "damaged_document"})
