"""Batches: up to a hundred requests without media in one, as multipart/mixed."""

from __future__ import annotations

import email.parser
import email.policy
import uuid
from email.message import Message
from typing import TYPE_CHECKING

from flask import Blueprint, Response, request
from werkzeug.test import EnvironBuilder, run_wsgi_app

from .failures import invalid
from .raw_paths import raw_path
from .request_body import Body

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

_MOST_CALLS = 100
_MOST_BYTES = 10 << 20


def batch(application: WSGIApplication) -> Blueprint:
    """Return the route that hands each request of a batch to the application, one after the other."""
    routes = Blueprint("batch", __name__)

    @routes.post("/batch/storage/v1")
    @routes.post("/batch")
    def run_batch() -> Response:
        whole = Body(request).read(_MOST_BYTES, "A batch")
        head = f"Content-Type: {request.headers.get('Content-Type', '')}\r\n\r\n".encode("latin-1", "replace")
        calls = email.parser.BytesParser(policy=email.policy.compat32).parsebytes(head + whole)
        parts = calls.get_payload()
        if not calls.is_multipart() or not isinstance(parts, list):
            raise invalid("A batch is multipart/mixed.")
        if len(parts) > _MOST_CALLS:
            raise invalid(f"The batch request cannot contain more than {_MOST_CALLS} calls.")
        boundary = f"batch_{uuid.uuid4().hex}"
        answers = b"".join(
            f"--{boundary}\r\n".encode() + _answer(application, part) for part in parts if isinstance(part, Message)
        )
        return Response(answers + f"--{boundary}--\r\n".encode(), content_type=f"multipart/mixed; boundary={boundary}")

    return routes


def _answer(application: WSGIApplication, part: Message) -> bytes:
    """Run one request, given as `METHOD URI HTTP/1.1`, headers, a blank line and a body."""
    payload = part.get_payload(decode=True)
    text = payload if isinstance(payload, bytes) else b""
    line, _, rest = text.partition(b"\n")
    words = line.split()
    if len(words) < 2:
        raise invalid("A part of the batch has no request line.")
    inner = email.parser.BytesParser(policy=email.policy.compat32).parsebytes(rest)
    body = inner.get_payload(decode=True)
    target = words[1].decode("latin-1")
    environ = EnvironBuilder(
        path=target.partition("?")[0],
        query_string=target.partition("?")[2],
        method=words[0].decode("latin-1"),
        base_url=request.host_url,
        headers=_headers(inner),
        data=body if isinstance(body, bytes) else b"",
    ).get_environ()
    environ |= {"REQUEST_URI": target, "werkzeug.socket": request.environ["werkzeug.socket"]}
    if not raw_path(environ).startswith("/storage/v1/") or "alt=media" in environ["QUERY_STRING"]:
        raise invalid("A batch holds requests of the JSON API, without media and without batches.")
    chunks, status, headers = run_wsgi_app(application, environ)
    whole = b"".join(chunks)
    content_id = str(part.get("Content-ID", "<request>")).replace("<", "<response-", 1)
    lines = [f"Content-Type: application/http\r\nContent-ID: {content_id}\r\n", f"HTTP/1.1 {status}"]
    lines += [f"{key}: {value}" for key, value in headers.items()]
    return "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n" + whole + b"\r\n"


def _headers(message: Message) -> list[tuple[str, str]]:
    headers = [(key, str(value)) for key, value in message.items() if key.lower() not in ("content-length", "host")]
    if "Authorization" in request.headers and "Authorization" not in message:
        headers.append(("Authorization", request.headers["Authorization"]))
    return headers
