"""Find what belongs to the build machine alone, and secrets of the build, in a finished image.

The rules are data, and look at any tree of files: a VM walks its own (own_files.py), the host walks the disk of a
stopped one. Two kinds:

- what the clean-up takes away (clean_machine.py) must not be there, whoever put it there;
- what looks like a secret must not be *of the build*: its inode changed after the build began, and it is not where
  packages put what anybody can download. What came with the source image was in that one.

A finding names the file, what it is and what to do. It never quotes what it found.
"""

from __future__ import annotations

import re
import stat
from abc import ABC, abstractmethod

from . import clean_machine
from .clean_machine import EMPTIED, HISTORIES, IDENTITY, NETWORK, names_servers_of_the_build
from .os_release import COS
from .secret_shapes import find_secret

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Callable, Optional

STATEFUL = "/mnt/stateful_partition"  # of Container-Optimized OS; /var and /home are folders of it
WHOLE = 256 << 10  # bytes: files up to this size are read whole. Those that secrets are kept in are small
HEAD = 64 << 10  # bytes that are read of larger ones
BINARY = 1024  # bytes, of which none is NUL in what a person or a program keeps a token in
MOST_SHOWN = 5  # findings in a message
MOST_KEPT = 1000

REMOVE = "remove it in the last step"
STOP = "stop what writes it in the last step"
FETCH = "remove it in the last step; what needs a secret can fetch it at boot, from Secret Manager for instance"

# What anybody can download, and with it the keys that its tests and examples bring: files of packages, layers of
# container images. Keys and tokens in there are no secrets; a build's own files are not there, nor anything of the
# machine. Whole folders are passed over, which saves most of the time.
PUBLISHED = re.compile(
    r"^/(?:usr/(?!$|local/|share/(?:$|oem/))|(?:lib|lib32|lib64|libx32|bin|sbin)/)"
    r"|^/var/lib/(?:dpkg|rpm|containerd|containers/storage|docker/(?:overlay2|image)|snapd/snap)/|^/snap/"
    r"|/(?:site-packages|dist-packages|node_modules|gems|pkg/mod|registry/src|google-cloud-sdk)/"
    r"|^/(?:opt|srv|usr/local)/(?:.*/)?(?:tests?|testdata)/",
    re.DOTALL,  # names may hold anything, and rules hold for all names
)
# Debian's package ssl-cert makes it when it is installed, and its name tells programs not to trust it.
WORTHLESS = re.compile(r"^/etc/ssl/private/ssl-cert-snakeoil\.key$")


class File(ABC):
    """Something in a tree. `path` is absolute, `mode` as in stat(2), `size` in bytes, `changed` Unix seconds."""

    def __init__(self, path: str, mode: int, size: int, changed: float) -> None:
        self.path = path
        self.mode = mode
        self.size = size
        self.changed = changed  # of its inode: nobody can set it back

    @abstractmethod
    def read(self, limit: int) -> bytes:
        """Give the first bytes. OSError."""


class Finding:
    """Something that must not be in an image."""

    def __init__(self, path: str, what: str, remedy: str) -> None:
        self.path = path
        self.what = what
        self.remedy = remedy

    def __str__(self) -> str:
        """Give what a person reads, in one line whatever a file is called."""
        path = self.path if self.path.isprintable() else ascii(self.path)
        return f"{path} {self.what}; {self.remedy}"


class Rule:
    """What is wrong with a file whose path fits, of which `holds` is true, and that is `of_build` if that is asked."""

    def __init__(
        self,
        patterns: Iterable[str],
        what: str,
        remedy: str,
        holds: Optional[Callable[[bytes], bool]] = None,
        of_build: bool = False,
        but: Iterable[str] = (),
    ) -> None:
        self.paths = _compiled(patterns)
        self.but = _compiled(but)
        self.what = what
        self.remedy = remedy
        self.holds = holds
        self.of_build = of_build

    def fits(self, path: str) -> bool:
        """Tell whether it is about a path."""
        return self.paths.match(path) is not None and not self.but.match(path)


def _compiled(patterns: Iterable[str]) -> re.Pattern[str]:
    """Give one expression for patterns: `*` is part of a name, `**` is anything, at the start with its slash."""
    sources = [
        re.escape(pattern).replace(r"\*\*/", "(?:.*/)?").replace(r"\*\*", ".+").replace(r"\*", "[^/]*")
        for pattern in patterns
    ]
    return re.compile("/(?:" + "|".join(sources) + r")\Z", re.DOTALL) if sources else re.compile(r"(?!)")


def _has_lines(data: bytes) -> bool:
    lines = (line.strip() for line in data.splitlines())
    return any(line and not line.startswith(b"#") for line in lines)


def _has_password_hash(data: bytes) -> bool:
    """Tell whether somebody can log in with a password: `*` and `!` stand before what no password fits."""
    fields = (line.split(b":")[1:2] for line in data.splitlines())
    return any(field and len(field[0]) > 1 and field[0][:1] not in b"*!" for field in fields)


def _has_identity(machine_id: bytes) -> bool:
    return machine_id.strip() not in (b"", b"uninitialized")  # machine-id(5): both are made anew at the first boot


