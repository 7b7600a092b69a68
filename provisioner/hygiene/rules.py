"""The rules of the hygiene check, as data: paths, what makes a file there a finding, and the remedy.

There are two kinds. What the clean-up removes (clean_machine.py) must not be there, whether the build or its source
left it. And files in which programs keep passwords, tokens and keys must hold none of the build.
"""

from __future__ import annotations

import re

from ..machine import clean_machine
from ..machine.clean_machine import EMPTIED, HISTORIES, IDENTITY, NETWORK, names_servers_of_the_build

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Callable, Optional

STATEFUL = "/mnt/stateful_partition"  # of Container-Optimized OS; /var and /home are folders of it

REMOVE = "remove it in the last step"
REMOVE_LINE = "take it out of the file in the last step"
STOP = "stop what writes it in the last step"
FETCH = "remove it in the last step; what needs a secret can fetch it at boot, from Secret Manager for instance"
REUSE = "leave it on, and it is emptied after the last step, or remove it"
LOCK = "lock it: passwd --lock USER"
NAME_PART = "[^/]{0,255}"  # of a name; Linux allows no longer ones
PASSWORD, CREDENTIALS = "holds a password", "holds credentials"


class HygieneRule:
    """A file is a finding where its path fits and its contents satisfy `holds`; with `of_build`, only one of the build.

    In a pattern, `*` is part of a name and `**` anything, at the start with its slash.
    """

    def __init__(
        self,
        patterns: Iterable[str],
        what: str,
        remedy: str,
        holds: Optional[Callable[[bytes], bool]] = None,
        of_build: bool = False,
        but: Iterable[str] = (),
    ) -> None:
        self.patterns = tuple(patterns)
        self.but = tuple(but)
        self.what = what
        self.remedy = remedy
        self.holds = holds
        self.of_build = of_build
        self._compiled: Optional[tuple[re.Pattern[str], re.Pattern[str]]] = None  # on first use: most never are

    def fits(self, path: str) -> bool:
        """Return whether the rule is about a path."""
        if self._compiled is None:
            self._compiled = either(self.patterns), either(self.but)
        paths, but = self._compiled
        return paths.match(path) is not None and not but.match(path)


def either(patterns: Iterable[str]) -> re.Pattern[str]:
    """Return one regular expression for all patterns."""
    anywhere: list[str] = []
    rooted: list[str] = []
    for pattern in patterns:
        inside = pattern[3:] if pattern.startswith("**/") else pattern
        source = re.escape(inside).replace(r"\*\*", ".+").replace(r"\*", NAME_PART)
        (anywhere if inside != pattern else rooted).append(source)
    if anywhere:  # all after the same slash, which is then searched for once
        rooted.append("(?:.*/)?(?:" + "|".join(anywhere) + ")")
    return re.compile("/(?:" + "|".join(rooted) + r")\Z", re.DOTALL) if rooted else re.compile(r"(?!)")


class PathPatterns:
    """The parts of which a path needs one for any rule to apply, to rule out most paths at once."""

    def __init__(self, rules: Iterable[HygieneRule]) -> None:
        names: set[str] = set()  # the last part of paths
        beginnings: set[str] = set()
        pieces: set[str] = set()  # anywhere in a path
        for pattern in (pattern for rule in rules for pattern in rule.patterns):
            last = pattern.rpartition("/")[2]
            if not pattern.startswith("**/"):
                beginnings.add("/" + pattern.partition("*")[0])
            elif "*" not in last:
                names.add(last)
            else:
                pieces.add(max(pattern.split("*"), key=len))
        self._names = frozenset(names)
        self._beginnings = tuple(beginnings)
        self._pieces = tuple(pieces)

    def may_hold(self, path: str) -> bool:
        """Return whether a pattern may fit a path."""
        return (
            path.rpartition("/")[2] in self._names
            or path.startswith(self._beginnings)
            or any(piece in path for piece in self._pieces)
        )


