r"""What secrets look like, whatever file they are in: private keys, and tokens that have a form of their own.

Each expression begins with fixed letters, which `re` finds twenty times faster than anything else. What must not stand
before a token is therefore looked at afterwards. Whoever finds a secret never gets to see it.
"""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional

OF_TOKENS = frozenset(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_-")
_END = rb"(?![0-9A-Za-z_-])"

KEYS: tuple[tuple[bytes, bytes, str], ...] = (  # expression, what must be in the file too, what it is
    (rb'"private_key":\s*"-----BEGIN', b'"service_account"', "the key of a service account"),
    # PEM of OpenSSL, OpenSSH and PGP; \n as in JSON. Texts about keys name the first line and go on with words.
    (
        rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----(?:\s|\\r|\\n)+"
        rb"(?:[A-Z][A-Za-z-]+: [^\n]*\n\s*)*[0-9A-Za-z+/=]{24,}",
        b"",
        "a private key",
    ),
    (rb"PuTTY-User-Key-File-\d: ", b"Private-Lines: ", "a private key (PuTTY)"),
    (rb'"auth":\s*"[0-9A-Za-z+/]{8,}={0,2}"', b'"auths"', "a password for a container registry"),
    (rb'"key":\s*"[0-9a-f]{64}"', b'"report_port"', "the key that this build signs its reports with"),
    (rb"X-Goog-Signature=[0-9a-f]{64,}", b"", "a signed URL"),
    (rb"X-Amz-Signature=[0-9a-f]{64}", b"", "a signed URL"),
    (rb"aws_secret_access_key\s*[=:]\s*[\"']?[0-9A-Za-z/+]{40}", b"", "a secret key of AWS"),
)
TOKENS: tuple[tuple[bytes, bytes, str], ...] = tuple(
    (expression, b"", what)
    for expression, what in (
        (rb"AGE-SECRET-KEY-1[0-9A-Z]{58}" + _END, "a private key (age)"),
        (rb"ya29\.[0-9A-Za-z_-]{30,}", "an access token of Google"),
        (rb"1//0[0-9A-Za-z_-]{40,}", "a refresh token of Google"),
        (rb"AIza[0-9A-Za-z_-]{35}" + _END, "an API key of Google"),
        (rb"GOCSPX-[0-9A-Za-z_-]{28}" + _END, "a client secret of Google"),
        (rb"gh[pousr]_[0-9A-Za-z]{36,}" + _END, "a token of GitHub"),
        (rb"github_pat_[0-9A-Za-z_]{60,}", "a token of GitHub"),
        (rb"glpat-[0-9A-Za-z_-]{20,}", "a token of GitLab"),
        (rb"AKIA(?![0-9A-Z]{9}EXAMPLE)[0-9A-Z]{16}(?![0-9A-Za-z/+=_-])", "an access key of AWS"),
        (rb"xox[abeoprs]-[0-9]{8,}-[0-9A-Za-z-]{16,}", "a token of Slack"),
        (rb"npm_[0-9A-Za-z]{36}" + _END, "a token of npm"),
        (rb"pypi-AgE[0-9A-Za-z_-]{60,}", "a token of PyPI"),
    )
)

_SHAPES = tuple(
    (re.compile(expression), also, what, shapes is TOKENS)
    for shapes in (KEYS, TOKENS)
    for expression, also, what in shapes
)


def find_secret(data: bytes) -> Optional[str]:
    """Say what secret is in some bytes, or None."""
    for expression, also, what, is_token in _SHAPES:
        found = expression.search(data)
        while found and is_token and found.start() and data[found.start() - 1] in OF_TOKENS:
            found = expression.search(data, found.start() + 1)
        if found and also in data:
            return what
    return None
