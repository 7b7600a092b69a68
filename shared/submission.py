"""How a spec in the bucket becomes a request: what an upload is called, and what may stand beside it.

A spec that is finalized below specs/ is a build of its own: bucket, object and generation name it, so that writing it
again is another build and a second notification of the same upload is not. `goldsmith submit` knows as well which
build it has asked for, since both sides compute the same id from the same upload.

An upload may carry custom metadata: where the packed context lies, and values for the spec's parameters.
"""

from __future__ import annotations

from pathlib import PurePosixPath

from .topology import CONTEXTS, RESULTS, SPECS

CONTEXT_METADATA = "goldsmith-context"  # gs:// URI of the packed context
PARAMETERS_METADATA = "goldsmith-parameters"  # a JSON object of strings
SPEC_SUFFIXES = (".yaml", ".yml", ".json")


def is_spec(name: str) -> bool:
    """Whether an object is a spec: below specs/, and of the right kind. Others there are files that specs name."""
    return name.startswith(SPECS) and name.lower().endswith(SPEC_SUFFIXES)


def object_request(bucket: str, name: str, generation: str) -> str:
    """What asks for a build when a spec was uploaded; its digest is in the build id."""
    return f"gs://{bucket}/{name}#{generation}"


def spec_object(name: str) -> str:
    """Where `goldsmith submit` puts the spec of a build."""
    return f"{SPECS}{name}.yaml"


def context_uri(bucket: str, digest: str) -> str:
    """Where a packed context lies: equal contexts are one object."""
    return f"gs://{bucket}/{CONTEXTS}{digest}.tar"


def result_uri(bucket: str, name: str, generation: str) -> str:
    """The result of a spec: results/team/hello-1795176000.json for generation 1795176000 of specs/team/hello.yaml."""
    path = PurePosixPath(name.removeprefix(SPECS))
    return f"gs://{bucket}/{RESULTS}{path.with_suffix('')}-{generation}.json"
