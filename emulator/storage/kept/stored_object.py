"""One object as the store keeps it, and as the JSON API shows it."""

from __future__ import annotations

import base64
import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from ..rest.failures import invalid

# What a client may set. Everything else in the body of a request is ignored, as Google does.
_TEXTS = (
    "contentType",
    "contentEncoding",
    "contentDisposition",
    "contentLanguage",
    "cacheControl",
    "customTime",
    "storageClass",
)
_FLAGS = ("temporaryHold", "eventBasedHold")

LONGEST_NAME = 1024  # bytes of UTF-8


@dataclass(frozen=True)
class StoredObject:
    """One generation of an object. `data` names the file that holds its bytes, which never changes."""

    bucket: str
    name: str
    generation: int  # microseconds since 1970 when it was written, and higher than every one before it
    metageneration: int
    size: int
    crc32c: str  # base64 of the big-endian sum
    md5: str  # base64; empty for a composed object, which has none
    created: str  # RFC 3339
    updated: str
    data: str
    component_count: int = 0
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def etag(self) -> str:
        """Return a text that changes with every change of the object."""
        return base64.b64encode(f"{self.generation}/{self.metageneration}".encode()).decode("ascii")

    @property
    def content_type(self) -> str:
        """Return the type that was set, or the one that Google sends for objects without a type."""
        return str(self.settings.get("contentType", "application/octet-stream"))

    def hashes(self) -> str:
        """Return the value of the header x-goog-hash."""
        return f"crc32c={self.crc32c}" + (f",md5={self.md5}" if self.md5 else "")

    def resource(self, base_url: str) -> dict[str, Any]:
        """Return the JSON API's resource; `base_url` is where its links lead, without a slash at the end."""
        place = f"storage/v1/b/{self.bucket}/o/{quote(self.name, safe='')}"
        resource: dict[str, Any] = {
            "kind": "storage#object",
            "id": f"{self.bucket}/{self.name}/{self.generation}",
            "selfLink": f"{base_url}/{place}",
            "mediaLink": f"{base_url}/download/{place}?generation={self.generation}&alt=media",
            "name": self.name,
            "bucket": self.bucket,
            "generation": str(self.generation),
            "metageneration": str(self.metageneration),
            "storageClass": "STANDARD",
            "size": str(self.size),
            "crc32c": self.crc32c,
            "etag": self.etag,
            "timeCreated": self.created,
            "updated": self.updated,
            "timeStorageClassUpdated": self.created,
            "timeFinalized": self.created,
        }
        if self.md5:
            resource["md5Hash"] = self.md5
        if self.component_count:
            resource["componentCount"] = self.component_count
        return resource | self.settings


def settings_of(document: Mapping[str, object]) -> dict[str, Any]:
    """Take what a client may set from a request's body; null is kept, since a patch deletes by it. ApiError 400."""
    settings: dict[str, Any] = {}
    for key in (*_TEXTS, *_FLAGS):
        if key in document:
            value = document[key]
            if not (value is None or isinstance(value, bool if key in _FLAGS else str)):
                raise invalid(f"Invalid value for {key}: {value!r}")
            settings[key] = value
    if "metadata" in document:
        metadata = document["metadata"]
        if metadata is not None and not _is_metadata(metadata):
            raise invalid("Invalid value for metadata: an object of strings is needed")
        settings["metadata"] = metadata
    return settings


def _is_metadata(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str | None) for text in value.values())


def without_nulls(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what is null, also within `metadata`; a new object starts with this."""
    kept = {key: value for key, value in settings.items() if value is not None}
    if "metadata" in kept:
        kept["metadata"] = {key: value for key, value in kept["metadata"].items() if value is not None}
    return kept


def patched(old: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """Change only what the patch names; null deletes, within `metadata` key by key."""
    merged = {**old, **patch}
    if isinstance(patch.get("metadata"), dict):
        merged["metadata"] = {**old.get("metadata", {}), **patch["metadata"]}
    return without_nulls(merged)


def checked_name(name: object) -> str:
    """Return a name that Cloud Storage would accept for an object. ApiError 400."""
    if not isinstance(name, str) or not name:
        raise invalid("Required parameter: name")
    try:
        length = len(name.encode())
    except UnicodeEncodeError as error:
        raise invalid("The object name is not valid UTF-8.") from error
    if length > LONGEST_NAME:
        raise invalid(
            f"The maximum object length is {LONGEST_NAME} characters, but got a name with {length} characters."
        )
    if "\r" in name or "\n" in name or "\0" in name:
        raise invalid("Disallowed unicode characters present in object name.")
    if name in (".", "..") or name.startswith(".well-known/acme-challenge/"):
        raise invalid(f"Invalid object name: {name!r}")
    return name


def rfc3339(generation: int) -> str:
    """Return a time in microseconds since 1970 as the JSON API writes it."""
    moment = datetime.datetime.fromtimestamp(generation / 1_000_000, datetime.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
