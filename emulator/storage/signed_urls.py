"""V4 signed URLs: GET /BUCKET/OBJECT?X-Goog-Algorithm=GOOG4-RSA-SHA256&..., verified for real.

The signature is over the canonical request, which holds the host that the signer had in mind. Between a VM and this
endpoint a proxy may have changed the Host header; so the names that the endpoint is known by are tried too.
"""

from __future__ import annotations

import datetime
import hashlib
import re
from collections.abc import Iterable, Sequence
from urllib.parse import parse_qsl, quote
from xml.sax.saxutils import escape

from flask import Blueprint, Request, Response, request

from .downloads import media
from .kept.preconditions import number
from .rest.failures import ApiError, not_found
from .service import Service

_OTHER_APIS = ("batch", "download", "resumable", "storage", "upload")  # first segments that are no buckets
_ALGORITHM = "GOOG4-RSA-SHA256"
_CREDENTIAL = re.compile(r"([^/]+)/([0-9]{8})/([^/]+)/storage/goog4_request")
_LONGEST_S = 7 * 24 * 3600
_CLOCKS_DIFFER_BY = datetime.timedelta(minutes=15)
_REQUIRED = ("X-Goog-Credential", "X-Goog-Date", "X-Goog-Expires", "X-Goog-SignedHeaders", "X-Goog-Signature")


class Refused(Exception):
    """A signature that gives no access: the XML API's code, and what is wrong."""

    def __init__(self, code: str, details: str) -> None:
        super().__init__(details)
        self.code = code
        self.details = details


def signed_urls(service: Service, hosts: Iterable[str]) -> Blueprint:
    """Return the route of the XML API that reads an object, for callers with a signature or a token."""
    routes = Blueprint("signed_urls", __name__)
    known = tuple(hosts)

    @routes.get("/<name:bucket>/<rest:key>")
    def get_signed(bucket: str, key: str) -> Response:
        if bucket in _OTHER_APIS:
            raise not_found("Not Found")
        try:
            _authorize(service, request, f"/{bucket}/{key}", known)
            generation = number(request.args, "generation")
            return media(request, *service.store.open(bucket, key, generation))
        except Refused as refusal:
            return _xml(403, refusal.code, "Access denied.", refusal.details)
        except ApiError as error:
            code = {404: "NoSuchKey", 416: "InvalidRange"}.get(error.status, "InvalidArgument")
            return _xml(error.status, code, error.message, "")

    return routes


def _authorize(service: Service, request: Request, path: str, hosts: Sequence[str]) -> None:
    if "X-Goog-Algorithm" in request.args or "X-Goog-Signature" in request.args:
        _verify(service, request, path, hosts)
    elif "Authorization" not in request.headers:
        raise Refused("AccessDenied", "Anonymous caller does not have storage.objects.get access to the object.")


def _verify(service: Service, request: Request, path: str, hosts: Sequence[str]) -> None:
    """Raise Refused unless the request is the one that was signed, and in time."""
    query = request.args
    missing = [key for key in _REQUIRED if key not in query]
    if missing or query.get("X-Goog-Algorithm") != _ALGORITHM:
        raise Refused("AuthenticationRequired", f"{', '.join(missing) or 'X-Goog-Algorithm'} is missing or not served")
    credential = _CREDENTIAL.fullmatch(query["X-Goog-Credential"])
    if not credential or credential[2] != query["X-Goog-Date"][:8]:
        raise Refused("InvalidArgument", "X-Goog-Credential has not the form EMAIL/DATE/LOCATION/storage/goog4_request")
    _check_time(query["X-Goog-Date"], query["X-Goog-Expires"])
    names = query["X-Goog-SignedHeaders"].split(";")
    if "host" not in names:
        raise Refused("InvalidArgument", "the host header is not signed")
    try:
        signature = bytes.fromhex(query["X-Goog-Signature"])
    except ValueError as error:
        raise Refused("SignatureDoesNotMatch", "X-Goog-Signature is not hexadecimal") from error
    scope = query["X-Goog-Credential"].partition("/")[2]
    for host in (request.headers.get("Host", ""), *hosts):
        digest = hashlib.sha256(_canonical(request, path, names, host).encode()).hexdigest()
        signed = "\n".join([_ALGORITHM, query["X-Goog-Date"], scope, digest])
        if service.identity.is_signed(signature, signed.encode()):
            return
    raise Refused("SignatureDoesNotMatch", _canonical(request, path, names, request.headers.get("Host", "")))


def _check_time(date: str, expires: str) -> None:
    try:
        signed_at = datetime.datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.UTC)
    except ValueError as error:
        raise Refused("InvalidArgument", "X-Goog-Date has not the form YYYYMMDDTHHMMSSZ") from error
    if not re.fullmatch(r"[0-9]{1,6}", expires) or not 0 < int(expires) <= _LONGEST_S:
        raise Refused("InvalidArgument", f"X-Goog-Expires is no number of seconds from 1 to {_LONGEST_S}")
    now = datetime.datetime.now(datetime.UTC)
    if signed_at > now + _CLOCKS_DIFFER_BY:
        raise Refused("AccessDenied", f"the URL is valid from {date} on")
    if now >= signed_at + datetime.timedelta(seconds=int(expires)):
        raise Refused("ExpiredToken", f"Request signature expired {expires} s after {date}")


def _canonical(request: Request, path: str, names: Sequence[str], host: str) -> str:
    """Build the canonical request: https://cloud.google.com/storage/docs/authentication/canonical-requests."""
    pairs = parse_qsl(request.query_string.decode("latin-1"), keep_blank_values=True)
    parameters = [f"{quote(key, safe='')}={quote(value, safe='')}" for key, value in pairs if key != "X-Goog-Signature"]
    values = {name: " ".join(request.headers.get(name, "").split()) for name in names} | {"host": host}
    return "\n".join(
        [
            request.method,
            quote(path, safe="/~"),
            "&".join(sorted(parameters)),
            *(f"{name}:{values[name]}" for name in names),
            "",
            ";".join(names),
            request.headers.get("x-goog-content-sha256", "UNSIGNED-PAYLOAD"),
        ]
    )


def _xml(status: int, code: str, message: str, details: str) -> Response:
    text = f"<Error><Code>{code}</Code><Message>{escape(message)}</Message><Details>{escape(details)}</Details></Error>"
    return Response(f"<?xml version='1.0' encoding='UTF-8'?>{text}", status, content_type="application/xml")
