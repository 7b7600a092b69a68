r"""Secrets that have no form of their own: the value of `DB_PASSWORD=`, `"token":` and the like, and passwords in URLs.

Most values of such names are harmless: another variable, a path, a placeholder, the name of something. A value counts
when it looks random, as words, versions and identifiers do not.

The time is linear in the length of a file: each name is found by its fixed letters, and a limited number of bytes after
it is checked.
"""

from __future__ import annotations

import re
from math import log2

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional

SHORT = 20  # bytes; shorter values must change between letters, digits and signs more often
LEAST_ENTROPY, LEAST_ENTROPY_OF_LONG = 2.5, 3.0  # bits a byte

# Names are searched for in lower case. Between a name and its value: quotes, `=`, `:`, `=>`, `:=` or the `>` of XML.
_ASSIGNED = rb"[0-9]{0,2}[\"'\\]{0,4}\]?[ \t]{0,8}(?:=>|:=|[=:>])[ \t]{0,8}"
_NAMES: tuple[tuple[bytes, bytes], ...] = (  # the first letters, the rest
    (b"passw", rb"(?:or)?d"),
    (b"passphrase", b""),
    (b"secret", rb"(?:[_.-]?(?:access[_.-]?)?key(?:[_.-]?base)?)?"),
    (b"token", b""),
    (b"api", rb"[_.-]?(?:key|secret)"),
    (b"access", rb"[_.-]?key(?:[_.-]?secret)?"),
    (b"auth", rb"[_.-]?key"),
    (b"account", rb"[_.-]?key"),
    (b"private", rb"[_.-]?key"),
    (b"signing", rb"[_.-]?key"),
    (b"encryption", rb"[_.-]?key"),
    (b"master", rb"[_.-]?key"),
)
_HARMLESS_NAMES = (b"public", b"publickey", b"page", b"csrf", b"xsrf", b"next", b"cancellation", b"sync")
_QUOTED = {b'"': rb"[^\"\s]{1,200}(?=\\{0,3}\")", b"'": rb"[^'\s]{1,200}(?=\\{0,3}')"}
_BARE = rb"[^\s\"',;<&]{1,200}(?=[\s\"',;<&]|\Z)"
_OPENING = rb"\\{0,3}[\"']"

# Another variable, a template, a call, a path, a URL, a sealed value, a date, a version, a digest, a type.
_REFERENCE = (
    rb"(?s)[$%@&]?[{(<\[]|\$[A-Za-z_]|%[A-Za-z(]|.*(?:\$\{|\$\(|\{\{|\}\}|<%|%\(|::|->|://)|[~.]{0,2}/"
    rb"|(?:ENC|env|file|vault|arn|projects?|sha[0-9]{1,3}|md5|sha)[\[:/-]|!|[0-9]{4}-[0-9]{2}-[0-9]{2}"
    rb"|v?[0-9]+(?:\.[0-9]+)+"
)
_CODE = rb"(?s).*[(){}\[\]<>|`]"
# Words, each with a number behind it at most: MyTokenizer2, db-creds-v1, settings.AUTH_TOKEN2
_IDENTIFIER = rb"[A-Za-z]+[0-9]{0,4}(?:[-_.:/@+][A-Za-z]*[0-9]{0,4})*"
_PLACEHOLDER = (
    rb"x{4}|\*{3}|\.{3}|example|change.?(?:me|this|it)|placeholder|your|dummy|sample|replace|redacted|todo|insert|fixme"
    rb"|not.?(?:a|the|real)"
)
_RUN = rb"[A-Z]+[a-z]*|[a-z]+|[0-9]+|[^A-Za-z0-9]"

_AWS_VALUE = rb"\\{0,3}[\"']?(?P<key>[0-9A-Za-z/+]{40})(?![0-9A-Za-z/+=])"
_PSK = rb"psk[ \t]{0,8}=[ \t]{0,8}\"?(?!ext:|\$|<|\{)[^\s\"]{8,64}\"?(?:\s|\Z)"

