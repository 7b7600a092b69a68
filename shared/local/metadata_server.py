"""What a machine finds at http://169.254.169.254: the topic for its reports, and a metadata server that knows nothing.

The guest is not trusted. Whatever it sends gets a status of HTTP; one request is at most BODY_LIMIT bytes, one client
waits at most PATIENCE seconds, and when CONNECTIONS are open the oldest gives way to the newest, so that a guest can
only keep itself waiting. The server listens on an abstract Unix socket: it has no file that a killed process could
leave behind, its name may be long, and only processes of the same user are let in.

More addresses are more routes: a pattern of the path, and a function that turns a Request into a Response.
"""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import socket
import socketserver
import struct
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Self
from urllib.parse import urlsplit

from ..errors import GoldsmithError
from ..messages import REPORTS_TOPIC
from ..ports import Message
from .pubsub_json import PublishError, read_publish_request

LOG = logging.getLogger(__name__)

BODY_LIMIT = 2 << 20  # bytes; a report is at most some 10 kB, but for a list of packages: 0.85 MB in base64
CONNECTIONS = 32
PATIENCE = 10.0  # seconds between two pieces of one request
_LONGEST_NAME = 107  # bytes of an abstract socket's name


@dataclass(frozen=True)
class Request:
    """One request. `path` is without the query, `groups` what the route's pattern found in it."""

    method: str
    path: str
    headers: Mapping[str, str]  # names in lower case
    body: bytes
    groups: Mapping[str, str]
    query: str = ""  # as it was sent


@dataclass(frozen=True)
class Response:
    """One answer, JSON unless it says otherwise."""

    status: int
    body: bytes = b""
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, document: object, status: int = HTTPStatus.OK) -> Self:
        """Answer with a JSON document."""
        return cls(status, json.dumps(document).encode())

    @classmethod
    def error(cls, status: int, message: str) -> Self:
        """Answer as Google's APIs say what is wrong."""
        return cls.of({"error": {"code": int(status), "message": message, "status": HTTPStatus(status).name}}, status)


@dataclass(frozen=True)
class Route:
    """Where requests of one method go whose path matches `pattern` as a whole."""

    method: str
    pattern: re.Pattern[str]
    answer: Callable[[Request], Response]


def machine_routes(publish: Callable[[Message], None], build_id: str) -> tuple[Route, ...]:
    """What a VM of a build needs: the one topic that it may publish to, and a clear no for all metadata.

    Whatever ordering key the guest names, its messages get into its own build's line: another one's is not its to fill,
    and nobody would ever empty that of a build that there is not.
    """

    def publish_reports(request: Request) -> Response:
        if request.groups["topic"] != REPORTS_TOPIC:
            return Response.error(HTTPStatus.FORBIDDEN, f"this machine may publish to {REPORTS_TOPIC} alone")
        try:
            messages = read_publish_request(REPORTS_TOPIC, request.body)
        except PublishError as error:
            return Response.error(HTTPStatus.BAD_REQUEST, str(error))
        try:
            for message in messages:
                publish(replace(message, ordering_key=build_id))
        except GoldsmithError as error:  # the sender tries again; nothing is lost
            LOG.warning("a report could not be taken: %s", error)
            return Response.error(HTTPStatus.SERVICE_UNAVAILABLE, "the message could not be stored; try again")
        return Response.of({"messageIds": [secrets.token_hex(8) for _ in messages]})

    return (
        Route("POST", re.compile(r"/v1/projects/(?P<project>[^/]+)/topics/(?P<topic>[^/:]+):publish"), publish_reports),
        Route("GET", re.compile(r"/(computeMetadata/v1(/.*)?)?"), _no_metadata),
    )


def _no_metadata(request: Request) -> Response:
    return Response(HTTPStatus.NOT_FOUND, b"not found\n", "text/plain", {"Metadata-Flavor": "Google"})


class MetadataServer:
    """Serves routes on an abstract Unix socket from its making until close()."""

    def __init__(self, name: str, routes: Sequence[Route]) -> None:
        self.socket_name = f"goldsmith-{secrets.token_hex(8)}-{name}"[:_LONGEST_NAME]
        self._server = _Server(self.socket_name, routes)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), daemon=True, name=f"http-{name}"
        )
        self._thread.start()

    def close(self) -> None:
        """Close the socket and all connections."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._server.close_connections()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = CONNECTIONS

    def __init__(self, name: str, routes: Sequence[Route]) -> None:
        self.routes = tuple(routes)
        self._open: dict[socket.socket, None] = {}  # oldest first
        self._lock = threading.Lock()
        super().__init__("\0" + name, _Handler)

    def verify_request(self, request: object, client_address: object) -> bool:
        """Let in only the user who runs this; abstract sockets have no mode that could say so."""
        if not isinstance(request, socket.socket):
            return False
        packed = request.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        _pid, user, _group = struct.unpack("3i", packed)
        if user != os.getuid():
            return False
        with self._lock:
            while len(self._open) >= CONNECTIONS:
                oldest = next(iter(self._open))
                del self._open[oldest]
                _hang_up(oldest)
            self._open[request] = None
        return True

    def shutdown_request(self, request: object) -> None:
        """Forget a connection and close it."""
        if isinstance(request, socket.socket):
            with self._lock:
                self._open.pop(request, None)
            _hang_up(request)
            request.close()

    def close_connections(self) -> None:
        """Wake the threads that wait for a client."""
        with self._lock:
            for connection in self._open:
                _hang_up(connection)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say that a client went away in mid-sentence, where anybody wants to know."""
        LOG.debug("a connection of the guest broke", exc_info=True)


def _hang_up(connection: socket.socket) -> None:
    with suppress(OSError):  # the other end was faster
        connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    default_request_version = "HTTP/1.0"  # not 0.9, whose answers have no status
    server_version, sys_version = "Metadata-Server", ""
    timeout = PATIENCE
    wbufsize = -1  # an answer goes out in one piece
    server: _Server

    def _serve(self) -> None:
        length = self.headers.get("Content-Length", "0" if self.command in ("GET", "HEAD") else "")
        if self.headers.get("Transfer-Encoding") or not length.isascii() or not length.isdigit():
            self._refuse(HTTPStatus.LENGTH_REQUIRED, "give the body's length in Content-Length")
        elif len(length) > 18 or int(length) > BODY_LIMIT:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a request is at most {BODY_LIMIT} bytes")
        else:
            body = self.rfile.read(int(length))
            if len(body) == int(length):
                self._answer(self._route(body))
            else:
                self.close_connection = True

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = _serve  # noqa: N815

    def _route(self, body: bytes) -> Response:
        target = urlsplit(self.path)
        matches = [(route, match) for route in self.server.routes if (match := route.pattern.fullmatch(target.path))]
        for route, match in matches:
            if route.method == self.command:
                headers = {name.lower(): value for name, value in self.headers.items()}
                return route.answer(Request(self.command, target.path, headers, body, match.groupdict(), target.query))
        if matches:
            return Response.error(HTTPStatus.METHOD_NOT_ALLOWED, f"{self.command} is not done here")
        return Response.error(HTTPStatus.NOT_FOUND, "there is nothing here")

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        self.close_connection = True  # what follows is a body that nobody reads
        self._answer(Response.error(status, message))

    def _answer(self, response: Response) -> None:
        self.send_response(response.status)
        for name, value in response.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", response.content_type)
        self.send_header("Content-Length", str(len(response.body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(response.body)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class's name for it
        """Keep the guest's words out of our log unless they are asked for."""
        LOG.debug("guest: " + format, *arguments)
