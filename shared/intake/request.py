"""Requests for builds: an upload, a message of build-requests, or a workflow one of whose builds has finished.

Each becomes a Request. Its text has not been checked yet; that of an inline spec has been parsed, for its name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any

from ..build.build import WorkflowPart
from ..build.identity import known_traceparent, request_digest
from ..errors import InputError, PoisonMessage
from ..names import SPEC_NAME_LENGTH, quoted
from ..ports import StoredObject
from ..spec.parameters import substitute
from ..spec.read import ParsedSpec, parse
from ..submission import (
    CONTEXT_METADATA,
    KEEP_METADATA,
    PARAMETERS_METADATA,
    TRACEPARENT_METADATA,
    keep_seconds,
    object_request,
    result_uri,
    split_uri,
)
from ..topology import SPECS

PUBLISHED = ".request.json"  # ends the results of published requests; those of uploads end with a generation
SUFFIX_DIGITS = 12  # in a result's name, for keys that cannot stand there
PARAMETERS_LIMIT = 64 << 10  # characters of all names and values: each build of a workflow keeps them
INLINE = "spec"  # the file name of an inline spec: its problems begin with it
KEEP = "keep_on_failure"
REQUEST_KEYS = ("spec", "parameters", "idempotency_key", KEEP)  # of a published request

_SPEC_KEYS = ("steps", "source")  # every spec has both, and a workflow has the first
REQUEST_LIMIT = 4 << 20  # of a request; its spec has 1 MiB at most, and JSON may write a letter in six bytes
_NAME = re.compile(rf"[a-z]([-a-z0-9]{{0,{SPEC_NAME_LENGTH - 2}}}[a-z0-9])?")
_PLAIN = re.compile(r"[A-Za-z0-9][-A-Za-z0-9_.]{0,62}")


@dataclass(frozen=True)
class Request:
    """A request for builds. Its spec is the object at `uri`, or else `inline`."""

    asked: str  # its digest is in the build id
    stem: str  # where a spec has no name that can be read, its build's
    result: str  # URI of the object that says how it ended
    uri: str = ""  # of the object that is the spec; "" for a spec that lies nowhere
    generation: str = ""  # of that object; "" for the live one
    found: StoredObject | None = None  # that object, if it was looked up already
    inline: ParsedSpec | None = None
    unknown: str = ""  # a key that a published request cannot have
    parameters: Any = field(default_factory=dict)  # should be texts by name
    packed: str | None = None  # URI of the context that the uploader has packed
    keep: Any = None  # should be a duration: for how long the disk of a step that fails is wanted; None: not at all
    key: str = ""  # the publisher's name for the request; the same key again is the same build
    anew: bool = False  # it is built even if nothing has changed, without results of earlier builds
    formerly: str = ""  # what asked for the builds of the same request in the release before
    traceparent: str = ""  # as of Build
    author: str | None = None  # the mail address of the person who has written all of it; "": not known; None: not yet

    @property
    def content(self) -> str:
        """Return what a key stands for beside the spec's text: where that is, and what else the request has."""
        kept = [] if self.keep is None else [self.keep]
        return json.dumps([self.key, self.uri, self.parameters, *kept], sort_keys=True)

    def with_text(self, text: str) -> Request:
        """Return the request once its spec's text is known; that of a key is another one for each text."""
        if not self.key:
            return self
        digest = request_digest(f"{self.content}\n{text}")
        result = f"{self.result.removesuffix(PUBLISHED)[:-SUFFIX_DIGITS]}{digest[:SUFFIX_DIGITS]}{PUBLISHED}"
        return replace(self, asked=f"key {digest}", result=result, formerly=f"key {self.key}")

    def checked_keep(self) -> float:
        """Return for how many seconds the disk of a step that fails is wanted; 0: not at all. InputError."""
        return 0.0 if self.keep is None else keep_seconds(KEEP, self.keep)

    def checked_parameters(self) -> Mapping[str, str]:
        """Return the parameters. InputError if they are invalid, or the request has an unknown key."""
        if self.unknown:
            raise InputError(f"{quoted(self.unknown)} is no key of a request; write {', '.join(REQUEST_KEYS)}")
        given = self.parameters
        if not isinstance(given, dict) or not all(isinstance(value, str) for value in given.values()):
            raise InputError('parameters are not texts by name; write them as {"release": "2"}')
        if sum(len(name) + len(value) for name, value in given.items()) > PARAMETERS_LIMIT:
            raise InputError(f"parameters hold more than {PARAMETERS_LIMIT >> 10} KiB; put large data into the context")
        return given