def has_lines(data: bytes) -> bool:
    """Return whether there is anything but comments."""
    lines = (line.strip() for line in data.splitlines())
    return any(line and not line.startswith(b"#") for line in lines)


def _has_password_hash(data: bytes) -> bool:
    """Return whether a user can log in with a password: fields that begin with `*` or `!` match no password."""
    fields = (line.split(b":")[1:2] for line in data.splitlines())
    return any(field and len(field[0]) > 1 and field[0][:1] not in b"*!" for field in fields)


def _has_identity(machine_id: bytes) -> bool:
    return machine_id.strip() not in (b"", b"uninitialized")  # machine-id(5): both are replaced at the first boot


def _matches(expression: bytes) -> Callable[[bytes], bool]:
    return lambda data: re.search(expression, data, re.MULTILINE | re.IGNORECASE) is not None


def _assigns(*names: str) -> Callable[[bytes], bool]:
    """Return a check for a line that assigns one of the names a value, neither empty nor another variable."""
    return _matches(
        rb"^[ \t]{0,40}-?[ \t]{0,9}[\"']?(?:"
        + "|".join(names).encode()
        + rb")[\"']?[ \t]{0,40}[=:][ \t]{0,40}[\"']?(?![$<{\"'\s#;])."
    )


def _has_fields(separator: Optional[bytes], number: int, empty: tuple[bytes, ...]) -> Callable[[bytes], bool]:
    """Return a check for a line, not a comment, whose field `number` is not in `empty`."""

    def holds(data: bytes) -> bool:
        lines = (line.strip() for line in data.splitlines())
        fields = (line.split(separator, 9) for line in lines if not line.startswith(b"#"))
        return any(len(words) > number and words[number] not in empty for words in fields)

    return holds


def _has_maven_password(xml: bytes) -> bool:
    """Return whether there is a password outside comments: Maven's own comments have examples."""
    first, *others = xml.split(b"<!--")
    text = first + b"".join(other.partition(b"-->")[2] for other in others)
    return re.search(rb"<(?:password|passphrase|master)>\s{0,40}[^\s$<{]", text) is not None or b"<master>{" in text


def _is_my_cnf(data: bytes) -> bool:
    return b"\0" in data or _assigns("password")(data)  # NUL: .mylogin.cnf, which only obfuscates its passwords


def _is_password_file(data: bytes) -> bool:
    """Return whether a file holds a password, and is not a program that asks for it."""
    return has_lines(data) and not data.startswith(b"#!")


_in_netrc = _matches(rb"^[^#\n]{0,200}\bpassword[ \t]{1,40}[^\s#]")
_in_json = _matches(rb"\"(?:password|token|secret|refresh_?token|access_?token)\"\s{0,9}:\s{0,9}\"[^\"$]")

