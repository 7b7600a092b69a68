"""From an HTTP request to a call on a collection, and back."""

from __future__ import annotations

import socket
import threading
import uuid
from collections.abc import Callable, Sequence
from functools import partial

from flask import Flask, Request, Response, jsonify, request

from .batch import add_batch
from .calls import Call
from .contract import Contract
from .faults import Faults
from .methods import Method
from .operations import Operations
from .places import Places
from .refusals import Document, Refusal, invalid

BASE = "/compute/v1/"

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
        """Give the application to serve."""
        application = Flask("compute")
        verbs = ["GET", "POST", "PATCH", "DELETE", "PUT"]
        application.add_url_rule(f"{BASE}projects/<project>", "project", partial(self._serve, path=""), methods=verbs)
        application.add_url_rule(f"{BASE}projects/<project>/<path:path>", "path", self._serve, methods=verbs)
        add_batch(application, BASE)
        application.register_error_handler(Refusal, lambda refusal: (jsonify(refusal.document()), refusal.status))
        return application

    def _serve(self, project: str, path: str) -> Response:
        said = f"{request.method} {request.path}"
        self._faults.meet(said)
        document = self._answer(request, project, path)
        if self._faults.loses(said):
            connection: socket.socket = request.environ["werkzeug.socket"]
            connection.shutdown(socket.SHUT_RDWR)
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
        """Tell what makes a repeated request the same one; empty when its sender did not want that."""
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
