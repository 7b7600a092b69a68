"""Find secrets of the build, and what belongs to the build machine alone, in a finished image.

The rules are data, and apply to any tree of files: a VM walks its own (own_files.py), the host walks the disk of a
stopped one. There are two kinds:

- what the clean-up removes (clean_machine.py) must not be there, whether the build or its source left it;
- what looks like a secret must not be *of the build*: a file that the source image did not have, outside of the folders
  for published files. Inodes decide that, and no clock: steps may set it.

A finding names the file, what it is and what to do. It never quotes the file's contents.
"""

from __future__ import annotations

import re
import stat
from abc import ABC, abstractmethod

from ..machine.swap import any_set as any_set  # the host, too, uses it on disks
from ..machine.swap import page_of
from ..system.os_release import COS
from .rules import COS_RULES, FETCH, HYGIENE_RULES, REMOVE_LINE, REUSE, HygieneRule, PathPatterns
from .rules import STATEFUL as STATEFUL  # the host, too, mounts it there

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Optional

WHOLE = 256 << 10  # bytes: files up to this size are read whole; files that hold secrets are small
HEAD = 64 << 10  # bytes that are read of larger files
BINARY = 1024  # bytes, of which none is NUL in files that hold tokens
MEMORY = "is swap that holds memory of the build machine"
PROXY = "names a proxy that only the build used"
LENT = "leave it out of the file: the steps have it in their environment"
MOST_SHOWN = 5  # findings in a message
MOST_KEPT = 1000

# Folders for published files: those of packages, and layers of container images, with the keys of their tests and
# examples. Keys and tokens in there are not secret; files of the build and of the machine are not there. Whole folders
# are skipped, which saves most of the time.
PUBLISHED = re.compile(
    r"^/(?:usr/(?!$|local/|share/(?:$|oem/))|(?:lib|lib32|lib64|libx32|bin|sbin)/)"
    r"|^/var/lib/(?:dpkg|rpm|containerd|containers/storage|docker/(?:overlay2|image)|snapd/snap)/|^/snap/"
    r"|/(?:site-packages|dist-packages|node_modules|gems|pkg/mod|registry/src|google-cloud-sdk)/"
    r"|/go[-.0-9]*/src/(?:cmd|crypto|encoding|internal|net|vendor)/"  # of Go itself: others have a host's name there
    r"|^/(?:opt|srv|usr/local)/(?:.*/)?(?:tests?|__tests__|test[-_]?data|fixtures|examples?|samples?)/",
    re.DOTALL,  # rules apply to all names, also those with newlines
)
# Debian's package ssl-cert makes the first one when it is installed, and its name warns programs not to trust it. Go's
# tests have keys of their own.
WORTHLESS = re.compile(r"^/etc/ssl/private/ssl-cert-snakeoil\.key\Z|^/(?:opt|srv|usr/local)/.*_test\.go\Z", re.DOTALL)


class File(ABC):
    """Something in a tree. `path` is absolute, `mode` as in stat(2), `size` in bytes."""

    def __init__(self, path: str, mode: int, size: int) -> None:
        self.path = path
        self.mode = mode
        self.size = size

    @abstractmethod
    def is_of_build(self) -> bool:
        """Return whether the source image did not have this file, by its inode, size and times."""

    @abstractmethod
    def is_blank(self, start: int) -> bool:
        """Return whether all blocks that the file has on the disk are zero from byte `start` on. OSError."""

    @abstractmethod
    def read(self, limit: int) -> bytes:
        """Return the first bytes. OSError."""

    def pieces(self) -> Iterator[bytes]:
        """Yield all of the contents, a zero in the place of each hole. OSError."""
        yield self.read(self.size)


class Finding:
    """Something that must not be in an image."""

    def __init__(self, path: str, what: str, remedy: str) -> None:
        self.path = path
        self.what = what
        self.remedy = remedy

    def __str__(self) -> str:
        """Return the finding for people, in one line also where the file's name has several."""
        path = self.path if self.path.isprintable() else ascii(self.path)
        return f"{path} {self.what}; {self.remedy}"