_USER_INFO = rb"://(?P<user>[^\s/:@\"'<>|`]{0,64}):(?P<password>[^\s/@\"'<>|`\]]{3,200})@[0-9A-Za-z\[]"
_ABOUT_USERS = rb"(?s).*(?:user|login|name|usr|foo|joe|account|^me\Z|^id\Z)|^.?\Z"
_ABOUT_PASSWORDS = (
    rb"(?:my|your|the|proxy|some|db|user|a|secret|[_-])*"
    rb"(?:pass(?:wo?r?d|phrase|wort)?|pwd?|secret|token|key|bar|x+)[0-9]?"
)
_VARIABLE = rb"\$|[{%\[(*]|x{3,}\Z|\.{3}"


def find_value(data: bytes) -> Optional[str]:
    """Return a description of the first secret value in some bytes, or None."""
    lower = data.lower()
    if b"://" in data and any(map(_is_password_in_url, re.finditer(_USER_INFO, data))):
        return "a URL with a password"
    if b"psk" in lower and any(_begins_a_line(lower, found.start()) for found in re.finditer(_PSK, lower)):
        return "the key of a wireless network"
    for letters, rest in _NAMES:
        for found in re.finditer(letters + rest + _ASSIGNED, lower) if letters in lower else ():
            what = _value_at(data, lower, found)
            if what:
                return what
    return None


def is_secret_name(name: str) -> bool:
    """Return whether a variable's name says that its value is a secret."""
    lower = name.lower().encode()
    for letters, rest in _NAMES:
        for found in re.finditer(letters + rest, lower):
            if not lower[: found.start()].rstrip(b"_-. ").endswith(_HARMLESS_NAMES):
                return True
    return False


def is_random(value: bytes) -> bool:
    """Return whether a value looks random, or made to be hard to guess."""
    if len(value) < 8 or not re.search(rb"[A-Za-z]", value) or not re.search(rb"[0-9]", value):
        return False
    if re.fullmatch(_IDENTIFIER, value) or re.search(_PLACEHOLDER, value.lower()):
        return False
    is_short = len(value) < SHORT
    changes = len(re.findall(_RUN, value)) / len(value)
    return changes >= (0.4 if is_short else 0.25) and _entropy(value) >= (
        LEAST_ENTROPY if is_short else LEAST_ENTROPY_OF_LONG
    )


def _value_at(data: bytes, lower: bytes, name: re.Match[bytes]) -> str:
    """Return a description of the value that is assigned to a name; "" where it is harmless."""
    before = lower[max(0, name.start() - 16) : name.start()].rstrip(b"_-. ")
    if name[0].startswith(b"secret") and (b"access" in name[0] or before.endswith(b"aws")):
        key = re.compile(_AWS_VALUE).match(data, name.end())
        if key and b"EXAMPLE" not in key["key"]:
            return "a secret key of AWS"
    if before.endswith(_HARMLESS_NAMES):
        return ""
    value = _value(data, name.end())
    return "a password or token" if is_random(value) else ""


def _value(data: bytes, at: int) -> bytes:
    """Return the value that begins at a position; b"" where it only refers to another place."""
    opening = re.compile(_OPENING).match(data, at)
    form = _QUOTED[opening[0][-1:]] if opening else _BARE
    found = re.compile(form).match(data, opening.end() if opening else at)
    if found is None or re.match(_REFERENCE, found[0]) or (not opening and re.match(_CODE, found[0])):
        return b""
    return found[0].rstrip(b"\\")


def _begins_a_line(data: bytes, at: int) -> bool:
    """Return whether only blanks precede a position in its line, of which at most 16 bytes are checked."""
    before = data[max(0, at - 16) : at]
    return not before.rpartition(b"\n")[2].strip(b" \t")


def _is_password_in_url(found: re.Match[bytes]) -> bool:
    """Return whether a URL holds a real password, and not a word for one, as in texts about URLs."""
    user, password = found["user"].lower(), found["password"].lower()
    if re.match(_VARIABLE, password) or b"${" in password or b"{{" in password or user == password:
        return False
    return not (re.fullmatch(_ABOUT_PASSWORDS, password) and re.match(_ABOUT_USERS, user))


def _entropy(value: bytes) -> float:
    """Return Shannon's entropy, in bits a byte."""
    counts = [value.count(byte) for byte in set(value)]
    return -sum(count / len(value) * log2(count / len(value)) for count in counts)
