"""What the endpoints of this folder share: who is let in, what goes wrong on purpose, and how refusals are answered."""

from __future__ import annotations

import base64
import binascii
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, Self

from flask import Flask, Response, jsonify, request

from ..web.http_server import HttpServer
from ..web.identity import Identity, InvalidToken
from .refusals import Refusal, denied, invalid, unauthenticated


class ApiEndpoint(ABC):
    """Serves a REST API below /v1/, or another version, from its making until close(). Faults: deny(), fail_next().

    A caller without a token may do everything; a token that is not of the emulator is refused.
    """

    def __init__(self, name: str, *, identity: Identity, port: int = 0, version: str = "v1") -> None:
        self._identity = identity
        self._api_version = version
        self._lock = threading.Lock()
        self._denied: set[str] = set()
        self._failures: list[int] = []
        self.asked: list[str] = []  # METHOD /path of each request, in their order
        with ExitStack() as opened:
            self.url = opened.enter_context(HttpServer(self._application(name), port=port)).url
            self._opened = opened.pop_all()

    def close(self) -> None:
        """Serve no more."""
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def deny(self, permission: str) -> None:
        """Refuse what needs a permission, such as cloudkms.cryptoKeyVersions.useToSign, until allow()."""
        with self._lock:
            self._denied.add(permission)

    def allow(self) -> None:
        """Refuse nothing any more."""
        with self._lock:
            self._denied.clear()

    def fail_next(self, status: int, times: int = 1) -> None:
        """Answer requests with an error, so many times."""
        with self._lock:
            self._failures += [status] * times

    @abstractmethod
    def _permission(self, rest: str) -> tuple[str, str]:
        """Return the permission that the request for a path needs, and on which resource."""

    @abstractmethod
    def _answer(self, rest: str) -> Mapping[str, Any]:
        """Answer the request for a path. Refusal."""

    def _application(self, name: str) -> Flask:
        application = Flask(name)

        @application.route(f"/{self._api_version}/<path:rest>", methods=["GET", "POST", "PATCH"])
        def serve(rest: str) -> Response:
            with self._lock:
                self.asked.append(f"{request.method} /{self._api_version}/{rest}")
                status = self._failures.pop(0) if self._failures else 0
            if status:
                raise Refusal(status, "UNAVAILABLE" if status == 503 else "INTERNAL", "A fault on purpose.")
            self._admit(rest)
            return jsonify(self._answer(rest))

        @application.errorhandler(Refusal)
        def refuse(refusal: Refusal) -> Response:
            return refusal.response()

        return application

    def _admit(self, rest: str) -> None:
        header = request.headers.get("Authorization")
        if header is not None:
            try:
                self._identity.verify_access_token(header.removeprefix("Bearer "))
            except InvalidToken as error:
                raise unauthenticated() from error
        permission, resource = self._permission(rest)
        with self._lock:
            if permission in self._denied:
                raise denied(permission, resource)


def json_body() -> Mapping[str, Any]:
    """Return the body of the request. Refusal."""
    found = request.get_json(force=True, silent=True)
    if not isinstance(found, dict):
        raise invalid("Invalid JSON payload received.")
    return found


def decoded(text: object, field: str) -> bytes:
    """Decode base64 of a field, of either alphabet: gcloud writes that of URLs. Refusal."""
    try:
        return base64.b64decode(str(text).replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError) as error:
        raise invalid(f"Invalid value at '{field}' (TYPE_BYTES), Base64 decoding failed.") from error
