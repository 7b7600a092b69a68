"""Check an image against the statement about it. The statement may come from anywhere: nothing in it is believed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import StoreError
from .envelope import PAYLOAD_TYPE, Envelope, VerifyingKey
from .statement import DISK_DIGEST, IMAGE_URI, PREDICATE_TYPE, STATEMENT_TYPE, SourceStatement

_SHOWN = 200  # characters of a value that a message quotes
_LONGEST_KEY = 350  # characters of the name of a version of a key, whose last ones tell it from others


@dataclass(frozen=True)
class Policy:
    """What a person wants to be stated of an image; "" is not asked for."""

    builder: str = ""  # the builder's id
    source: str = ""  # the source image: PROJECT/NAME, its name or its id


@dataclass(frozen=True)
class ImageSubject:
    """What has to be stated of an image: a digest of its disk, or its id where the disk cannot be read."""

    kind: str  # DISK_DIGEST or IMAGE_ID
    digest: str


def faults_of(envelope: Envelope, keys: Sequence[VerifyingKey], image: ImageSubject, wanted: Policy) -> list[str]:
    """Return why an image is not what an envelope says, a sentence each; [] where it is."""
    if not any(key.has_signed(envelope) for key in keys):
        by = " or ".join(key.id for key in keys)
        return [f"its statement has no signature of {by}; it says that it is of {said_signers(envelope)}"]
    try:
        stated = read_statement(envelope)
    except StoreError as error:
        return [str(error)]
    found = []
    digests = [_at(subject, "digest", image.kind) for subject in _listed(stated, "subject")]
    if not image.digest or image.digest not in digests:
        what = "its disk is not the one" if image.kind == DISK_DIGEST else "it is not the image"
        found.append(f"{what} that its statement is about")
    run = _at(stated, "predicate", "runDetails")
    builder = _at(run, "builder", "id")
    if wanted.builder and builder != wanted.builder:
        found.append(f"it was made by {_quoted(builder)}, and not by {wanted.builder}")
    sources = _names_of_source(stated)
    if wanted.source and wanted.source not in sources:
        found.append(f"it was made from {_quoted(sources[0] if sources else None)}, and not from {wanted.source}")
    return found


def said_signers(envelope: Envelope) -> str:
    """Return what an envelope says of the keys that have signed it, for a message."""
    return ", ".join(repr(str(key)[:_LONGEST_KEY]) for key, _ in envelope.signatures) or "no key"


def read_statement(envelope: Envelope) -> dict[str, Any]:
    """Return the statement in an envelope. StoreError where there is none with a predicate of SLSA's."""
    try:
        document = json.loads(envelope.payload) if envelope.payload_type == PAYLOAD_TYPE else None
    except (ValueError, RecursionError):
        document = None
    kinds = (_at(document, "_type"), _at(document, "predicateType"))
    if not isinstance(document, dict) or kinds != (STATEMENT_TYPE, PREDICATE_TYPE):
        raise StoreError("what is signed is no statement of in-toto with a provenance of SLSA's version 1")
    return document


def source_statement(envelope: Envelope, sha256: str) -> SourceStatement:
    """Return what is known of a source image by the statement about it, whose file has that digest. StoreError."""
    subjects = _listed(read_statement(envelope), "subject")
    disks = [digest for subject in subjects if isinstance(digest := _at(subject, "digest", DISK_DIGEST), str)]
    return SourceStatement(sha256, disks[0] if disks else "")


def _names_of_source(stated: Any) -> list[str]:
    """Return what the source image is called: PROJECT/NAME, its name, its id."""
    for entry in _listed(_at(stated, "predicate", "buildDefinition"), "resolvedDependencies"):
        if _at(entry, "name") == "source":
            uri = _at(entry, "uri")
            whole = uri.removeprefix(IMAGE_URI) if isinstance(uri, str) else ""
            names = [whole, whole.rpartition("/")[2], _at(entry, "annotations", "id")]
            return [name for name in names if name and isinstance(name, str)]
    return []


def _listed(document: Any, key: str) -> list[Any]:
    found = _at(document, key)
    return found if isinstance(found, list) else []


def _at(document: Any, *keys: str) -> Any:
    """Return a value within objects; None where one of them is not there, or is no object."""
    for key in keys:
        if not isinstance(document, dict):
            return None
        document = document.get(key)
    return document


def _quoted(value: Any) -> str:
    return repr(value)[:_SHOWN]
