"""The identity of a build and of its image's contents: build id, content digest, the image's name and labels.

Everything is derived from values that are known before anything is made, so that the same request is the same build
and the same contents have the same digest, on every machine.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from provisioner.protocol import DiskLayout, Step

from ..errors import InputError
from ..names import (
    BUILD_LABEL,
    DIGEST_LABEL,
    LABEL_COUNT,
    NAME_LENGTH,
    OWN_NAMES,
    RESERVED_LABELS,
    SOURCE_LABEL,
    as_label_value,
    check_name,
)

ID_DIGITS = 12  # of the request's digest, in the build id; the plan keeps the whole of it, so a collision is seen
NAME_DIGITS = 8  # of the content digest, in an image's name
LABEL_DIGITS = 40  # of the content digest, in its label
TRACE_DIGITS, SPAN_DIGITS = 32, 16  # of ids of traces and spans, as OpenTelemetry has them
LONGEST_TRACEPARENT = 128  # characters; those of later versions of the form may be longer than today's 55

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")


def request_digest(request: bytes | str) -> str:
    """Return the SHA-256, in hex, of what asked for a build."""
    return hashlib.sha256(request.encode(errors="surrogatepass") if isinstance(request, str) else request).hexdigest()


def build_id(name: str, request: bytes | str) -> str:
    """Return `NAME-12HEX`, 45 characters at most: the same request is the same build."""
    return f"{name}-{request_digest(request)[:ID_DIGITS]}"


def retry_request(build: str, request: str) -> str:
    """Return the text that asks for the retry of a build, by its id and what asked for it; a build has one retry."""
    return f"retry of {build}, which {request} asked for"


def trace_id(build: str) -> str:
    """Return the trace id of a build, in hex: the same in every process."""
    return hashlib.sha256(f"goldsmith trace of {build}".encode()).hexdigest()[:TRACE_DIGITS]


def span_id(build: str, what: str) -> str:
    """Return the id of a span in the trace of a build, in hex: the same in every process."""
    return hashlib.sha256(f"goldsmith span {what} of {build}".encode()).hexdigest()[:SPAN_DIGITS]


def known_traceparent(text: str) -> str:
    """Return a requester's place in a trace, in W3C's form; "" for a text that is none, or names no sampled span."""
    match = _TRACEPARENT.fullmatch(text.strip()) if len(text) <= LONGEST_TRACEPARENT else None
    sampled = match is not None and int(match[3], 16) & 1
    return match[0] if match is not None and sampled and int(match[1], 16) and int(match[2], 16) else ""


def trace_place(build: str, traceparent: str) -> tuple[str, str]:
    """Return the ids of a build's trace and of the span above its own: the requester's, or "" in a trace of its own."""
    match = _TRACEPARENT.fullmatch(known_traceparent(traceparent))
    return (match[1], match[2]) if match is not None else (trace_id(build), "")


def is_build_id(text: str) -> bool:
    """Return whether a text looks like a whole build id, not only the beginning of one."""
    return re.fullmatch(rf"[a-z][-a-z0-9]*-[0-9a-f]{{{ID_DIGITS}}}", text) is not None


def content_digest(
    source_id: str,
    steps: Iterable[Step],
    verify_steps: Iterable[Step] | None,
    context_digest: str | None,
    provisioner_version: str,
    *,
    layout: DiskLayout | None = None,
    sbom_input: str | None = None,
    allow_failed: Sequence[str] = (),
    verify_boot: str = "",
    verify_machines: Sequence[Mapping[str, Any]] = (),
    engine: str = "vm",
    reproducible: bool = False,
    date: int | None = None,
    image: Mapping[str, Any] | None = None,
) -> str:
    """Return the SHA-256, in hex, over all that determines an image's contents, its list of packages, and its keeping.

    Of a step it takes what is done, not its name, nor how long or how often it may be tried. `date` is a
    SOURCE_DATE_EPOCH that is not the source's own, `image` what the image has beside its disk.
    """
    document: dict[str, Any] = {
        "context": context_digest,
        "provisioner": provisioner_version,
        "source": source_id,
        "steps": [_done(step) for step in steps],
        "verify": None if verify_steps is None else [_done(step) for step in verify_steps],
    }
    if layout is not None:  # only then: images from before there were layouts keep their digests
        document["layout"] = asdict(layout)
    if engine != "vm":
        document["engine"] = engine
    if reproducible:
        document["reproducible"] = True
    if date is not None:
        document["date"] = date
    document |= image or {}
    if allow_failed:
        document["allow_failed"] = sorted(allow_failed)
    if verify_boot:
        document["verify_boot"] = verify_boot
    if verify_machines:
        document["verify_machines"] = [dict(each) for each in verify_machines]
    if sbom_input is not None:
        document["sbom_input"] = sbom_input
    return hashlib.sha256(json.dumps(document, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _done(step: Step) -> dict[str, Any]:
    """Return what a step does and sees. Images of specs without such keys keep their digests."""
    seen: dict[str, Any] = {} if step.reads is None else {"reads": sorted(step.reads)}
    if not step.network:
        seen["network"] = False
    if step.secrets:
        seen["secrets"] = dict(step.secrets)
    return {"action": step.action, "inputs": dict(step.inputs), **seen}


def image_name(name: str, requested: float, digest: str) -> str:
    """Return `NAME-UTCDATE-DIGEST8`: 50 characters at most, since a spec's name has 32 at most."""
    return f"{name}-{datetime.fromtimestamp(requested, UTC):%Y%m%d}-{digest[:NAME_DIGITS]}"


def suffixed_name(source_name: str, suffix: str) -> str:
    """Append a suffix to the source image's name. InputError when the result is no name."""
    name = source_name + suffix
    if name.startswith(OWN_NAMES):
        raise InputError(
            f"output.name_suffix: the image would be named {name}, and names that begin with {OWN_NAMES} are those of "
            "what builds make for themselves; write output.name"
        )
    try:
        return check_name(name)
    except ValueError as error:
        raise InputError(
            f"output.name_suffix: the image would be named {name}, {len(name)} characters, and Compute Engine takes at "
            f"most {NAME_LENGTH} lower-case letters, digits and dashes; shorten the suffix, or write output.name"
        ) from error


def without_own(labels: Mapping[str, str]) -> dict[str, str]:
    """Return labels without those that are Goldsmith's own."""
    return {key: value for key, value in labels.items() if not key.startswith(RESERVED_LABELS)}


def image_labels(
    inherited: Mapping[str, str], asked: Mapping[str, str], build: str, source_name: str, digest: str
) -> dict[str, str]:
    """Merge labels: the source's, over them the spec's, over them our own. InputError when there are too many.

    The source's own goldsmith labels tell of another build and are left behind.
    """
    labels = without_own(inherited) | dict(asked)
    labels |= {BUILD_LABEL: build, SOURCE_LABEL: as_label_value(source_name), DIGEST_LABEL: digest[:LABEL_DIGITS]}
    if len(labels) >= LABEL_COUNT:  # one place is left: for when an image is kept that could not be published
        raise InputError(
            f"output.inherit_labels: the image would carry {len(labels)} labels, and there is room for "
            f"{LABEL_COUNT - 1}; leave inherit_labels out, or write fewer labels"
        )
    return labels
