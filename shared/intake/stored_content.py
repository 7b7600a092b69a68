"""Store objects that are named by their digest. Each is compared with its digest before it is trusted.

    uploads/DIGEST.tar ── read, digest computed ──► copied, that very generation ──► contexts/MONTH/DIGEST.tar
                                                     └ is there already: read, digest computed

People write below uploads/ and never below contexts/; what is there may still be of a release when they could. Archives
are read as they come and never held, so that their size is bounded by what a context may have, not by our memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, BinaryIO, cast

from provisioner.system.context import ENTRY_BYTES, TOO_MUCH, ContextError, read_context

from ..context.members import MEMBER_LIMIT, SIZE_LIMIT
from ..errors import AlreadyExists, InputError, NotFound
from ..ports import Objects, StoredObject

if TYPE_CHECKING:
    from pathlib import Path

READ_LIMIT = 4 * SIZE_LIMIT  # bytes: a minute or two of a function's time
ARCHIVE_LIMIT = SIZE_LIMIT + MEMBER_LIMIT * 2048  # bytes: files, and of each header, name and padding


def store_file(objects: Objects, uri: str, source: Path) -> None:
    """Upload a file whose digest is in the URI, unless it is there. InputError when another content is."""
    try:
        objects.write_once(uri, source)
    except AlreadyExists as error:
        raise InputError(f"{uri} does not hold what its name says; delete it, and upload the spec again") from error


def store_archive(objects: Objects, found: StoredObject, digest: str, uri: str) -> StoredObject:
    """Return the packed context of a digest at `uri`, copied there from where it was found. InputError.

    What is there is read in any case: also of two functions at once, one may have copied something else.
    """
    stored = objects.stat(uri)
    if stored is None:
        _check(objects, found, digest)
        objects.copy_once(found, uri)
        stored = objects.stat(uri)
        if stored is None:
            raise InputError(f"{uri} was deleted while it was read; upload it again with goldsmith submit")
    _check(objects, stored, digest)
    return stored


def _check(objects: Objects, found: StoredObject, digest: str) -> None:
    """Read one generation of an archive. InputError when it is not of the digest."""
    if found.size > ARCHIVE_LIMIT:
        raise InputError(f"{found.uri} has {found.size} bytes, and a packed context {ARCHIVE_LIMIT} at most")
    try:
        came = read_context(cast("BinaryIO", _Parts(objects.parts(found))))
    except NotFound as error:
        raise InputError(f"{found.uri} was changed while it was read; upload it again with goldsmith submit") from error
    except ContextError as error:
        raise InputError(f"{found.uri}: {error}; upload it again with goldsmith submit") from error
    if came != digest:
        raise InputError(
            f"{found.uri} does not hold what its name says: its digest is {came}; "
            "delete it, and upload it again with goldsmith submit"
        )


class ReadRoom:
    """The limit of what is read of packed contexts for the steps of elements of all builds of one text."""

    def __init__(self, most: int) -> None:
        self._most = self._left = most

    def take(self, found: StoredObject) -> None:
        """Take the bytes of an archive that is about to be read. InputError."""
        self._left -= found.size
        if self._left < 0:
            raise InputError(
                f"{found.uri} has {found.size} bytes, and the builds of this text with steps of elements read more "
                f"than {self._most >> 30} GiB of their contexts together; keep large data in a bucket and fetch it in "
                "a step, or upload the builds one by one"
            )


class StreamedContext:
    """A packed context that is never held as a whole: what is unpacked of it takes at most `most` bytes."""

    def __init__(self, objects: Objects, found: StoredObject, most: int, reads: ReadRoom) -> None:
        self._objects = objects
        self._found = found
        self._most = most
        self._reads = reads

    def unpack(self, folder: Path, only: Sequence[str] | None) -> None:
        """Unpack what patterns select, while the archive passes by. ContextError; InputError where it is too much."""
        self._reads.take(self._found)
        file = cast("BinaryIO", _Parts(self._objects.parts(self._found)))
        try:
            read_context(file, str(folder), only, self._most)
        except NotFound as error:
            raise InputError(f"{self._found.uri} was changed while it was read; upload the spec again") from error
        except ContextError as error:
            if str(error) != TOO_MUCH:
                raise
            raise InputError(
                f"{self._found.uri}: its folders of elements hold more than {self._most >> 20} MiB, of which each "
                f"file and folder takes {ENTRY_BYTES >> 10} KiB at least; fetch large data in a step, or put it beside "
                "those folders"
            ) from error


class _Parts:
    """Reads parts as one file."""

    def __init__(self, parts: Iterator[bytes]) -> None:
        self._parts = parts
        self._left = b""

    def read(self, size: int) -> bytes:
        """Read that many bytes, or what there is until the end."""
        taken = [self._left[:size]]
        self._left = self._left[size:]
        missing = size - len(taken[0])
        while missing and (part := next(self._parts, b"")):
            taken.append(part[:missing])
            self._left = part[missing:]
            missing -= len(taken[-1])
        return b"".join(taken)
