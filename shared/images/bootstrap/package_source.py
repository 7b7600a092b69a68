"""The archive of Debian's packages and its present state: the signed index names each content by its hash.

apt's own downloader is used, so that a proxy, a CA or a mirror that this machine's apt knows is used here too. The
signatures are checked later by the apt that installs; here the text of the indexes is only a key.
"""

from __future__ import annotations

import email.utils
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import EnvironmentFault, InputError
from ...host.programs import ProgramFailed, run_tool

MIRROR = "http://deb.debian.org/debian"
_UNSTABLE = ("sid", "unstable", "testing")
_MIRROR = re.compile(r"(https?|file|copy)://?[^\s\[\]\"']+")
_SUITE = re.compile(r"[a-z][-a-z0-9.]*")
_DATE = re.compile(r"^Date: (.+)$", re.MULTILINE)


class Unreachable(EnvironmentFault):
    """The archive cannot be read now."""


@dataclass(frozen=True)
class PackageSource:
    """A package archive: the suite, and the lines of sources.list, the first of which names it."""

    suite: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class ArchiveState:
    """The present state of an archive: the text of its indexes, and the time of the newest (Unix seconds)."""

    source: PackageSource
    indexes: tuple[bytes, ...]
    written: int


def contents(mirror: str | None, suite: str, scratch: Path, note: Callable[[str], None]) -> ArchiveState:
    """Ask an archive what it holds. Raises Unreachable, or InputError for a mirror or suite that cannot be one.

    Security updates are taken from beside the mirror (MIRROR-security), as on deb.debian.org; a mirror that has none
    is used without them, and `note` is told.
    """
    base = (mirror or MIRROR).rstrip("/")
    if not _MIRROR.fullmatch(base):
        raise InputError(f"{mirror!r} is not a mirror; write a URL such as {MIRROR}")
    if not _SUITE.fullmatch(suite):
        raise InputError(f"{suite!r} is not a release; write a name such as bookworm")
    places = [(base, suite)]
    if suite not in _UNSTABLE:
        places += [(base, f"{suite}-updates"), (f"{base}-security", f"{suite}-security")]
    try:
        indexes = _fetch(places, scratch)
    except Unreachable:
        if mirror is None or len(places) == 1:
            raise
        indexes = _fetch(places[:1], scratch)
        places = places[:1]
        note(f"{base} has no updates or no {base}-security: the image has no security updates")
    source = PackageSource(suite, tuple(f"deb {url} {name} main" for url, name in places))
    return ArchiveState(source, tuple(indexes), max(map(_written, indexes)))


def _fetch(places: Sequence[tuple[str, str]], scratch: Path) -> list[bytes]:
    targets = [scratch / f"InRelease-{index}" for index in range(len(places))]
    requests = [
        text
        for (url, suite), target in zip(places, targets, strict=True)
        for text in (f"{url}/dists/{suite}/InRelease", str(target))
    ]
    options = ["-o", "APT::Sandbox::User=root", "-o", "Acquire::Retries=1", "-o", "Acquire::http::Timeout=10"]
    try:
        run_tool(["apt-helper", *options, "download-file", *requests])
        return [target.read_bytes() for target in targets]
    except (ProgramFailed, FileNotFoundError) as error:
        urls = ", ".join(requests[::2])
        raise Unreachable(
            f"the package archive cannot be read ({urls}); look at the mirror and the network: {error}"
        ) from error


def _written(index: bytes) -> int:
    found = _DATE.search(index.decode("utf-8", "replace"))
    if found is None:
        raise Unreachable("the package archive's index has no date: what answers is not a package archive")
    return int(email.utils.parsedate_to_datetime(found[1].strip()).timestamp())
