"""JSON documents that go by a name or an id: those that stores keep, and those of a deployment's settings. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Protocol, TypeVar

from .errors import InputError, StoreError
from .json_values import reader, to_document


class _Kept(Protocol):
    @property
    def id(self) -> str: ...


K = TypeVar("K", bound=_Kept)


def write_kept_document(value: _Kept) -> str:
    """Return a document as stores keep it."""
    return json.dumps(to_document(value), separators=(",", ":"), ensure_ascii=True)


def read_kept_document(shape: type[K], what: str, key: str, document: Any) -> K:
    """Read the document that is kept under an id, JSON or read already. StoreError, also for one that is another's."""
    try:
        found: K = reader(shape)(json.loads(document) if isinstance(document, bytes | str) else document)
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{what} cannot be read: {error}") from error
    if found.id != key:
        raise StoreError(f"it is that of {what} {found.id}")
    return found


def read_by_name(text: str, what: str, most: int, form: str) -> Mapping[str, Any]:
    """Read an object of at most so many members, in the order of their names; `form` is what to write. InputError."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"not JSON: {str(error) or 'nested too deeply'}; write {form}") from error
    if not isinstance(document, dict):
        raise InputError(f"not an object; write {form}")
    if len(document) > most:
        raise InputError(f"{len(document)} {what}; {most} are the most")
    return dict(sorted(document.items()))
