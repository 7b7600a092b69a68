"""A spec that is built again by itself, and what it has been built for: one document of the store for each.

The document is written before the build is asked for, on condition that it is as it was read. So of two processes that
see the same cause one asks, and what a process that died has written down is asked for again under the same build id.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ..named_documents import read_kept_document, write_kept_document
from .identity import build_id

CauseKind = Literal["source", "every", "spec", "revoked"]
"""Why it is built: another source image, a period that is over, a changed spec, or a revoked image in its lineage."""

TRIGGER_TEXT_LIMIT = 64 << 10  # characters of a spec with triggers, whose text is read each minute
MOST_TRIGGERS = 500  # of a deployment


@dataclass(frozen=True)
class TriggeredBuild:
    """A build that a trigger asks for, until its end has been counted."""

    id: str
    number: int  # of all that this trigger has asked for
    kind: CauseKind
    cause: str  # the source image's id, the period, or the digest of the spec
    time: float  # Unix seconds, when it was first asked for


@dataclass(frozen=True)
class Cascade:
    """That a spec is built once more, since it has made an image from one that was revoked."""

    image: str  # PROJECT/NAME of the revoked one
    bad: tuple[str, ...]  # the ids of the images that it may not be built from: that one, and what was made from it
    until: float  # Unix seconds; where its source leads to no other image by then, it is not built


@dataclass(frozen=True)
class Trigger:
    """A spec with `triggers`, as it was accepted last; or one that is built once, with a `cascade`."""

    id: str  # trigger_id() of `spec`
    spec: str  # URI of the object, or path on this machine
    name: str  # the spec's
    text: str  # "" on one machine, where the file itself is read
    digest: str  # spec_digest() of what was accepted
    accepted: float  # Unix seconds
    generation: str = ""  # of the object that was accepted
    parameters: dict[str, str] = field(default_factory=dict)
    packed: str | None = None  # the contexts that the uploader has packed, as the request has them
    keep: str | None = None  # for how long the disk of a step that fails is wanted, as written
    author: str = ""  # the mail address of the person who has written all that was accepted; "": not known
    source: dict[str, Any] = field(default_factory=dict)  # the keys of `source` that say which image it is
    source_changed: bool = False
    every: float = 0.0  # seconds; 0: never
    since: float = 0.0  # Unix seconds from which periods are counted
    seen_source: str = ""  # id of the source image that the spec was built from last, or was accepted with
    period: int = 0  # for which it was built last
    number: int = 0  # of the last build that was asked for
    asked: tuple[TriggeredBuild, ...] = ()
    spec_changed: bool = False  # whether an upload of what was accepted before is not built again
    seen_digest: str = ""  # for which it was built last; on one machine the file may have another one by now
    built: str = ""  # id of the build of the upload of this digest
    failures: int = 0  # builds that have failed since one did not
    paused: float = 0.0  # Unix seconds; 0: it is not. It asks for nothing until it is resumed or the spec is changed
    pauses: int = 0  # how often it was paused; 0 as well for a pause by the release before
    cascade: Cascade | None = None  # the spec is read where it lies, as it is then, and `text` is ""
    removed: float = 0.0  # Unix seconds; 0: it is not. Its numbers go on if the spec gets triggers again

    @property
    def is_active(self) -> bool:
        """Return whether it asks for builds."""
        return not self.removed


def trigger_id(spec: str) -> str:
    """Return the id of the document for a spec's URI or path."""
    return hashlib.sha256(spec.encode(errors="surrogatepass")).hexdigest()[:32]


def spec_digest(text: str, parameters: Mapping[str, str], packed: str | None) -> str:
    """Return the digest of all that an upload brings."""
    content = json.dumps([text, dict(parameters), packed], sort_keys=True)
    return hashlib.sha256(content.encode(errors="surrogatepass")).hexdigest()


def triggered_request(spec: str, number: int, kind: CauseKind, cause: str) -> str:
    """Return the text that asks for a build; its digest is in the build id."""
    return f"trigger {spec} {number} {kind} {cause}"


def request_of(trigger: Trigger, build: TriggeredBuild) -> str:
    """Return the text that asks for a build of a trigger."""
    return triggered_request(trigger.spec, build.number, build.kind, build.cause)


def pause_request(trigger: Trigger) -> str:
    """Return the text that asks for the failed build which says that a trigger is paused.

    Builds that were under way when it was resumed can pause it again before it has asked for another one. So pauses are
    counted; the release before has not, and has announced its own by the number of the build alone.
    """
    again = f" {trigger.pauses}" if trigger.pauses else ""
    return f"trigger {trigger.spec} paused {trigger.number}{again}"


def request_key(spec: str, parameters: Mapping[str, str]) -> str:
    """Return what tells requests of a spec with the same parameters: the later ones supersede those before."""
    return spec_digest(spec, parameters, None)[:32]


def next_build(trigger: Trigger, kind: CauseKind, cause: str, now: float) -> TriggeredBuild:
    """Return the next build that a trigger asks for."""
    number = trigger.number + 1
    request = triggered_request(trigger.spec, number, kind, cause)
    return TriggeredBuild(build_id(trigger.name, request), number, kind, cause, now)


def write_trigger(trigger: Trigger) -> str:
    """Return a trigger's JSON."""
    return write_kept_document(trigger)


def read_trigger_of(key: str, document: Any) -> Trigger:
    """Read the trigger that is kept under an id from its JSON. StoreError, also for one that is another's."""
    return read_kept_document(Trigger, "trigger", key, document)
