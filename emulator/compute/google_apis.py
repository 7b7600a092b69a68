"""Google's other services as a guest reaches them, at http://169.254.169.253: Pub/Sub, Cloud Storage, secrets.

A build VM's account may publish to build-reports and do nothing else. Objects are read by signed URLs, which carry
their own permission and name the host that they were signed for, and written by sessions that others have opened.
Values of secrets are for tokens of the guest's own.
"""

from __future__ import annotations

import json
import logging
import re
import secrets
from collections.abc import Callable, Sequence
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit

from shared.errors import GoldsmithError
from shared.machines.metadata_server import (
    MESSAGE_COST,
    MetadataRequest,
    PublishAllowance,
    PublishError,
    Response,
    Route,
    read_publish_request,
)
from shared.ports import Message
from shared.topology import REPORTS_TOPIC

LOG = logging.getLogger(__name__)

ADDRESS = "169.254.169.253"
Publish = Callable[[Message], None] | str
"""Takes a message; or the HOST:PORT of Pub/Sub's emulator."""

_PATIENCE = 60.0  # seconds that a service may take to answer
_PASSED_ON = ("range", "accept-encoding", "if-match", "if-none-match")
_PART_LIMIT = 16 << 20  # bytes of a part of an upload; the provisioner's have 8 MiB
_PASSED_BACK = ("content-encoding", "range", "content-range", "etag", "x-goog-generation", "x-goog-hash")


class GoogleApis:
    """What one guest may do. `tokens` are those that its metadata server has given it."""

    def __init__(
        self, publish: Publish, storage_url: str, project: str, tokens: set[str], *, secrets_url: str = ""
    ) -> None:
        self._publish = publish
        self._storage = urlsplit(storage_url).netloc
        self._secrets = urlsplit(secrets_url).netloc
        self._project = project
        self._tokens = tokens
        self._allowance = (
            PublishAllowance()
        )  # one machine's, not a project's as on Google Cloud: this machine has other guests

    def routes(self) -> Sequence[Route]:
        """What is served."""
        topic = r"/v1/projects/(?P<project>[^/]+)/topics/(?P<topic>[^/:]+):publish"
        return (
            Route("POST", re.compile(topic), self._publish_reports),
            Route("GET", re.compile(r"/v1/projects/[^/]+/secrets/[^/]+/versions/[^/:]+:access"), self._secret),
            Route("GET", re.compile(r"/(?P<bucket>[^/]+)/.+"), self._object),
            Route("PUT", re.compile(r"/upload/storage/v1/b/[^/]+/o"), self._upload, body_limit=_PART_LIMIT),
        )

    def _secret(self, request: MetadataRequest) -> Response:
        return self._stranger(request) or _forwarded(self._secrets, request, {})

    def _stranger(self, request: MetadataRequest) -> Response | None:
        """Return the refusal of a request without a token that the metadata server has given this guest."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme == "Bearer" and token in self._tokens:
            return None
        message = "Request had invalid authentication credentials. Expected OAuth 2 access token."
        return _error(HTTPStatus.UNAUTHORIZED, "UNAUTHENTICATED", message)

    def _publish_reports(self, request: MetadataRequest) -> Response:
        if stranger := self._stranger(request):
            return stranger
        if request.groups["topic"] != REPORTS_TOPIC or request.groups["project"] != self._project:
            return _error(HTTPStatus.FORBIDDEN, "PERMISSION_DENIED", "User not authorized to perform this action.")
        if refused := self._allowance.refusal(len(request.body) + MESSAGE_COST):
            return refused
        try:
            messages = read_publish_request(REPORTS_TOPIC, request.body)
        except PublishError as error:
            return _error(HTTPStatus.BAD_REQUEST, "INVALID_ARGUMENT", str(error))
        if refused := self._allowance.refusal(MESSAGE_COST * (len(messages) - 1)):
            return refused
        if isinstance(self._publish, str):
            return _forwarded(self._publish, request, {"Content-Type": "application/json"})
        try:
            for each in messages:
                self._publish(each)
        except GoldsmithError as error:  # the sender tries again; nothing is lost
            LOG.warning("a report could not be taken: %s", error)
            return _error(
                HTTPStatus.SERVICE_UNAVAILABLE, "UNAVAILABLE", "The service was unable to fulfill your request."
            )
        return Response(HTTPStatus.OK, json.dumps({"messageIds": [secrets.token_hex(8) for _ in messages]}).encode())

    def _object(self, request: MetadataRequest) -> Response:
        if "X-Goog-Signature=" not in request.query:
            return _error(HTTPStatus.FORBIDDEN, "PERMISSION_DENIED", "Anonymous caller does not have access.")
        headers = {name: request.headers[name] for name in ("host", *_PASSED_ON) if name in request.headers}
        return _forwarded(self._storage, request, headers)

    def _upload(self, request: MetadataRequest) -> Response:
        if "upload_id=" not in request.query:
            return _error(HTTPStatus.UNAUTHORIZED, "UNAUTHENTICATED", "Anonymous caller does not have access.")
        headers = {name: request.headers[name] for name in ("content-range",) if name in request.headers}
        return _forwarded(self._storage, request, {**headers, "Content-Length": str(len(request.body))})


def _forwarded(server: str, request: MetadataRequest, headers: dict[str, str]) -> Response:
    """Let another server of this machine answer."""
    connection = HTTPConnection(server, timeout=_PATIENCE)
    target = request.path + (f"?{request.query}" if request.query else "")
    try:
        connection.request(request.method, target, request.body or None, headers)
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, HTTPException) as error:
        LOG.warning("%s does not answer: %s", server, error)
        return _error(HTTPStatus.SERVICE_UNAVAILABLE, "UNAVAILABLE", "The service is currently unavailable.")
    finally:
        connection.close()
    kept = {name: value for name, value in answer.getheaders() if name.lower() in _PASSED_BACK}
    return Response(answer.status, body, answer.getheader("Content-Type", "application/octet-stream"), kept)


def _error(status: HTTPStatus, name: str, message: str) -> Response:
    document = {"error": {"code": int(status), "message": message, "status": name}}
    return Response(status, json.dumps(document).encode())
