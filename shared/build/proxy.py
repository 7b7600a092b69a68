"""The proxies and certificate authorities of a site, as a plan holds them and as a machine's steps get them.

A plan is stored and shown, so it has addresses and paths alone. What is secret stays in a file of this machine, and is
read when a machine starts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

ALWAYS_DIRECT = ("localhost", "127.0.0.1", "::1", "169.254.169.254")  # of the guest itself, and where it reports to
CREDENTIALS_LIMIT, CA_LIMIT = 4096, 1 << 20  # bytes

_URL = re.compile(
    r"http://(?P<host>[A-Za-z0-9](?:[-A-Za-z0-9._]{0,252})|\[[0-9A-Fa-f:.]{2,45}\]):(?P<port>[0-9]{1,5})/?"
)
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----[\sA-Za-z0-9+/=]+-----END CERTIFICATE-----")
_DIRECT = re.compile(r"\*|[-A-Za-z0-9._]{1,253}|[0-9A-Fa-f:.]{2,45}(?:/[0-9]{1,3})?")


@dataclass(frozen=True)
class ProxyPlan:
    """The proxies of a build on one machine. Paths are absolute."""

    http: str | None = None  # http://HOST:PORT, without user and password
    https: str | None = None
    no_proxy: tuple[str, ...] = ()  # hosts, .domains and networks that are reached directly
    ca: str | None = None  # a PEM file with certificates of authorities
    credentials: str | None = None  # a file that holds USER:PASSWORD

    def urls(self) -> Mapping[str, str]:
        """Return the URLs of the proxies by the keys that name them."""
        named = {"http": self.http, "https": self.https}
        return {key: url for key, url in named.items() if url is not None}

    def places(self) -> tuple[str, ...]:
        """Return HOST:PORT of each proxy, once."""
        return tuple(dict.fromkeys(url.removeprefix("http://") for url in self.urls().values()))


def proxy_url(text: str) -> str:
    """Check the URL of a proxy; return it without a slash at its end. ValueError."""
    if "@" in text:
        raise ValueError(
            "holds a user or a password, and specs are stored and shown; write http://HOST:PORT, and the path of a "
            "file with USER:PASSWORD under credentials"
        )
    match = _URL.fullmatch(text)
    if match is None or not 0 < int(match["port"]) < 1 << 16:
        raise ValueError(f"{text[:200]!r} is no URL of a proxy; write http://HOST:PORT")
    return text.removesuffix("/")


def host_of(url: str) -> tuple[str, int]:
    """Return host and port of the URL of a proxy."""
    match = _URL.fullmatch(url)
    assert match is not None, url
    return match["host"].strip("[]"), int(match["port"])


def direct_host(text: str) -> str:
    """Check one entry of no_proxy. ValueError."""
    if not _DIRECT.fullmatch(text):
        raise ValueError(f"{text[:200]!r} is no host; write a host, .DOMAIN, an address, ADDRESS/BITS or *")
    return text


def read_certificates(data: bytes) -> str:
    """Return the certificates in the text of a PEM file, and nothing else of it. ValueError."""
    if len(data) > CA_LIMIT:
        raise ValueError(f"has more than {CA_LIMIT >> 20} MiB; keep only the certificates of your own authorities")
    if b"PRIVATE KEY-----" in data:
        raise ValueError("holds a private key, which no build may have; name a file with certificates only")
    found = [match[0].decode() for match in _CERTIFICATE.finditer(data)]
    if not found:
        raise ValueError("holds no certificate; name a PEM file, with -----BEGIN CERTIFICATE----- in it")
    return "\n".join(found) + "\n"


def read_credentials(data: bytes) -> tuple[str, str]:
    """Return user and password from the text of a file of credentials. ValueError, which never quotes it."""
    try:
        text = data.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise ValueError("is not UTF-8; write USER:PASSWORD in one line") from error
    user, colon, password = text.partition(":")
    if len(data) > CREDENTIALS_LIMIT or not (user and colon and password) or not text.isprintable():
        raise ValueError("does not hold USER:PASSWORD; write that in one line, and nothing else")
    return user, password


def with_credentials(url: str, credentials: tuple[str, str] | None) -> str:
    """Return the URL of a proxy with user and password in it, as programs take it."""
    if credentials is None:
        return url
    user, password = (quote(part, safe="") for part in credentials)
    return url.replace("://", f"://{user}:{password}@", 1)


def lent_settings(plan: ProxyPlan, credentials: tuple[str, str] | None) -> Mapping[str, str]:
    """Return what a job tells its steps of the proxies: http, https, no_proxy. The values may be secret."""
    urls = {key: with_credentials(url, credentials) for key, url in plan.urls().items()}
    return {**urls, "no_proxy": ",".join((*ALWAYS_DIRECT, *plan.no_proxy))} if urls else {}