RULES = (
    Rule(("etc/machine-id", "var/lib/dbus/machine-id"), "names the build machine", "empty it", _has_identity),
    Rule(("etc/resolv.conf",), "is of the build's network", "empty it in the last step", names_servers_of_the_build),
    Rule((*IDENTITY, f"{STATEFUL[1:]}/etc/**"), "belongs to the build machine alone", REMOVE),
    Rule(NETWORK, "was made for the build's network", REMOVE),
    Rule(HISTORIES, "is a history of the build machine", REMOVE),
    Rule(("var/log/**",), "is a log of the build machine", STOP),
    Rule([f"{folder}/**" for folder in EMPTIED], "was left by the build", REMOVE),
    Rule(("var/cache/**",), "is a cache", REMOVE, but=("var/cache/debconf/**",)),
    Rule(("var/lib/cloud/**",), "is cloud-init's memory of the build machine", REMOVE, but=("var/lib/cloud/seed/**",)),
    Rule(("var/lib/goldsmith/**", "**/provisioner.pyz"), "is the provisioner's own", REMOVE),
    Rule(
        ("etc/shadow", "etc/shadow-"),
        "holds the hash of a password",
        "lock it: passwd --lock USER",
        _has_password_hash,
        True,
    ),
    Rule(
        ("etc/gshadow", "etc/gshadow-"),
        "holds the hash of a password",
        "take it out: gpasswd -r GROUP",
        _has_password_hash,
        True,
    ),
    Rule(
        ("**/.ssh/authorized_keys", "**/.ssh/authorized_keys2"),
        "lets somebody log in",
        f"{REMOVE}; Compute Engine gives keys by metadata",
        _has_lines,
        True,
    ),
    Rule(("**/.netrc",), "holds a password", FETCH, lambda data: b"password" in data, True),
    Rule(
        ("**/.git-credentials", "**/.aws/credentials", "**/.config/git/credentials", "etc/krb5.keytab"),
        "holds credentials",
        FETCH,
        _has_lines,
        True,
    ),
    Rule(
        (
            "**/gcloud/credentials.db",
            "**/gcloud/access_tokens.db",
            "**/gcloud/application_default_credentials.json",
            "**/gcloud/legacy_credentials/**",
        ),
        "holds somebody's credentials for Google Cloud",
        f"{REMOVE}: gcloud auth revoke --all",
        None,
        True,
    ),
    Rule(("**/private-keys-v1.d/*.key",), "is a private key of GnuPG", FETCH, None, True),
    Rule(
        ("**/.kube/config",),
        "holds credentials for a cluster",
        FETCH,
        lambda data: b"client-key-data:" in data or b"token:" in data,
        True,
    ),
)
COS_RULES = (
    Rule([f"{folder}/**" for folder in clean_machine.COS_EMPTIED], "is state of the build machine", STOP),
    Rule(
        ("var/lib/systemd/**",),
        "is state of the build machine",
        STOP,
        but=[f"var/lib/systemd/{name}/**" for name in clean_machine.COS_UNITS],
    ),
)


def check(files: Iterable[File], since: float, system: str) -> list[Finding]:
    """Look for what must not be in an image of `system` (ID of os-release) whose build began at `since`."""
    rules = (*RULES, *(COS_RULES if system == COS else ()))
    found: list[Finding] = []
    for file in files:
        if stat.S_ISREG(file.mode) and file.size and len(found) < MOST_KEPT:
            finding = _look(file, since, rules)
            if finding is not None:
                found.append(finding)
    return sorted(found, key=lambda finding: finding.path)


def describe(findings: Sequence[str]) -> str:
    """Give findings in one line, for people; nothing where there are none."""
    shown = list(findings[:MOST_SHOWN])
    if len(findings) > MOST_SHOWN:
        shown = [*shown, f"and {len(findings) - MOST_SHOWN} more"]
    return f"must not be in an image: {' | '.join(shown)}" if shown else ""


def is_published(path: str) -> bool:
    """Tell whether nothing in a place can be a finding. A folder's path ends with a slash."""
    return PUBLISHED.search(in_image(path)) is not None


def in_image(path: str) -> str:
    """Give the path that the running system shows, of one that may lead through the stateful partition."""
    inside = path[len(STATEFUL) :] if path.startswith(STATEFUL + "/") else ""
    return inside if inside.startswith(("/var/", "/home/")) else path


def _look(file: File, since: float, rules: Iterable[Rule]) -> Optional[Finding]:
    path = in_image(file.path)
    if PUBLISHED.search(path):
        return None
    of_build = file.changed >= since
    for rule in rules:
        asked = (of_build or not rule.of_build) and rule.fits(path)
        if asked and (rule.holds is None or rule.holds(_contents(file))):
            return Finding(path, rule.what, rule.remedy)
    if of_build and not WORTHLESS.match(path):
        data = _contents(file)
        secret = None if b"\0" in data[:BINARY] else find_secret(data)
        if secret is not None:
            return Finding(path, f"holds {secret}", FETCH)
    return None


def _contents(file: File) -> bytes:
    """Give what is looked at of a file. What cannot be read by now is gone."""
    try:
        return file.read(file.size if file.size <= WHOLE else HEAD)
    except OSError:
        return b""
