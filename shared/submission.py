"""The names of an upload: the spec in the bucket, and the files beside it.

A spec that is finalized below specs/ is a build of its own: bucket, object and generation name it, so that writing it
again is another build and a second notification of the same upload is not. `goldsmith submit` knows as well which
build it has asked for, since both sides compute the same id from the same upload.

An upload may carry custom metadata: where the packed context lies, values for the spec's parameters, for how long the
disk of a step that fails is wanted, and the trace that the build belongs to.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import PurePosixPath

from .errors import InputError
from .names import quoted
from .quantities import format_duration, parse_duration
from .topology import CONTEXTS, RESULTS, SPECS, UPLOADS

CONTEXT_METADATA = "goldsmith-context"  # gs:// URI of the packed context, or a JSON object of several
LIST = "list:"  # begins the name in that object of what is a list of packages, and no context
PARAMETERS_METADATA = "goldsmith-parameters"  # a JSON object of strings
KEEP_METADATA = "goldsmith-keep-on-failure"  # a duration
TRACEPARENT_METADATA = "goldsmith-traceparent"  # the requester's place in a trace, as W3C's Trace Context has it
AUTHOR_METADATA = "goldsmith-author"  # an identity token of the person who has written all of it
SPEC_SUFFIXES = (".yaml", ".yml", ".json")
LONGEST_KEEP = 7 * 86_400.0  # seconds that can be asked for

_BY_DIGEST = re.compile(
    rf"(?:{UPLOADS}([0-9a-f]{{64}})(?:-[0-9a-f]{{16}})?|{CONTEXTS}(?:[0-9]{{4}}-[0-9]{{2}}/)?([0-9a-f]{{64}}))(\.[a-z]+)"
)
_UNSAFE = re.compile(r"^\.\.?$|[\x00-\x1f\x7f]")  # what leads programs that copy results elsewhere, or into a terminal
_RESULT = re.compile(r"(-[0-9]+|\.request)(~[0-9]+)?((\.spdx|\.cdx|\.intoto)?\.json|\.intoto\.jsonl)$")
_OBJECT = re.compile(r"gs://([a-z0-9][-a-z0-9_.]+)/(.+)", re.DOTALL)


def keep_seconds(key: str, text: object) -> float:
    """Return for how many seconds the state of a failed step is wanted, by its option or key. InputError."""
    words = text if isinstance(text, str) else repr(text)
    try:
        seconds = parse_duration(words)
    except ValueError as error:
        raise InputError(f"{key}: {error}") from error
    if not 0 < seconds <= LONGEST_KEEP:
        most = format_duration(LONGEST_KEEP)
        raise InputError(f"{key} {quoted(words)}: write more than 0s and at most {most}")
    return seconds


def split_uri(uri: str) -> tuple[str, str]:
    """Return bucket and object. InputError; no object has a name that is not UTF-8."""
    match = _OBJECT.fullmatch(uri)
    if match is None or uri.encode(errors="replace").decode() != uri:
        raise InputError(f"{uri.encode(errors='replace').decode()} names no object; write gs://bucket/object")
    return match[1], match[2]


def submission_purpose(uri: str, text: str, metadata: Mapping[str, str]) -> str:
    """Return what an author's token has to be for: this text at this place, with what comes with it."""
    brought = [metadata.get(key) for key in (CONTEXT_METADATA, PARAMETERS_METADATA, KEEP_METADATA)]
    content = json.dumps([uri, text, *brought]).encode(errors="surrogatepass")
    return f"submit/{hashlib.sha256(content).hexdigest()}"


def is_spec(name: str) -> bool:
    """Return whether an object is a spec: below specs/, and of the right kind. Others there are named by specs."""
    return name.startswith(SPECS) and name.lower().endswith(SPEC_SUFFIXES)


def object_request(bucket: str, name: str, generation: str) -> str:
    """Return the text that asks for a build after an upload; its digest is in the build id."""
    return f"gs://{bucket}/{name}#{generation}"


def context_metadata(packed: Mapping[str, str]) -> str:
    """Write down where files lie, by what the specs call them: of one context its URI, else a JSON object."""
    [*others, last] = packed
    return json.dumps(packed) if others or last.startswith(LIST) else packed[last]


def names_contexts(metadata: str) -> bool:
    """Return whether it names several contexts, and is not the URI of the only one."""
    return metadata.startswith("{")


def packed_context(metadata: str, context: str) -> str:
    """Return the URI of a packed context. Raises InputError when the upload has none of that name."""
    if not names_contexts(metadata):
        return metadata
    try:
        uri = json.loads(metadata).get(context)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{CONTEXT_METADATA} of the upload is not JSON ({error}); write gs://bucket/object") from error
    if not isinstance(uri, str):
        raise InputError(f"{CONTEXT_METADATA} of the upload does not name it; upload it with goldsmith submit")
    return uri


def brought_list(metadata: str | None, place: str) -> str | None:
    """Return the URI of a list of packages that came with the upload, by its name in the spec; None where none did."""
    if metadata is None or not names_contexts(metadata):
        return None
    try:
        uri = json.loads(metadata).get(LIST + place)
    except (ValueError, RecursionError):
        return None  # told where its contexts are looked for
    return uri if isinstance(uri, str) else None


def spec_object(name: str) -> str:
    """Return the URI to which `goldsmith submit` uploads a spec."""
    return f"{SPECS}{name}.yaml"


def upload_uri(bucket: str, digest: str, suffix: str, mark: str = "") -> str:
    """Return the URI to which `goldsmith submit` uploads a packed context (.tar) or a list of packages (.json).

    `mark`, 16 hexadecimal digits, tells it from an object of that name that holds something else.
    """
    return f"gs://{bucket}/{UPLOADS}{digest}{mark and '-'}{mark}{suffix}"


def named_digest(name: str, suffix: str) -> str:
    """Return the digest that the name of a packed context or a list says it has; "" where it says none.

    Those below contexts/ are of start_build, or, without a month, of the release before.
    """
    match = _BY_DIGEST.fullmatch(name)
    return match[1] or match[2] if match and match[3] == suffix else ""


def kept_uri(bucket: str, digest: str, suffix: str, now: float) -> str:
    """Return the URI of a packed context (.tar) or a list of packages (.json) that a request names.

    Equal ones of one month are one object. The bucket deletes objects by their age, and the names of months see to it
    that a build begins with one that is 31 days old at most: nothing else could make an object younger but writing it
    anew, which takes the right to delete it.
    """
    return f"gs://{bucket}/{CONTEXTS}{datetime.fromtimestamp(now, UTC):%Y-%m}/{digest}{suffix}"


def result_uri(bucket: str, name: str, generation: str) -> str:
    """The result of a spec: results/team/hello-1795176000.json for generation 1795176000 of specs/team/hello.yaml."""
    path = PurePosixPath(name.removeprefix(SPECS))
    path = path.with_suffix("") if path.name else PurePosixPath("spec")  # a folder may be named as well
    safe = "/".join(_UNSAFE.sub("_", part) for part in path.parts if part != "/")
    return f"gs://{bucket}/{RESULTS}{safe}-{generation}.json"


def key_uri(bucket: str, key: str) -> str:
    """Return the URI of the record of an idempotency key's first use; start_build alone writes there."""
    return f"gs://{bucket}/{CONTEXTS}keys/{hashlib.sha256(key.encode(errors='surrogatepass')).hexdigest()}"


def is_result(name: str) -> bool:
    """Return whether an object below results/ has the name of a build's result, or of what lies beside one."""
    return _RESULT.search(name) is not None