class HostTraces:
    """What files of the build must not have of the host: rules, and words with what a file is that has one."""

    def __init__(self, rules: Sequence[HygieneRule] = (), words: Sequence[tuple[bytes, str]] = ()) -> None:
        self.rules = tuple(rules)
        self.words = tuple(words)


def check(
    files: Iterable[File], system: str, places: Sequence[str] = (), traces: Optional[HostTraces] = None
) -> list[Finding]:
    """Return what must not be in an image of `system` (ID of os-release), of a build with proxies at HOST:PORT."""
    traces = traces or HostTraces()
    rules = (*HYGIENE_RULES, *traces.rules, *(COS_RULES if system == COS else ()))
    patterns = PathPatterns(rules)
    words = [(place.encode(), PROXY, LENT) for place in places]
    words += [(word, what, REMOVE_LINE) for word, what in traces.words]
    found: list[Finding] = []
    for file in files:
        if stat.S_ISREG(file.mode) and file.size and len(found) < MOST_KEPT:
            path = in_image(file.path)
            if not PUBLISHED.search(path):
                finding = _look(file, path, rules if patterns.may_hold(path) else (), words)
                if finding is not None:
                    found.append(finding)
    return sorted(found, key=lambda finding: finding.path)


def find_allowance(path: str, patterns: Sequence[str]) -> Optional[int]:
    """Return the index of the first pattern that fits a path, or None. Each part of a pattern may have one `*`."""
    parts = path.split("/")
    for index, pattern in enumerate(patterns):
        asked = pattern.split("/")
        if len(asked) == len(parts) and all(map(_fits, parts, asked)):
            return index
    return None


def _fits(name: str, pattern: str) -> bool:
    before, star, after = pattern.partition("*")
    if not star:
        return name == pattern
    return len(name) >= len(before) + len(after) and name.startswith(before) and name.endswith(after)


def describe_findings(findings: Sequence[str]) -> str:
    """Return findings in one line, for people; "" where there are none."""
    shown = list(findings[:MOST_SHOWN])
    if len(findings) > MOST_SHOWN:
        shown = [*shown, f"and {len(findings) - MOST_SHOWN} more"]
    return f"must not be in an image: {' | '.join(shown)}" if shown else ""


def is_published(path: str) -> bool:
    """Return whether nothing at a path can be a finding. A folder's path ends with a slash."""
    return PUBLISHED.search(in_image(path)) is not None


def in_image(path: str) -> str:
    """Return a path as the running system shows it; the given one may lead through the stateful partition."""
    inside = path[len(STATEFUL) :] if path.startswith(STATEFUL + "/") else ""
    return inside if inside.startswith(("/var/", "/home/")) else path


def _look(
    file: File, path: str, rules: Iterable[HygieneRule], words: Sequence[tuple[bytes, str, str]]
) -> Optional[Finding]:
    of_build = file.is_of_build()
    for rule in rules:
        asked = (of_build or not rule.of_build) and rule.fits(path)
        if asked and (rule.holds is None or rule.holds(_contents(file))):
            return Finding(path, rule.what, rule.remedy)
    if of_build and not WORTHLESS.match(path):
        from .secret_shapes import find_secret  # loads all the shapes, which are needed only for files of the build

        data = _contents(file)
        if _holds_memory(file, data):
            return Finding(path, MEMORY, REUSE)
        secret = None if b"\0" in data[:BINARY] else find_secret(data)
        if secret is not None:
            return Finding(path, f"holds {secret}", FETCH)
        for word, what, remedy in words:
            if word in data:
                return Finding(path, what, remedy)
    return None


def _holds_memory(file: File, data: bytes) -> bool:
    """Return whether a file is swap that has been used: mkswap does not empty it."""
    page = page_of(data)
    try:
        return page > 0 and not file.is_blank(page)
    except OSError:  # deleted meanwhile
        return False


def _contents(file: File) -> bytes:
    """Return the part of a file that is checked; b"" where it was deleted meanwhile."""
    try:
        return file.read(file.size if file.size <= WHOLE else HEAD)
    except OSError:
        return b""
