"""Documents that cannot be read: not JSON, of another shape, under another's key, or written by a newer release.

A list names them among all others, in their place, as values of `Damaged`: a reader has to say what becomes of them,
and none of them keeps the others from being read.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from .build import Build
from .errors import InputError
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


def refuse_unfinished(found: Build | Damaged) -> None:
    """Raise InputError for a build that cannot be set aside: it can be read, and something is left to do."""
    if isinstance(found, Build) and not found.finished:
        raise InputError(f"build {found.id} can be read and is {found.state}; end it with: goldsmith builds cancel")


def left_in(document: Any) -> list[str] | None:
    """Return what the ledger in a build's document names, as far as that can be read; None where it has no ledger."""
    try:
        ledger = json.loads(document)["ledger"]
        return [f"{entry['kind']} {entry['name']}" for entry in ledger if not entry.get("keep")]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


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
