"""Documents that cannot be read: not JSON, of another shape, under another's key, or written by a newer release.

A list has them among all others, in their place, as values of `Damaged`: each reader decides what to do with them,
and the others can still be read.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from ..errors import DamagedDocument, InputError
from ..names import LOCAL
from .build import Build, ImageDocument, Unfinished

LOG = logging.getLogger(__name__)

_Listed = TypeVar("_Listed", Build, Unfinished)


@dataclass(frozen=True)
class Damaged:
    """One document that cannot be read."""

    id: str  # its key: the id of a build or of an event, or PROJECT/NAME of an image
    why: str  # for people, with the remedy


def damaged_json(damaged: Damaged) -> dict[str, Any]:
    """Return what stands for a build that cannot be read in a list of builds as JSON."""
    return {"id": damaged.id, "state": "damaged", "reason": damaged.why}


def refuse_unfinished(found: Build | Damaged) -> None:
    """Raise InputError for a build that cannot be set aside: it can be read, and something is left to do."""
    if isinstance(found, Build) and not found.finished:
        raise InputError(f"build {found.id} can be read and is {found.state}; end it with: goldsmith builds cancel")


def refuse_readable(found: ImageDocument | Damaged) -> None:
    """Raise InputError for an image's document that cannot be set aside: nothing is wrong with it."""
    if not isinstance(found, Damaged):
        raise InputError(f"what is known of image {found.name} of project {found.project} can be read, and stays")


def forget_image(project: str, name: str) -> str:
    """Return the remedy for an image's document that cannot be read."""
    option = "" if project == LOCAL else " --project PROJECT"
    return f"set it aside with: goldsmith images forget {project}/{name}{option}"


@contextmanager
def along_with(build: Build, replaces: str | None) -> Iterator[None]:
    """Suppress DamagedDocument: the build is written without the document of its image if that cannot be read.

    It stays as it is: no build is kept from its deadline and its clean-up by it. But for a build that takes the image's
    name with this write (`replaces` is not None): that raises DamagedDocument.
    """
    try:
        yield
    except DamagedDocument as error:
        if replaces is not None:
            raise
        LOG.warning("build %s: %s", build.id, error, extra={"metric": "damaged_document"})


def left_in(document: Any) -> list[str] | None:
    """Return what the ledger in a build's document names, as far as that can be read; None where it has no ledger."""
    try:
        ledger = json.loads(document)["ledger"]
        return [f"{entry['kind']} {entry['name']}" for entry in ledger if not entry.get("keep")]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def readable_builds(found: Iterable[_Listed | Damaged]) -> list[_Listed]:
    """Return the builds that can be read, in their order; each of the others is logged, and counted."""
    whole = []
    for each in found:
        if isinstance(each, Damaged):
            tell_damaged(each)
        else:
            whole.append(each)
    return whole


def tell_damaged(damaged: Damaged) -> None:
    """Log, and count, what cannot be read and is left out."""
    LOG.warning("%s", damaged.why, extra={"metric": "damaged_document"})
