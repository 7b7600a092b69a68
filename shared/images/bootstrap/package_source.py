"""An archive of Debian's or Ubuntu's packages and its present state: the signed index names each content by its hash.

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

_UNSTABLE = ("sid", "unstable", "testing", "experimental", "devel")
_MIRROR = re.compile(r"(https?|file|copy)://?[^\s\[\]\"']+")
_SUITE = re.compile(r"[a-z][-a-z0-9.]*")
_DATE = re.compile(r"^Date: (.+)$", re.MULTILINE)
_COMPONENTS = re.compile(r"^Components: (.+)$", re.MULTILINE)
_NOT_THERE = re.compile(r"\b404\b|File not found")


class Unreachable(EnvironmentFault):
    """The archive cannot be read now."""


class NoSuchRelease(Unreachable):
    """The archive can be read, and has no such release."""


@dataclass(frozen=True)
class Distribution:
    """A distribution: where its archive is, what is taken of it, and which Debian package has the keys of it."""

    name: str
    mirror: str
    components: tuple[str, ...]
    keyring: Path
    keyring_package: str
    security: str  # comes behind the mirror's address where updates of security are


DEBIAN = Distribution(
    "debian",
    "http://deb.debian.org/debian",
    ("main",),
    Path("/usr/share/keyrings/debian-archive-keyring.gpg"),
    "debian-archive-keyring",
    "-security",
)
UBUNTU = Distribution(
    "ubuntu",
    "http://archive.ubuntu.com/ubuntu",
    ("main", "universe"),
    Path("/usr/share/keyrings/ubuntu-archive-keyring.gpg"),
    "ubuntu-keyring",
    "",
)


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


def contents(
    mirror: str | None,
    suite: str,
    scratch: Path,
    note: Callable[[str], None],
    distribution: Distribution = DEBIAN,
    components: Sequence[str] = (),
) -> ArchiveState:
    """Ask an archive what it holds. Raises Unreachable, NoSuchRelease; InputError for a bad name or a component.

    Debian's security updates are taken from beside the mirror (MIRROR-security), as on deb.debian.org; a mirror that
    has none is used without them, and `note` is told.
    """
    base = (mirror or distribution.mirror).rstrip("/")
    if not _MIRROR.fullmatch(base):
        raise InputError(f"{mirror!r} is not a mirror; write a URL such as {distribution.mirror}")
    if not _SUITE.fullmatch(suite):
        raise InputError(f"{suite!r} is not a release; write a name such as bookworm")
    places = [(base, suite)]
    if suite not in _UNSTABLE:
        places += [(base, f"{suite}-updates"), (f"{base}{distribution.security}", f"{suite}-security")]
    try:
        indexes = _fetch(places, scratch)
    except Unreachable:
        if len(places) == 1:
            raise
        indexes = _fetch(places[:1], scratch)  # which tells whether there is such a release
        if mirror is None:
            raise
        places = places[:1]
        note(f"{base} has no updates or no {base}{distribution.security}: the image has no security updates")
    wanted = tuple(components) or distribution.components
    _check_components(wanted, indexes[0], base, suite)
    source = PackageSource(suite, tuple(f"deb {url} {name} {' '.join(wanted)}" for url, name in places))
    return ArchiveState(source, tuple(indexes), max(map(_written, indexes)))


def _check_components(wanted: Sequence[str], index: bytes, base: str, suite: str) -> None:
    found = _COMPONENTS.search(index.decode("utf-8", "replace"))
    there = found[1].split() if found else list(wanted)
    missing = [component for component in wanted if component not in there]
    if missing:
        raise InputError(f"{base} {suite} has no component {missing[0]}; it has {', '.join(there)}")


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
        if len(places) == 1 and _NOT_THERE.search(str(error)):
            raise NoSuchRelease(f"{places[0][0]} has no release {places[0][1]}; look for its name there") from error
        urls = ", ".join(requests[::2])
        raise Unreachable(
            f"the package archive cannot be read ({urls}); look at the mirror and the network: {error}"
        ) from error


def _written(index: bytes) -> int:
    found = _DATE.search(index.decode("utf-8", "replace"))
    if found is None:
        raise Unreachable("the package archive's index has no date: what answers is not a package archive")
    return int(email.utils.parsedate_to_datetime(found[1].strip()).timestamp())