def of_upload(found: StoredObject, bucket: str) -> Request:
    """Take an object of the deployment's bucket for a request."""
    name = split_uri(found.uri)[1]
    return Request(
        asked=object_request(bucket, name, found.generation),
        stem=stem(name),
        result=result_uri(bucket, name, found.generation),
        uri=found.uri,
        generation=found.generation,
        found=found,
        parameters=_metadata_parameters(found.metadata.get(PARAMETERS_METADATA)),
        packed=found.metadata.get(CONTEXT_METADATA),
        keep=found.metadata.get(KEEP_METADATA),
        traceparent=known_traceparent(found.metadata.get(TRACEPARENT_METADATA, "")),
    )


def of_message(data: bytes, message_id: str, bucket: str, traceparent: str = "") -> Request:
    """Take a message of build-requests for a request. PoisonMessage when it does not even name a spec."""
    if len(data) > REQUEST_LIMIT:
        raise PoisonMessage(
            f"a request of {len(data)} bytes; {REQUEST_LIMIT} is the most: upload the spec, and name it here"
        )
    try:
        document = json.loads(data)
        spec = document.get("spec") if isinstance(document, dict) else None
        text = spec if isinstance(spec, str) else json.dumps(spec, indent=2)
    except (ValueError, RecursionError) as error:
        raise PoisonMessage(f"a request that is not JSON: {error}") from error
    if not isinstance(spec, str | dict) or not spec:
        raise PoisonMessage('a request without a spec; write {"spec": "gs://bucket/object"} or the spec itself')
    key = document.get("idempotency_key") or None
    suffix = str(message_id if key is None else key)
    if not _PLAIN.fullmatch(suffix):
        suffix = request_digest(suffix)[:SUFFIX_DIGITS]
    uri = text if text.startswith("gs:") else ""
    inline = None if uri else parse(text, INLINE)
    name = _below_specs(uri, bucket) if inline is None else stem(name_in(inline.document.data, {}) or "spec")
    made = Request(
        asked=f"message {message_id}",
        stem=stem(name),
        result="",
        uri=uri,
        inline=inline,
        unknown=next(iter(sorted(set(document) - set(REQUEST_KEYS))), ""),
        parameters=document.get("parameters", {}),
        keep=document.get(KEEP),
        key="" if key is None else str(key),
        traceparent=known_traceparent(traceparent),
    )
    digest = request_digest(f"{made.content}\n{message_id if key is None else ''}")
    result = result_uri(bucket, name, f"{suffix}-{digest[:SUFFIX_DIGITS]}{PUBLISHED.removesuffix('.json')}")
    return replace(made, result=result, asked=made.asked if key is None else f"key {digest}")


def of_part(part: WorkflowPart) -> Request:
    """Take the workflow of a build for the request that it was."""
    return Request(
        asked=part.asked,
        stem=stem(part.uri),
        result=part.result,
        uri=part.uri,
        generation=part.generation,
        parameters=part.parameters,
        packed=part.packed,
        keep=part.keep,
        author=part.author,
        traceparent=part.traceparent,
    )


def may_be_spec(data: Any) -> bool:
    """Return whether an object's values may be a spec's: other files of a context may end in .yaml and .json as well.

    A file that cannot be parsed may have been meant as a spec, so that its author has to be told what is wrong.
    """
    return not isinstance(data, dict) or any(key in data for key in _SPEC_KEYS)


def stem(name: str) -> str:
    """Make a build's name of an object's: `hello` of `specs/team/Hello.yaml`."""
    words = re.sub(r"[^a-z0-9]+", "-", PurePosixPath(name).stem.lower())
    return re.sub(r"^[^a-z]+", "", words)[:SPEC_NAME_LENGTH].rstrip("-") or "spec"


def name_in(data: Any, parameters: Mapping[str, str]) -> str | None:
    """Find a spec's name in its values, whatever else is wrong with them: all deliveries must come to one build id."""
    if not isinstance(data, dict):
        return None
    name = substitute(data, parameters)[0].get("name")
    return name if isinstance(name, str) and _NAME.fullmatch(name) else None


def _below_specs(uri: str, bucket: str) -> str:
    try:
        found, name = split_uri(uri)
    except InputError:
        return "spec"
    return name if found == bucket and name.startswith(SPECS) else PurePosixPath(name).name


def _metadata_parameters(text: str | None) -> Any:
    try:
        return {} if text is None else json.loads(text)
    except (ValueError, RecursionError):
        return text  # no parameters: told with the spec's other faults