# Paths, a description, and a check of the contents (None: always a finding).
_SECRETS: tuple[tuple[tuple[str, ...], str, Optional[Callable[[bytes], bool]]], ...] = (
    (("**/.netrc", "**/_netrc", "**/.authinfo"), PASSWORD, _matches(rb"\bpassword\s{1,40}[^\s#]")),
    (("etc/apt/auth.conf", "etc/apt/auth.conf.d/**"), PASSWORD, _in_netrc),
    (("etc/msmtprc", "**/.msmtprc"), PASSWORD, _in_netrc),
    (("**/.git-credentials", "**/.config/git/credentials"), CREDENTIALS, has_lines),
    (("etc/krb5.keytab", "**/*.keytab"), CREDENTIALS, has_lines),
    (("**/.aws/credentials", "**/.aws/cli/cache/**", "**/.aws/sso/cache/**"), CREDENTIALS, has_lines),
    (("**/.azure/*token*.json", "**/.azure/*Token*.json", "**/.azure/*principal*"), CREDENTIALS, None),
    (("**/.passwd-s3fs", "etc/passwd-s3fs"), CREDENTIALS, has_lines),
    (("**/.s3cfg", "**/.boto", "etc/boto.cfg"), CREDENTIALS, _assigns("secret_key", "gs_oauth2_refresh_token")),
    (("**/.pgpass", "**/pgpass.conf"), PASSWORD, _has_fields(b":", 4, (b"",))),
    (("**/.my.cnf", "**/.mylogin.cnf"), PASSWORD, _is_my_cnf),
    (("**/.vault-token",), "holds a token of Vault", has_lines),
    (("**/.vault_pass*", "**/.vault-pass*", "**/vault_pass*.txt"), PASSWORD, _is_password_file),
    (("**/.m2/settings*.xml", "**/settings.xml", "**/settings-security.xml"), PASSWORD, _has_maven_password),
    (("**/.cargo/credentials", "**/.cargo/credentials.toml"), "holds a token of a registry", _assigns("token")),
    (("**/.pypirc",), PASSWORD, _assigns("password")),
    (("**/.yarnrc.yml",), "holds a token of npm", _assigns("npmAuthToken", "npmAuthIdent")),
    (("**/composer/auth.json", "**/.composer/auth.json"), PASSWORD, _in_json),
    (("**/.terraform.d/credentials.tfrc.json",), "holds a token of Terraform", _in_json),
    (
        ("**/*.tfstate", "**/*.tfstate.*"),
        "holds Terraform's state",
        _matches(rb'"(?:attributes|value)"'),
    ),
    (
        ("**/rclone/rclone.conf", "**/.rclone.conf"),
        CREDENTIALS,
        _assigns("pass", "password2?", "token", "[a-z_]{0,20}(?:secret|key)", "service_account_credentials"),
    ),
    (
        ("etc/wpa_supplicant/**", "etc/wpa_supplicant*.conf", "**/wpa_supplicant*.conf"),
        "holds the key of a wireless network",
        _assigns("psk", "password", "sae_password", r"wep_key\d", "private_key_passwd"),
    ),
    (
        ("etc/NetworkManager/system-connections/**", "var/lib/iwd/**", "etc/netplan/**"),
        "holds the password of a network",
        _assigns("psk", r"[a-z0-9-]{0,30}password", r"wep-key\d", "passphrase", "presharedkey", "pin", "secret"),
    ),
    (
        ("etc/wireguard/**", "etc/systemd/network/*.netdev", "etc/NetworkManager/system-connections/*"),
        "holds a private key",
        _matches(rb"^[ \t]{0,40}(?:private-?key|preshared-?key)[ \t]{0,40}=[ \t]{0,40}[0-9A-Za-z+/]{43}="),
    ),
    (("etc/ppp/*-secrets",), PASSWORD, _has_fields(None, 2, (b'""', b'"*"', b"*", b"-"))),
    (
        ("etc/ipsec.secrets", "etc/ipsec.d/*.secrets"),
        PASSWORD,
        _matches(rb"^[^#\n]{0,200}:[ \t]{1,9}(?:psk|xauth|eap)[ \t]"),
    ),
    (("etc/davfs2/secrets", "**/.davfs2/secrets"), PASSWORD, has_lines),
    (("**/.smbcredentials*", "**/.cifs*", "etc/cifs-credentials*"), PASSWORD, _assigns("password", "pass")),
    (("etc/postfix/sasl_passwd", "etc/exim4/passwd.client"), PASSWORD, has_lines),
    (
        ("**/.curlrc", "**/_curlrc"),
        PASSWORD,
        _matches(rb"^[ \t]{0,9}-{0,2}(?:proxy-)?u(?:ser)?[\s=:]{1,9}[\"']?[^:\s\"']{1,99}:\S"),
    ),
    (("**/.wgetrc",), PASSWORD, _assigns("[a-z_]{0,20}password")),
    (("**/.hgrc",), PASSWORD, _assigns(r"[\w-]{1,60}\.password")),
    (("**/.subversion/auth/svn.simple/*",), PASSWORD, lambda data: b"password" in data),
    (("**/config/master.key", "**/config/credentials/*.key"), "holds a private key", has_lines),
    (("**/private-keys-v1.d/*.key",), "is a private key of GnuPG", None),
    (
        ("**/.kube/config", "**/kubeconfig", "etc/kubernetes/*.conf"),
        "holds credentials for a cluster",
        lambda data: b"client-key-data:" in data or b"token:" in data,
    ),
)

