"""image.json: one image's record as strict JSON. A record that is not exactly as written here is damaged."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from ..errors import StoreError
from ..names import LOCAL
from ..ports import Image

_VERSION = 1
_TEXT = frozenset(["project", "name", "id", "description", "architecture"])
_OPTIONAL_TEXT = frozenset(["family", "source_disk", "deprecated", "replacement", "source_image"])
_WHOLE = frozenset(["disk_size_gb", "archive_bytes"])


def encode_record(image: Image) -> bytes:
    """Return the JSON of an image: sorted keys, indented, for people to read."""
    document = {"version": _VERSION, **asdict(image)}
    if image.source_image is None:  # the release before knows no such key, and takes none that it does not know
        del document["source_image"]
    return json.dumps(document, indent=2, sort_keys=True).encode() + b"\n"


def decode_record(data: bytes, path: Path) -> Image:
    """Read an image's record. `path` is for the message of the StoreError that a damaged one raises."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"not JSON: {error}") from error
    if not isinstance(document, dict):
        raise _damaged(path, "not a JSON object")
    known = {entry.name for entry in fields(Image)} | {"version"}
    document.setdefault("source_image", None)
    if set(document) != known:
        raise _damaged(path, f"keys missing or unknown: {', '.join(sorted(set(document) ^ known))}")
    if document.pop("version") != _VERSION:
        raise _damaged(path, f"not of version {_VERSION}")
    for key, value in document.items():
        if not _is_right(key, value):
            raise _damaged(path, f"{key} is {value!r:.60}")
    if document["project"] != LOCAL:
        raise _damaged(path, f"of project {document['project']}, not {LOCAL}")
    document["licenses"] = tuple(document["licenses"])
    return Image(**document)


def _is_right(key: str, value: Any) -> bool:
    if key in _TEXT:
        return isinstance(value, str)
    if key in _OPTIONAL_TEXT:
        return value is None or isinstance(value, str)
    if key in _WHOLE:
        return isinstance(value, int) and not isinstance(value, bool)
    if key == "labels":
        return isinstance(value, Mapping) and all(isinstance(text, str) for text in value.values())
    if key == "licenses":
        return isinstance(value, list) and all(isinstance(text, str) for text in value)
    return (key == "deletes_at" and value is None) or (isinstance(value, int | float) and not isinstance(value, bool))


def _damaged(path: Path, what: str) -> StoreError:
    return StoreError(f"{path}: is damaged ({what}); restore it, or delete the image's folder")
