"""One request as the collections get it, after the router has read and checked it."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from shared.names import LABEL_COUNT, label_key, label_value

from .links import Links
from .refusals import Document, Refusal, invalid


@dataclass(frozen=True)
class Call:
    """A method on a collection, or on one resource of it.

    The scope is global, zones/ZONE or regions/REGION; empty for the project's own collections, such as its zones.
    """

    project: str
    scope: str
    collection: str
    name: str = ""  # empty for the collection itself
    body: Document = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    request: str = ""  # what makes a repeated request the same one; empty when the caller named none

    @property
    def parent(self) -> str:
        """The path of the scope."""
        return "/".join(filter(None, ("projects", self.project, self.scope)))

    @property
    def path(self) -> str:
        """The path of the collection or resource."""
        return "/".join(filter(None, (self.parent, self.collection, self.name)))

    @property
    def zone(self) -> str:
        """The name of the zone; empty when the scope is none."""
        return self.scope.partition("/")[2]


def timestamp(seconds: float | None = None) -> str:
    """Write a time (Unix seconds, now unless given) as the API does."""
    when = datetime.now(UTC) if seconds is None else datetime.fromtimestamp(seconds, UTC)
    return when.isoformat(timespec="milliseconds")


def new_id() -> str:
    """Return a resource's number."""
    return str(10**18 + secrets.randbelow(8 * 10**18))


def new_document(kind: str, path: str, links: Links) -> Document:
    """Begin the document of a resource that is being made."""
    return {
        "kind": f"compute#{kind}",
        "id": new_id(),
        "name": path.rsplit("/", 1)[-1],
        "creationTimestamp": timestamp(),
        "selfLink": links.url(path),
    }


def fingerprint(value: object) -> str:
    """Return a short text that differs for different values."""
    return base64.urlsafe_b64encode(hashlib.sha256(json.dumps(value, sort_keys=True).encode()).digest()[:8]).decode()


def labelled(labels: Mapping[str, str]) -> Document:
    """Return the fields of a resource's labels. Raises Refusal for labels that break the rules."""
    if len(labels) > LABEL_COUNT:
        raise invalid("resource.labels", "", f"The number of labels must not be larger than {LABEL_COUNT}.")
    for key, value in labels.items():
        try:
            label_key(key)
            label_value(value)
        except ValueError as error:
            raise invalid("resource.labels", f"{key}={value}", str(error)) from error
    found: Document = {"labelFingerprint": fingerprint(dict(labels))}
    return found | ({"labels": dict(labels)} if labels else {})


def relabelled(document: Document, body: Document) -> Document:
    """Return a document with the labels of a setLabels request. Raises Refusal for an outdated fingerprint."""
    if body.get("labelFingerprint") != document["labelFingerprint"]:
        raise Refusal(412, "conditionNotMet", "Labels fingerprint either invalid or resource labels have changed")
    kept = {key: value for key, value in document.items() if key != "labels"}
    return kept | labelled(body.get("labels", {}))
