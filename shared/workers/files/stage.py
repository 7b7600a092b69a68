"""Stage the files of a publication: each is written once, so that what is shown is what was committed.

    delivery 1    make a ── write a ──────────────────── PublicationStaged, digest of a ──► commit
    delivery 2         make b ── a is there, of this image: it stays ── the same fact

Two deliveries of one order may make other documents of one image: what a bill of materials is made of may be replaced,
or out of reach, in between.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from ...backend import Backend
from ...build.build import Build
from ...errors import Conflict, NotFound, Permanent, Transient

TRIES = 5  # of a conditional write


def stage(uri: str, data: bytes, build: Build, backend: Backend, stays: Callable[[bytes], bool] | None = None) -> str:
    """Write a file of the build's own unless one that tells of its image is there; return its digest. Transient.

    `stays` says whether what is there stays, where the image's id is not to be read in it. Anything else there was left
    by an earlier build of this id, which was set aside, and is written over.
    """
    image = build.image.id.encode() if build.image else b""
    for _try in range(TRIES):
        found, generation = _find(uri, backend)
        if found and (image in found if stays is None else stays(found)):
            return digest(found)
        try:
            backend.bucket.write_if_generation(uri, data, generation)
        except Conflict:
            continue
        return digest(data)
    raise Transient(f"{uri} is written to by too many at once; it can be tried again")


def staged_content(uri: str, sha256: str, backend: Backend) -> bytes:
    """Read what was staged. NotFound; Permanent when it is not what was committed."""
    data = backend.bucket.read(uri)
    if digest(data) != sha256:
        raise Permanent(f"{uri} is not what was committed: another process has written over it; build again")
    return data


def is_shown(uri: str, sha256: str, backend: Backend) -> bool:
    """Return whether a file has its name already, with the content that was committed."""
    return digest(_find(uri, backend)[0]) == sha256


def digest(data: bytes) -> str:
    """Return the SHA-256 in hex."""
    return hashlib.sha256(data).hexdigest()


def _find(uri: str, backend: Backend) -> tuple[bytes, str]:
    try:
        return backend.bucket.read_with_generation(uri)
    except NotFound:
        return b"", ""
