"""Lend the steps what their network needs: proxies, and authorities whose certificates they trust.

All of it is in the steps' environment and in files below /run, which is memory: none of it gets into the image. The
files are written before each step, since an earlier one may have installed the image's own authorities.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, List

    from ..protocol import Job

FOLDER = "run/goldsmith"
AUTHORITIES, BUNDLE = "site-ca.pem", "ca-bundle.pem"  # the site's own; those of the image and the site's own
BUNDLES = (  # of Debian, Enterprise Linux, SUSE, and Container-Optimized OS
    *("etc/ssl/certs/ca-certificates.crt", "etc/pki/tls/certs/ca-bundle.crt", "etc/ssl/ca-bundle.pem"),
    *("var/lib/ca-certificates/ca-bundle.pem", "etc/ssl/cert.pem"),
)
BUNDLE_LIMIT = 4 << 20  # bytes
NAMED_BY = (  # OpenSSL's programs, curl, Python's requests, git, pip, Google Cloud's command line
    *("SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "GIT_SSL_CAINFO", "PIP_CERT"),
    "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",
)
SHORTEST_HIDDEN = 4  # bytes: shorter passwords are parts of any text


class LentNetwork:
    """What the steps of a job get: variables of their environment, and settings of apt."""

    def __init__(self, environment: Dict[str, str], apt: str) -> None:
        self.environment = environment
        self.apt = apt


def lend_network(job: Job, root: str) -> LentNetwork:
    """Write the files below the root; return what leads to them. OSError."""
    environment: Dict[str, str] = {}
    apt = ""
    for key, value in sorted(job.proxy.items()):
        name = key if key == "no_proxy" else key + "_proxy"
        environment[name] = environment[name.upper()] = value
    by_http, by_https = job.package_proxy or job.proxy.get("http"), job.proxy.get("https", "DIRECT")
    if by_http:
        apt += f'Acquire::http::Proxy "{by_http}";\n'
    if by_http or job.proxy:
        apt += f'Acquire::https::Proxy "{by_https}";\n'  # without this, apt takes the one for http
    if job.authorities:
        folder = os.path.join(root, FOLDER)
        os.makedirs(folder, exist_ok=True)
        own, bundle = os.path.join(folder, AUTHORITIES), os.path.join(folder, BUNDLE)
        authorities = job.authorities.encode()
        _write(own, authorities)
        _write(bundle, _authorities_of(root) + authorities)
        environment.update(dict.fromkeys(NAMED_BY, bundle))
        environment["NODE_EXTRA_CA_CERTS"] = own
        apt += f'Acquire::https::CaInfo "{bundle}";\n'
    return LentNetwork(environment, apt)


def proxy_places(job: Job) -> List[str]:
    """Return HOST:PORT of the proxies of a job."""
    return [url.partition("://")[2].rpartition("@")[2] for key, url in sorted(job.proxy.items()) if key != "no_proxy"]


def secrets_of(job: Job) -> List[bytes]:
    """Return the texts by which a step's output would give away the password of a proxy."""
    found: List[bytes] = []
    for key, url in job.proxy.items():
        user, at, _ = url.partition("://")[2].rpartition("@")
        if key == "no_proxy" or not at:
            continue
        from base64 import b64encode  # few jobs have a password
        from urllib.parse import unquote_to_bytes

        name, _, password = user.partition(":")
        plain = unquote_to_bytes(password)
        found += [password.encode(), plain, b64encode(unquote_to_bytes(name) + b":" + plain)]
    return sorted({secret for secret in found if len(secret) >= SHORTEST_HIDDEN}, key=len, reverse=True)


def _authorities_of(root: str) -> bytes:
    """Return the authorities that the image trusts; b"" where it has none."""
    for path in BUNDLES:
        try:
            with open(os.path.join(root, path), "rb") as file:
                data = file.read(BUNDLE_LIMIT)
        except OSError:
            continue
        return data if data.endswith(b"\n") else data + b"\n"
    return b""


def _write(path: str, data: bytes) -> None:
    """Replace a file that every user may read: apt's downloads run as another one."""
    temporary = path + ".new"
    with open(temporary, "wb") as file:
        file.write(data)
    os.chmod(temporary, 0o644)
    os.replace(temporary, path)
