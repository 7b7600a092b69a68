"""What secrets look like, whatever file they are in: private keys, and tokens that have a form of their own.

A shape is looked for only where its needle is, since finding fixed bytes is a hundred times faster than a regular
expression. Whoever finds one never gets to see what was found.
"""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional

_END = rb"(?![0-9A-Za-z_-])"
_START = rb"(?<![0-9A-Za-z_-])"

SHAPES: tuple[tuple[bytes, bytes, str], ...] = (
    # Service accounts' keys are also PEM: the closer name comes first.
    (b'"service_account"', rb'"private_key":\s*"-----BEGIN', "the key of a service account"),
    # PEM of OpenSSL, OpenSSH and PGP; \\n as in JSON. Texts about keys name the first line and go on with words.
    (
        b"PRIVATE KEY",
        rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----(?:\s|\\r|\\n)+"
        rb"(?:[A-Z][A-Za-z-]+: [^\n]*\n\s*)*[0-9A-Za-z+/=]{24,}",
        "a private key",
    ),
    (b"PuTTY-User-Key-File-", rb"PuTTY-User-Key-File-\d: .*\n(?s:.*)Private-Lines: \d", "a private key (PuTTY)"),
    (b"AGE-SECRET-KEY-1", rb"AGE-SECRET-KEY-1[0-9A-Z]{58}" + _END, "a private key (age)"),
    (b"ya29.", _START + rb"ya29\.[0-9A-Za-z_-]{30,}", "an access token of Google"),
    (b"1//0", _START + rb"1//0[0-9A-Za-z_-]{40,}", "a refresh token of Google"),
    (b"AIza", _START + rb"AIza[0-9A-Za-z_-]{35}" + _END, "an API key of Google"),
    (b"GOCSPX-", _START + rb"GOCSPX-[0-9A-Za-z_-]{28}" + _END, "a client secret of Google"),
    (b"X-Goog-Signature=", rb"X-Goog-Signature=[0-9a-f]{64,}", "a signed URL"),
    (b"X-Amz-Signature=", rb"X-Amz-Signature=[0-9a-f]{64}", "a signed URL"),
    *(
        (needle, _START + needle + rb"[0-9A-Za-z]{36,}" + _END, "a token of GitHub")
        for needle in (b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_")
    ),
    (b"github_pat_", _START + rb"github_pat_[0-9A-Za-z_]{60,}", "a token of GitHub"),
    (b"glpat-", _START + rb"glpat-[0-9A-Za-z_-]{20,}", "a token of GitLab"),
    (b"aws_secret_access_key", rb"aws_secret_access_key\s*[=:]\s*[\"']?[0-9A-Za-z/+]{40}", "a secret key of AWS"),
    (b"AKIA", rb"(?<![0-9A-Za-z/+_-])AKIA(?![0-9A-Z]{9}EXAMPLE)[0-9A-Z]{16}(?![0-9A-Za-z/+=_-])", "an AWS access key"),
    (b"xox", _START + rb"xox[abeoprs]-[0-9]{8,}-[0-9A-Za-z-]{16,}", "a token of Slack"),
    (b"npm_", _START + rb"npm_[0-9A-Za-z]{36}" + _END, "a token of npm"),
    (b"pypi-AgE", _START + rb"pypi-AgE[0-9A-Za-z_-]{60,}", "a token of PyPI"),
    (b'"auths"', rb'"auth":\s*"[0-9A-Za-z+/]{8,}={0,2}"', "a password for a container registry"),
    (b'"report_port"', rb'"key":\s*"[0-9a-f]{64}"', "the key that this build signs its reports with"),
)

_COMPILED = tuple((needle, re.compile(pattern), what) for needle, pattern, what in SHAPES)


def find_secret(data: bytes) -> Optional[str]:
    """Say what secret is in some bytes, or None."""
    for needle, pattern, what in _COMPILED:
        at = data.find(needle)
        if at >= 0 and pattern.search(data, max(0, at - 128)):
            return what
    return None
