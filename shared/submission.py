"""How a spec in the bucket becomes a request: what an upload is called, and what may stand beside it.

A spec that is finalized below specs/ is a build of its own: bucket, object and generation name it, so that writing it
again is another build and a second notification of the same upload is not. `goldsmith submit` knows as well which
build it has asked for, since both sides compute the same id from the same upload.

An upload may carry custom metadata: where the packed context lies, and values for the spec's parameters.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import PurePosixPath

from .errors import InputError
from .topology import CONTEXTS, RESULTS, SPECS, UPLOADS

CONTEXT_METADATA = "goldsmith-context"  # gs:// URI of the packed context, or a JSON object of several
LIST = "list:"  # begins the name in that object of what is a list of packages, and no context
PARAMETERS_METADATA = "goldsmith-parameters"  # a JSON object of strings
SPEC_SUFFIXES = (".yaml", ".yml", ".json")

_BY_DIGEST = re.compile(rf"(?:{UPLOADS}([0-9a-f]{{64}})(?:-[0-9a-f]{{16}})?|{CONTEXTS}([0-9a-f]{{64}}))(\.[a-z]+)")
_UNSAFE = re.compile(r"^\.\.?$|[\x00-\x1f\x7f]")  # what leads programs that copy results elsewhere, or into a terminal
_RESULT = re.compile(r"(-[0-9]+|\.request)(~[0-9]+)?(\.spdx|\.cdx)?\.json$")
_OBJECT = re.compile(r"gs://([a-z0-9][-a-z0-9_.]+)/(.+)", re.DOTALL)


def split_uri(uri: str) -> tuple[str, str]:
    """Give bucket and object. InputError."""
    match = _OBJECT.fullmatch(uri)
    if match is None:
        raise InputError(f"{uri} names no object; write gs://bucket/object")
    return match[1], match[2]


def is_spec(name: str) -> bool:
    """Whether an object is a spec: below specs/, and of the right kind. Others there are files that specs name."""
    return name.startswith(SPECS) and name.lower().endswith(SPEC_SUFFIXES)


def object_request(bucket: str, name: str, generation: str) -> str:
    """What asks for a build when a spec was uploaded; its digest is in the build id."""
    return f"gs://{bucket}/{name}#{generation}"


def context_metadata(packed: Mapping[str, str]) -> str:
    """Write down where files lie, by what the specs call them: of one context its URI, else a JSON object."""
    [*others, last] = packed
    return json.dumps(packed) if others or last.startswith(LIST) else packed[last]


def names_contexts(metadata: str) -> bool:
    """Whether it names several contexts, and is not the URI of the only one."""
    return metadata.startswith("{")


def packed_context(metadata: str, context: str) -> str:
    """Give the URI of a packed context. InputError where the upload has none of that name."""
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
    """Give the URI of a list of packages that came with the upload, by what the spec calls it; None where none did."""
    if metadata is None or not names_contexts(metadata):
        return None
    try:
        uri = json.loads(metadata).get(LIST + place)
    except (ValueError, RecursionError):
        return None  # told where its contexts are looked for
    return uri if isinstance(uri, str) else None


def spec_object(name: str) -> str:
    """Where `goldsmith submit` puts the spec of a build."""
    return f"{SPECS}{name}.yaml"


def upload_uri(bucket: str, digest: str, suffix: str, mark: str = "") -> str:
    """Where `goldsmith submit` puts a packed context (.tar) or a list of packages (.json).

    `mark`, 16 hexadecimal digits, tells it from an object of that name that holds something else.
    """
    return f"gs://{bucket}/{UPLOADS}{digest}{mark and '-'}{mark}{suffix}"


def named_digest(name: str, suffix: str) -> str:
    """Return the digest that the name of a packed context or a list says it has; "" where it says none.

    Those below contexts/ are of start_build, or were uploaded by the release before.
    """
    match = re.fullmatch(
        rf"(?:{UPLOADS}([0-9a-f]{{64}})(?:-[0-9a-f]{{16}})?|{CONTEXTS}([0-9a-f]{{64}}))\{suffix}", name
    )
    return (match[1] or match[2]) if match else ""


def context_uri(bucket: str, digest: str) -> str:
    """Where a packed context lies: equal contexts are one object."""
    return f"gs://{bucket}/{CONTEXTS}{digest}.tar"


def list_uri(bucket: str, digest: str) -> str:
    """Where a list of packages lies that goes with a spec."""
    return f"gs://{bucket}/{CONTEXTS}{digest}.json"


def result_uri(bucket: str, name: str, generation: str) -> str:
    """The result of a spec: results/team/hello-1795176000.json for generation 1795176000 of specs/team/hello.yaml."""
    path = PurePosixPath(name.removeprefix(SPECS))
    safe = "/".join(_UNSAFE.sub("_", part) for part in path.with_suffix("").parts if part != "/")
    return f"gs://{bucket}/{RESULTS}{safe}-{generation}.json"


def key_uri(bucket: str, key: str) -> str:
    """Where it is written down what an idempotency key was first used for; start_build alone writes there."""
    return f"gs://{bucket}/{CONTEXTS}keys/{hashlib.sha256(key.encode(errors='surrogatepass')).hexdigest()}"


def is_result(name: str) -> bool:
    """Whether an object below results/ has the name of a build's result, or of what lies beside one."""
    return _RESULT.search(name) is not None
