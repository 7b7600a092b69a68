"""Find what belongs to the build machine alone, and secrets of the build, in a finished image.

The rules are data, and look at any tree of files: a VM walks its own (own_files.py), the host walks the disk of a
stopped one. Two kinds:

- what the clean-up takes away (clean_machine.py) must not be there, whoever put it there;
- what looks like a secret must not be *of the build*: the source has no such inode, and it is not where packages put
  what anybody can download. What came with the source image was in that one. No clock is asked: steps may set it.

A finding names the file, what it is and what to do. It never quotes what it found.
"""

from __future__ import annotations

import re
import stat
from abc import ABC, abstractmethod

from .hygiene_rules import COS_RULES, FETCH, REUSE, RULES, Places, Rule
from .hygiene_rules import STATEFUL as STATEFUL  # the host mounts it there, too
from .os_release import COS
from .swap_area import any_set as any_set  # the host looks at disks with it, too
from .swap_area import page_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Optional

WHOLE = 256 << 10  # bytes: files up to this size are read whole. Those that secrets are kept in are small
HEAD = 64 << 10  # bytes that are read of larger ones
BINARY = 1024  # bytes, of which none is NUL in what a person or a program keeps a token in
MEMORY = "is swap that holds memory of the build machine"
MOST_SHOWN = 5  # findings in a message
MOST_KEPT = 1000

# What anybody can download, and with it the keys that its tests and examples bring: files of packages, layers of
# container images. Keys and tokens in there are no secrets; a build's own files are not there, nor anything of the
# machine. Whole folders are passed over, which saves most of the time.
PUBLISHED = re.compile(
    r"^/(?:usr/(?!$|local/|share/(?:$|oem/))|(?:lib|lib32|lib64|libx32|bin|sbin)/)"
    r"|^/var/lib/(?:dpkg|rpm|containerd|containers/storage|docker/(?:overlay2|image)|snapd/snap)/|^/snap/"
    r"|/(?:site-packages|dist-packages|node_modules|gems|pkg/mod|registry/src|google-cloud-sdk)/"
    r"|/go[-.0-9]*/src/(?:cmd|crypto|encoding|internal|net|vendor)/"  # Go itself: others' have a host's name there
    r"|^/(?:opt|srv|usr/local)/(?:.*/)?(?:tests?|__tests__|test[-_]?data|fixtures|examples?|samples?)/",
    re.DOTALL,  # names may hold anything, and rules hold for all names
)
# Debian's package ssl-cert makes it when it is installed, and its name tells programs not to trust it. Go's tests bring
# keys of their own.
WORTHLESS = re.compile(r"^/etc/ssl/private/ssl-cert-snakeoil\.key\Z|^/(?:opt|srv|usr/local)/.*_test\.go\Z", re.DOTALL)


class File(ABC):
    """Something in a tree. `path` is absolute, `mode` as in stat(2), `size` in bytes."""

    def __init__(self, path: str, mode: int, size: int) -> None:
        self.path = path
        self.mode = mode
        self.size = size

    @abstractmethod
    def is_of_build(self) -> bool:
        """Tell whether the source image had no such file, or another one: inode, size and times tell."""

    @abstractmethod
    def is_blank(self, start: int) -> bool:
        """Tell whether there are zeros alone from a byte on, in all blocks that it has on the disk. OSError."""

    @abstractmethod
    def read(self, limit: int) -> bytes:
        """Return the first bytes. OSError."""


class Finding:
    """Something that must not be in an image."""

    def __init__(self, path: str, what: str, remedy: str) -> None:
        self.path = path
        self.what = what
        self.remedy = remedy

    def __str__(self) -> str:
        """Return what a person reads, in one line whatever a file is called."""
        path = self.path if self.path.isprintable() else ascii(self.path)
        return f"{path} {self.what}; {self.remedy}"


def check(files: Iterable[File], system: str) -> list[Finding]:
    """Look for what must not be in an image of `system` (ID of os-release)."""
    rules = (*RULES, *(COS_RULES if system == COS else ()))
    places = Places(pattern for rule in rules for pattern in rule.patterns)
    found: list[Finding] = []
    for file in files:
        if stat.S_ISREG(file.mode) and file.size and len(found) < MOST_KEPT:
            path = in_image(file.path)
            if not PUBLISHED.search(path):
                finding = _look(file, path, rules if places.may_hold(path) else ())
                if finding is not None:
                    found.append(finding)
    return sorted(found, key=lambda finding: finding.path)


def find_allowance(path: str, patterns: Sequence[str]) -> Optional[int]:
    """Return the index of the first pattern that a path fits, or None. Each part of a pattern may have one `*`."""
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


def describe(findings: Sequence[str]) -> str:
    """Return findings in one line, for people; nothing where there are none."""
    shown = list(findings[:MOST_SHOWN])
    if len(findings) > MOST_SHOWN:
        shown = [*shown, f"and {len(findings) - MOST_SHOWN} more"]
    return f"must not be in an image: {' | '.join(shown)}" if shown else ""


def is_published(path: str) -> bool:
    """Tell whether nothing in a place can be a finding. A folder's path ends with a slash."""
    return PUBLISHED.search(in_image(path)) is not None


def in_image(path: str) -> str:
    """Return the path that the running system shows, of one that may lead through the stateful partition."""
    inside = path[len(STATEFUL) :] if path.startswith(STATEFUL + "/") else ""
    return inside if inside.startswith(("/var/", "/home/")) else path


def _look(file: File, path: str, rules: Iterable[Rule]) -> Optional[Finding]:
    of_build = file.is_of_build()
    for rule in rules:
        asked = (of_build or not rule.of_build) and rule.fits(path)
        if asked and (rule.holds is None or rule.holds(_contents(file))):
            return Finding(path, rule.what, rule.remedy)
    if of_build and not WORTHLESS.match(path):
        from .secret_shapes import find_secret  # and all its shapes, which a build that leaves no file does without

        data = _contents(file)
        if _holds_memory(file, data):
            return Finding(path, MEMORY, REUSE)
        secret = None if b"\0" in data[:BINARY] else find_secret(data)
        if secret is not None:
            return Finding(path, f"holds {secret}", FETCH)
    return None


def _holds_memory(file: File, data: bytes) -> bool:
    """Tell whether it is swap that was used: mkswap empties none."""
    page = page_of(data)
    try:
        return page > 0 and not file.is_blank(page)
    except OSError:  # gone by now
        return False


def _contents(file: File) -> bytes:
    """Return what is looked at of a file. What cannot be read by now is gone."""
    try:
        return file.read(file.size if file.size <= WHOLE else HEAD)
    except OSError:
        return b""
