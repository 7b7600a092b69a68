"""What a caller demands of the object that is there now: ifGenerationMatch and its three siblings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..rest.failures import ApiError, invalid, precondition_failed
from .stored_object import StoredObject

_LARGEST = 2**63 - 1  # int64, as all of the API's numbers


@dataclass(frozen=True)
class Preconditions:
    """Numbers to compare with; None demands nothing. A generation of 0 means: there is no object."""

    generation_match: int | None = None
    generation_not_match: int | None = None
    metageneration_match: int | None = None
    metageneration_not_match: int | None = None

    def check(self, found: StoredObject | None, *, reading: bool = False) -> None:
        """Raise ApiError 412 if a demand does not hold; when reading, 304 if the object is the one the caller has."""
        generation = found.generation if found else 0
        metageneration = found.metageneration if found else 0
        if self.generation_match not in (None, generation) or self.metageneration_match not in (None, metageneration):
            raise precondition_failed()
        if self.generation_not_match == generation or self.metageneration_not_match == metageneration:
            raise ApiError(304, "notModified", "Not Modified") if reading else precondition_failed()


def preconditions(query: Mapping[str, str], prefix: str = "if") -> Preconditions:
    """Read them from a query: `ifGenerationMatch` and so on, or with the prefix `ifSource` for a copy's source."""
    return Preconditions(
        number(query, f"{prefix}GenerationMatch"),
        number(query, f"{prefix}GenerationNotMatch"),
        number(query, f"{prefix}MetagenerationMatch"),
        number(query, f"{prefix}MetagenerationNotMatch"),
    )


def number(query: Mapping[str, str], key: str) -> int | None:
    """Read a number of a query. ApiError 400 if it is none."""
    text = query.get(key)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= _LARGEST):
        raise invalid(f"Invalid value for {key}: {text!r} is no number from 0 to {_LARGEST}")
    return int(text)