_SETTINGS = (
    *("etc/**", "root/.*", "root/.*/**", "home/*/.*", "home/*/.*/**"),
    *("usr/local/bin/**", "usr/local/sbin/**", "usr/local/etc/**"),
)
_FOLDERS = (b"/run/goldsmith/", b"/var/lib/goldsmith/")  # of the shims and of the context, gone with the build

HYGIENE_RULES = (
    HygieneRule(("etc/machine-id", "var/lib/dbus/machine-id"), "names the build machine", "empty it", _has_identity),
    HygieneRule(
        ("etc/resolv.conf",), "is of the build's network", "empty it in the last step", names_servers_of_the_build
    ),
    HygieneRule((*IDENTITY, f"{STATEFUL[1:]}/etc/**"), "belongs to the build machine alone", REMOVE),
    HygieneRule(NETWORK, "was made for the build's network", REMOVE),
    HygieneRule(HISTORIES, "is a history of the build machine", REMOVE),
    HygieneRule(("var/log/**",), "is a log of the build machine", STOP),
    HygieneRule([f"{folder}/**" for folder in EMPTIED], "was left by the build", REMOVE),
    HygieneRule(("var/cache/**",), "is a cache", REMOVE, but=("var/cache/debconf/**",)),
    HygieneRule(
        ("var/lib/cloud/**",), "is cloud-init's memory of the build machine", REMOVE, but=("var/lib/cloud/seed/**",)
    ),
    HygieneRule(("var/lib/goldsmith/**", "**/provisioner.pyz"), "is the provisioner's own", REMOVE),
    HygieneRule(
        _SETTINGS,
        "names a folder that only the build has",
        REMOVE_LINE,
        lambda data: any(folder in data for folder in _FOLDERS),
        True,
        but=("etc/dib-manifests/**",),  # where elements note what the image is made of: no program reads it
    ),
    HygieneRule(("etc/shadow",), "holds the hash of a password", LOCK, _has_password_hash, True),
    HygieneRule(
        ("etc/gshadow",), "holds the hash of a password", "take it out: gpasswd -r GROUP", _has_password_hash, True
    ),
    HygieneRule(
        ("etc/shadow-*", "etc/shadow.*", "etc/gshadow-*", "etc/gshadow.*", "var/backups/*shadow*"),
        "holds the hash of a password",
        REMOVE,
        _has_password_hash,
        True,
    ),
    HygieneRule(
        ("**/.ssh/authorized_keys", "**/.ssh/authorized_keys2"),
        "allows a login",
        f"{REMOVE}; Compute Engine gives keys by metadata",
        has_lines,
        True,
    ),
    HygieneRule(
        (
            "**/gcloud/credentials.db",
            "**/gcloud/access_tokens.db",
            "**/gcloud/application_default_credentials.json",
            "**/gcloud/legacy_credentials/**",
        ),
        "holds credentials for Google Cloud",
        f"{REMOVE}: gcloud auth revoke --all",
        None,
        True,
    ),
    *(HygieneRule(patterns, what, FETCH, holds, True) for patterns, what, holds in _SECRETS),
)
COS_RULES = (
    HygieneRule([f"{folder}/**" for folder in clean_machine.COS_EMPTIED], "is state of the build machine", STOP),
    HygieneRule(
        ("var/lib/systemd/**",),
        "is state of the build machine",
        STOP,
        but=[f"var/lib/systemd/{name}/**" for name in clean_machine.COS_UNITS],
    ),
)
