"""From an HTTP request to a call on a collection, and back."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Sequence
from email.message import Message
from email.parser import BytesParser
from functools import partial

from flask import Flask, Request, Response, jsonify, request

from ..web.http_server import break_connection
from .methods import Method
from .places import Places
from .rest.calls import Call
from .rest.contract import Contract
from .rest.faults import Faults
from .rest.operations import Operations
from .rest.refusals import Document, Refusal, invalid

BASE = "/compute/v1/"
BATCH = "/batch/compute/v1"  # where gcloud asks for the images of several projects in one request
MOST_PARTS = 1000  # requests of one batch, as Google has it

Authorize = Callable[[str], None]
"""Checks a bearer token. Raises Refusal."""


class Router:
    """Finds the method of a request, lets it be done once, and holds both ends to Google's contract."""

    def __init__(
        self,
        methods: Sequence[Method],
        contract: Contract,
        operations: Operations,
        places: Places,
        faults: Faults,
        authorize: Authorize,
    ) -> None:
        self._methods = methods
        self._contract = contract
        self._operations = operations
        self._places = places
        self._faults = faults
        self._authorize = authorize
        self._changes = threading.Lock()  # two requests that make the same name: the second one sees the first

    def application(self) -> Flask:
        """Return the application to serve."""
        application = Flask("compute")
        verbs = ["GET", "POST", "PATCH", "DELETE", "PUT"]
        application.add_url_rule(f"{BASE}projects/<project>", "project", partial(self._serve, path=""), methods=verbs)
        application.add_url_rule(f"{BASE}projects/<project>/<path:path>", "path", self._serve, methods=verbs)
        application.add_url_rule(BATCH, "batch", partial(_batch, application), methods=["POST"])
        application.register_error_handler(Refusal, lambda refusal: (jsonify(refusal.document()), refusal.status))
        return application

    def _serve(self, project: str, path: str) -> Response:
        said = f"{request.method} {request.path}"
        self._faults.meet(said)
        document = self._answer(request, project, path)
        if self._faults.loses(said):
            break_connection(request.environ)
        return jsonify(document)

    def _answer(self, asked: Request, project: str, path: str) -> Document:
        scheme, _, token = asked.headers.get("Authorization", "").partition(" ")
        if scheme == "Bearer":
            self._authorize(token)
        method, groups = self._method(asked, path)
        body = self._contract.request(method.request, asked.get_data()) if method.request else {}
        key = self._key(asked, body)
        call = Call(
            project, groups.get("scope", ""), method.collection, groups.get("name", ""), body, asked.args.to_dict(), key
        )
        self._faults.check_permission(method.permission, "/".join(filter(None, (call.path, body.get("name", "")))))
        if call.scope.startswith("zones/") and not self._places.has_zone(call.zone):
            raise invalid("zone", call.zone, "Unknown zone.")
        if not method.changes:
            document = method.handler(call)
        else:
            with self._changes:
                document = (self._operations.repeated(key) if key else None) or method.handler(call)
        return self._contract.answer(method.answer, document) if method.answer else document

    def _method(self, asked: Request, path: str) -> tuple[Method, dict[str, str]]:
        found = [(method, match) for method in self._methods if (match := method.pattern.fullmatch(path))]
        for method, match in found:
            if method.http == asked.method:
                return method, match.groupdict()
        status, reason = (405, "httpMethodNotAllowed") if found else (404, "notFound")
        raise Refusal(status, reason, f"{asked.method} {asked.path} is not served by this Compute Engine.")

    def _key(self, asked: Request, body: Document) -> str:
        """Return the key that a repeated request shares with the first; empty for a request without a requestId."""
        identifier = asked.args.get("requestId", "")
        if not identifier:
            return ""
        try:
            zero = uuid.UUID(identifier).int == 0
        except ValueError:
            zero = True
        if zero:
            why = "The request ID must be a valid UUID with the exception that zero UUID is not supported."
            raise invalid("requestId", identifier, why)
        return f"{identifier} {asked.method} {asked.path} {body.get('name', '')}"


def _batch(application: Flask) -> Response:
    """Serve a batch, a multipart/mixed body of requests, by the application's other routes."""
    head = f"Content-Type: {request.headers.get('Content-Type', '')}\r\n\r\n"
    whole = BytesParser().parsebytes(head.encode("latin-1", "replace") + request.get_data())
    parts = whole.get_payload()
    if not isinstance(parts, list) or len(parts) > MOST_PARTS:
        raise Refusal(400, "badRequest", f"A batch is multipart/mixed, of at most {MOST_PARTS} requests.")
    boundary = f"batch_{uuid.uuid4().hex}"
    answers = [_batched(application, part) for part in parts if isinstance(part, Message)]
    body = b"".join(f"--{boundary}\r\n".encode() + answer for answer in answers) + f"--{boundary}--\r\n".encode()
    return Response(body, content_type=f"multipart/mixed; boundary={boundary}")


def _batched(application: Flask, part: Message) -> bytes:
    """Serve one request of a batch, given as `METHOD TARGET HTTP/1.1`, headers, a blank line and a body."""
    payload = part.get_payload(decode=True)
    line, _, rest = (payload if isinstance(payload, bytes) else b"").partition(b"\n")
    method, _, target = line.decode("latin-1").strip().removesuffix(" HTTP/1.1").partition(" ")
    if not target.startswith(BASE):
        raise Refusal(400, "badRequest", f"A part of the batch does not ask for a path below {BASE}.")
    inner = BytesParser().parsebytes(rest)
    body = inner.get_payload(decode=True)
    authorization = inner.get("Authorization") or request.headers.get("Authorization")
    answer = application.test_client().open(
        target,
        method=method,
        data=body if isinstance(body, bytes) else b"",
        headers={"Authorization": str(authorization)} if authorization else {},
        content_type="application/json",
    )
    content_id = str(part.get("Content-ID", "<request>")).replace("<", "<response-", 1)
    head = f"Content-Type: application/http\r\nContent-ID: {content_id}\r\n\r\nHTTP/1.1 {answer.status}\r\n"
    data: bytes = answer.data
    return f"{head}Content-Type: {answer.content_type}\r\n\r\n".encode() + data + b"\r\n"
