r"""The shapes of secrets in files of any kind: private keys, and tokens that have a form of their own.

Each expression begins with fixed letters, which `re` finds twenty times faster than anything else. Every repetition has
a limit, or ends where the next match could begin: the time is linear in the length of a file, whatever its contents.

Secrets that only their name gives away, such as the value in `DB_PASSWORD=...`, are in secret_values.py.
"""

from __future__ import annotations

import re

from .secret_values import find_value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional

_END = rb"(?![0-9A-Za-z_-])"
_LINE_END = rb"(?:[\r\n]|\\{1,4}[rn])(?:\s|\\{1,4}[rn]){0,19}"  # \n as in JSON, and in JSON within JSON
_QUOTE = rb'\\{0,3}"'
_AWS_ID = rb"(?![0-9A-Z]{9}EXAMPLE)[0-9A-Z]{16}(?![0-9A-Za-z/+=_-])"

# The fixed letters, the rest of the expression, bytes that must be in the file too, a description.
KEY_SHAPES: tuple[tuple[bytes, bytes, bytes, str], ...] = (
    (
        b"private_key",
        _QUOTE + rb"\s{0,9}:\s{0,9}" + _QUOTE + rb"-----BEGIN",
        b"service_account",
        "the key of a service account",
    ),
    # The same in base64, for the three ways in which its first line is written.
    (b"eyJ0eXBlIjogInNlcnZpY2VfYWNjb3VudC", b"", b"", "the key of a service account"),
    (b"eyJ0eXBlIjoic2VydmljZV9hY2NvdW50I", b"", b"", "the key of a service account"),
    (b"ewogICJ0eXBlIjogInNlcnZpY2VfYWNjb3VudC", b"", b"", "the key of a service account"),
    (  # PEM of OpenSSL, OpenSSH and PGP. Texts about keys name the first line and go on with words
        b"-----BEGIN ",
        rb"(?:[A-Z0-9]{1,12} ){0,4}PRIVATE KEY(?: BLOCK)?-----(?:\s|\\{1,4}[rn]){0,19}"
        rb"(?:[A-Z][A-Za-z-]{1,30}: [^\r\n\\]{0,100}" + _LINE_END + rb"){0,5}[0-9A-Za-z+/=]{24}",
        b"",
        "a private key",
    ),
    (  # PEM in base64: PRIVATE, RSA PRIVATE, EC PRIVATE, OPENSSH PRIVATE
        b"LS0tLS1CRUdJTiB",
        rb"(?:QUklWQVRFIEtFWS|SU0EgUFJJVkFURSBLRVkt|FQyBQUklWQVRFIEtFWS|PUEVOU1NIIFBSSVZBVEUg)",
        b"",
        "a private key",
    ),
    (b"PuTTY-User-Key-File-", rb"\d: ", b"Private-Lines: ", "a private key (PuTTY)"),
    (b"<RSAKeyValue>", b"", b"</InverseQ>", "a private key"),
    (b'"auth":', rb'\s{0,9}"[0-9A-Za-z+/]{8}', b'"auths"', "a password for a container registry"),
    (b'"identitytoken":', rb'\s{0,9}"[0-9A-Za-z]', b'"auths"', "a token for a container registry"),
    (b'"key":', rb'\s{0,9}"[0-9a-f]{64}"', b'"report_port"', "the key that this build signs its reports with"),
    (b"X-Goog-Signature=", rb"[0-9a-f]{64}", b"", "a signed URL"),
    (b"X-Amz-Signature=", rb"[0-9a-f]{64}", b"", "a signed URL"),
    (b"&sig=", rb"[0-9A-Za-z%+/]{42,60}(?:%3D|=)", b"sv=", "a signed URL"),
    (
        b"hooks.slack.com/",
        rb"[a-z]{8,9}/T[0-9A-Z]{8,12}/[0-9A-Z]{6,14}/[0-9A-Za-z]{16}",
        b"",
        "a webhook of Slack",
    ),
    (b"discord.com/api/webhooks/", rb"[0-9]{15,20}/[0-9A-Za-z_-]{50}", b"", "a webhook of Discord"),
    (b"AccountKey=", rb"[0-9A-Za-z+/]{86}==", b"", "a key of Azure Storage"),
    (b"SharedAccessKey=", rb"[0-9A-Za-z+/]{42}", b"", "a key of Azure"),
    (b":_auth", rb"(?:Token)?\s{0,9}=\s{0,9}\"?(?!\$\{|(?i:my|your|x{4}))[^\s\"]{8}", b"", "a token of npm"),
    (b":_password", rb"\s{0,9}=\s{0,9}\"?(?!\$\{|(?i:my|your|x{4}))[^\s\"]{8}", b"", "a password of npm"),
    # Not the examples Aladdin:open sesame, user:password and username:password.
    (
        b"uthorization: ",
        rb"[Bb]asic (?!QWxhZGRpbjpvcGVuIHNlc2FtZQ|dXNlcjpwYXNzd29yZA|dXNlcm5hbWU6cGFzc3dvcmQ)[0-9A-Za-z+/]{12}",
        b"",
        "a password",
    ),
    (b"AUTHORIZATION: ", rb"basic [0-9A-Za-z+/]{12}", b"", "a password"),
)
# The fixed letters, what follows them, what it is. A token is not found within a longer word, nor where it is all x.
TOKENS: tuple[tuple[bytes, bytes, str], ...] = (
    (b"AGE-SECRET-KEY-1", rb"[0-9A-Z]{58}" + _END, "a private key (age)"),
    (b"ya29.", rb"[0-9A-Za-z_-]{30}", "an access token of Google"),
    (b"1//0", rb"[0-9A-Za-z_-]{40}", "a refresh token of Google"),
    (b"AIza", rb"[0-9A-Za-z_-]{35}" + _END, "an API key of Google"),
    (b"GOCSPX-", rb"[0-9A-Za-z_-]{28}" + _END, "a client secret of Google"),
    (b"gh", rb"[pousr]_[0-9A-Za-z]{36}", "a token of GitHub"),
    (b"github_pat_", rb"[0-9A-Za-z_]{60}", "a token of GitHub"),
    (b"gl", rb"(?:pat|rt|dt|ptt|cbt|ft|soat|imt|agent|oas)-[0-9A-Za-z_-]{20}", "a token of GitLab"),
    (rb"AKIA", _AWS_ID, "an access key of AWS"),
    (rb"ASIA", _AWS_ID, "an access key of AWS"),
    (b"xox", rb"[abeoprs]-[0-9]{8,20}-[0-9A-Za-z-]{16}", "a token of Slack"),
    (b"xapp-", rb"[0-9]-[0-9A-Z]{8,14}-[0-9]{8,20}-[0-9a-f]{32}", "a token of Slack"),
    (b"npm_", rb"[0-9A-Za-z]{36}" + _END, "a token of npm"),
    (b"pypi-AgE", rb"[0-9A-Za-z_-]{60}", "a token of PyPI"),
    (b"sk-ant-", rb"[a-z0-9]{3,8}-[0-9A-Za-z_-]{24}", "a key of Anthropic"),
    (b"sk-", rb"(?:proj|svcacct|admin)-[0-9A-Za-z_-]{24}", "a key of OpenAI"),
    (b"sk-", rb"[0-9A-Za-z]{20}T3BlbkFJ[0-9A-Za-z]{20}", "a key of OpenAI"),
    (b"sk_live_", rb"[0-9A-Za-z]{20}", "a key of Stripe"),
    (b"rk_live_", rb"[0-9A-Za-z]{20}", "a key of Stripe"),
    (b"whsec_", rb"[0-9A-Za-z+/]{32}", "a key of Stripe"),
    (b"hf_", rb"[0-9A-Za-z]{34}" + _END, "a token of Hugging Face"),
    (b"SG.", rb"[0-9A-Za-z_-]{22}\.[0-9A-Za-z_-]{43}", "a key of SendGrid"),
    (b"do", rb"[oprt]_v1_[0-9a-f]{64}", "a token of DigitalOcean"),
    (b"hv", rb"[sbr]\.[0-9A-Za-z_-]{24}", "a token of Vault"),
    (b"dckr_", rb"(?:pat|oat)_[0-9A-Za-z_-]{27}", "a token of Docker Hub"),
    (b"dapi", rb"[0-9a-f]{32}" + _END, "a token of Databricks"),
    (b"shp", rb"(?:at|ca|pa|ss)_[0-9a-fA-F]{32}", "a token of Shopify"),
    (b"glsa_", rb"[0-9A-Za-z]{32}_[0-9a-f]{8}", "a token of Grafana"),
    (b"glc_eyJ", rb"[0-9A-Za-z+/]{40}", "a token of Grafana"),
    (b"rubygems_", rb"[0-9a-f]{48}", "a key of RubyGems"),
    (b"tskey-", rb"[a-z]{4,8}-[0-9A-Za-z]{10,24}-[0-9A-Za-z]{20}", "a key of Tailscale"),
    (b"ATATT3xFfGF0", rb"[0-9A-Za-z_=-]{60}", "a token of Atlassian"),
    (b"lin_api_", rb"[0-9A-Za-z]{40}", "a key of Linear"),
    (b"pul-", rb"[0-9a-f]{40}" + _END, "a token of Pulumi"),
    (b"dp.", rb"(?:pt|st|sa|ct)\.[0-9A-Za-z._-]{40}", "a token of Doppler"),
    (b"cio", rb"[0-9A-Za-z]{32}" + _END, "a token of crates.io"),
    (b"nvapi-", rb"[0-9A-Za-z_-]{60}", "a key of NVIDIA"),
    (  # three parts, of which the last signs the others; not the example on jwt.io
        b"eyJ",
        rb"[0-9A-Za-z_-]{10,400}\.eyJ(?!zdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9l)"
        rb"[0-9A-Za-z_-]{10,4000}\.[0-9A-Za-z_-]{40}",
        "a JSON web token",
    ),
)


def _token(letters: bytes, rest: bytes) -> bytes:
    """Return the rest of a token's expression. It also checks, by looking back, the byte before the letters."""
    return rb"(?<![0-9A-Za-z_-]" + re.escape(letters) + rb")(?![xX*]{8})" + rest


_SHAPES = (*KEY_SHAPES, *((letters, _token(letters, rest), b"", what) for letters, rest, what in TOKENS))
_compiled: dict[bytes, re.Pattern[bytes]] = {}  # by the letters and the rest; most are never needed


def find_secret(data: bytes) -> Optional[str]:
    """Return a description of the first secret in some bytes, or None."""
    for letters, rest, also, what in _SHAPES:
        if letters in data and also in data and _expression(letters, rest).search(data):
            return what
    return find_value(data)


def _expression(letters: bytes, rest: bytes) -> re.Pattern[bytes]:
    """Compile an expression on first use: compiling all takes longer than searching."""
    key = letters + rest
    if key not in _compiled:
        _compiled[key] = re.compile(re.escape(letters) + rest)
    return _compiled[key]
