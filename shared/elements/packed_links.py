"""The folders of elements in a packed context, unpacked so that nothing outside of it is read.

The person who uploads an archive chooses where its links lead. The reader must not follow one to a file of the machine
that it runs on: names and documents of elements come back in messages and in the plan.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from glob import escape
from pathlib import Path
from typing import Protocol

from provisioner.system.context import unpack_context

from ..errors import InputError
from ..names import quoted

ROUNDS = 4  # links that lead to folders with such links
PROBLEM_LIMIT = 20
PLACES_LIMIT = 200  # that elements may be spread over
_NAMES = (errno.EEXIST, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTDIR)  # what wrong names come to


class PackedContext(Protocol):
    """A packed context, which can be read more than once."""

    def unpack(self, folder: Path, only: Sequence[str] | None) -> None:
        """Unpack what patterns select, or all for None, into a folder. ContextError, InputError, OSError."""


class PackedFile:
    """A packed context in a file."""

    def __init__(self, archive: Path) -> None:
        self._archive = archive

    def unpack(self, folder: Path, only: Sequence[str] | None) -> None:
        """Unpack what patterns select."""
        unpack_context(str(self._archive), str(folder), only=only)


def unpack_places(archive: PackedContext, folder: Path, places: Sequence[str]) -> None:
    """Unpack folders that hold elements, and what their links lead to, into a folder whose path has no link.

    ContextError; InputError for links that lead out. Checked is what is read of elements: folders of the path, elements
    and what is in these. Links further down stay. InputError, too, for names that no folder can hold together.
    """
    try:
        _unpack(archive, folder, places)
    except OSError as error:
        if error.errno not in _NAMES:
            raise
        name = str(error.filename2 or error.filename or "").removeprefix(f"{folder}/")
        why = (error.strerror or "").lower()
        raise InputError(
            f"the context has {quoted(name)}, which cannot be unpacked: {why}; name it otherwise"
        ) from error


def _unpack(archive: PackedContext, folder: Path, places: Sequence[str]) -> None:
    wanted = [] if "." in places else list(places)
    for _ in range(ROUNDS):
        if len(wanted) > PLACES_LIMIT:  # each is compared with each name of the archive
            raise InputError(
                f"elements are read from more than {PLACES_LIMIT} folders and places that links lead to; put them into "
                "fewer, or write . for the whole context"
            )
        archive.unpack(folder, wanted or None)
        links = {path: _target(path) for path in (*(folder / place for place in places), *_links(folder, places))}
        out = [path for path, target in links.items() if not target.is_relative_to(folder)]
        if out:
            why = "is a link that leads out of the context; put what it leads to in its place"
            raise InputError("\n".join(f"{path}: {why}" for path in out[:PROBLEM_LIMIT]))
        missing = [target.relative_to(folder) for target in links.values() if not target.exists()]
        more = sorted({escape(str(name)) for name in missing}.difference(wanted))
        if not wanted or not more:
            return
        wanted += more


def _links(folder: Path, places: Sequence[str]) -> Iterator[Path]:
    """Yield the links among what is read of elements. A folder is entered once it is known to lie inside."""
    waiting = [(folder / place, 2) for place in places]
    for path, levels in waiting:  # which grows
        if path.is_symlink():
            yield path
        if levels and path.is_dir() and _target(path).is_relative_to(folder):
            waiting += [(inner, levels - 1) for inner in sorted(path.iterdir())]


def _target(path: Path) -> Path:
    return Path(os.path.realpath(path))
