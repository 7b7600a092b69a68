"""Serve a machine's http://169.254.169.254: the topic for its reports, and a metadata server without metadata.

The guest is not trusted. Every request gets an HTTP status. A request has at most BODY_LIMIT bytes, a client waits at
most PATIENCE seconds, and when CONNECTIONS are open the newest replaces the oldest, so that a guest can only delay
itself. An Allowance limits how much it publishes; beyond that it gets 429. The server listens on an abstract Unix
socket: a killed process leaves no file behind, and only processes of the same user are accepted.

A Route has a pattern of the path, and a function that turns a Request into a Response. A server may be a proxy as well:
requests for http://HOST/... of other hosts then go to its PackageProxy.
"""

from __future__ import annotations

import binascii
import json
import logging
import math
import os
import re
import secrets
import socket
import socketserver
import struct
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing, nullcontext, suppress
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Self
from urllib.parse import urlsplit

from ..errors import GoldsmithError, LineFull
from ..ports import Message
from ..topology import REPORTS_TOPIC
from .package_proxy import PackageProxy, ProxyAnswer
from .upstream import UpstreamFault

LOG = logging.getLogger(__name__)

BODY_LIMIT = 2 << 20  # bytes; reports have at most some 10 kB, and lists of packages 0.85 MB in base64
CONNECTIONS = 32
PATIENCE = 10.0  # seconds between two pieces of one request
PROXY_PATIENCE = 60.0  # seconds for a guest to take a piece of a file
PUBLISHED_AT_ONCE = 4 << 20  # bytes, with MESSAGE_COST for each message: more than the largest request
PUBLISHED_A_SECOND = 128 << 10  # bytes: an honest VM sends a few reports, of some kB, in that time
MESSAGE_COST = 1 << 10  # bytes that stand for the work of a message, in addition to its size
MOST_MESSAGES = 1000  # in one request: Pub/Sub's own limit
_MESSAGE_KEYS = {"data", "attributes", "orderingKey"}
_LONGEST_NAME = 107  # bytes of an abstract socket's name


@dataclass(frozen=True)
class MetadataRequest:
    """One request. `path` has no query, and `groups` are those of the route's pattern."""

    method: str
    path: str
    headers: Mapping[str, str]  # names in lower case
    body: bytes
    groups: Mapping[str, str]
    query: str = ""  # as it was sent


@dataclass(frozen=True)
class Response:
    """One response, JSON by default."""

    status: int
    body: bytes = b""
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, document: object, status: int = HTTPStatus.OK) -> Self:
        """Make a response of a JSON document."""
        return cls(status, json.dumps(document).encode())

    @classmethod
    def error(cls, status: int, message: str) -> Self:
        """Make a response of an error, in the form of Google's APIs."""
        return cls.of({"error": {"code": int(status), "message": message, "status": HTTPStatus(status).name}}, status)


@dataclass(frozen=True)
class Route:
    """The function that answers requests of one method whose whole path matches `pattern`."""

    method: str
    pattern: re.Pattern[str]
    answer: Callable[[MetadataRequest], Response]
    body_limit: int = BODY_LIMIT


class PublishError(ValueError):
    """The body is not a publish request; the text names the part that is wrong."""


def read_publish_request(topic: str, body: bytes) -> list[Message]:
    """Read a publish request in Pub/Sub's REST form. Raises PublishError.

    {"messages": [{"data": BASE64, "attributes": {...}, "orderingKey": "..."}]}, and nothing else: it comes from a
    machine that runs other people's scripts.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise PublishError("the body is not JSON") from error
    entries = document.get("messages") if isinstance(document, dict) else None
    if not isinstance(entries, list) or not 0 < len(entries) <= MOST_MESSAGES:
        raise PublishError(f"messages: a list of 1 to {MOST_MESSAGES} messages is needed")
    return [_message(topic, entry, f"messages[{index}]") for index, entry in enumerate(entries)]


def _message(topic: str, entry: object, where: str) -> Message:
    if not isinstance(entry, dict) or not entry.keys() <= _MESSAGE_KEYS:
        raise PublishError(f"{where}: an object with no other keys than {', '.join(sorted(_MESSAGE_KEYS))} is needed")
    data, attributes, key = entry.get("data", ""), entry.get("attributes", {}), entry.get("orderingKey", "")
    if not isinstance(data, str) or not isinstance(key, str):
        raise PublishError(f"{where}: data and orderingKey are strings")
    if not isinstance(attributes, dict) or not all(isinstance(value, str) for value in attributes.values()):
        raise PublishError(f"{where}.attributes: an object of strings is needed")
    try:
        decoded = binascii.a2b_base64(data.encode("ascii"), strict_mode=True)
    except ValueError as error:  # binascii.Error and UnicodeEncodeError both are one
        raise PublishError(f"{where}.data: not base64") from error
    if not decoded and not attributes:
        raise PublishError(f"{where}: either data or attributes are needed")
    return Message(topic, decoded, attributes, key)


class PublishAllowance:
    """A token bucket, in bytes: how much one guest may publish at once and per second. Thread-safe."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._left = float(PUBLISHED_AT_ONCE)
        self._since = now()
        self._lock = threading.Lock()

    def refusal(self, size: int) -> Response | None:
        """Take `size` bytes and return None, or return the response that says when there will be enough."""
        with self._lock:
            now = self._now()
            filled = self._left + (now - self._since) * PUBLISHED_A_SECOND
            self._left, self._since = min(filled, PUBLISHED_AT_ONCE), now
            if size <= self._left:
                self._left -= size
                return None
            return too_many(math.ceil((size - self._left) / PUBLISHED_A_SECOND))


def too_many(seconds: int) -> Response:
    """Return the response of Pub/Sub to a sender over its quota, who tries again after so many seconds."""
    document = Response.error(HTTPStatus.TOO_MANY_REQUESTS, "this machine publishes too much; try again later")
    return replace(document, headers={"Retry-After": str(seconds)})


def machine_routes(
    publish: Callable[[Message], None], build_id: str, allowance: PublishAllowance | None = None
) -> tuple[Route, ...]:
    """Return what a build VM needs: the one topic that it may publish to, and 404 for all metadata.

    The ordering key is always the build's, whatever the guest names. With another key it could fill another build's
    queue, or that of a build that does not exist, which is never emptied.
    """
    allowance = allowance or PublishAllowance()

    def publish_reports(request: MetadataRequest) -> Response:
        if request.groups["topic"] != REPORTS_TOPIC:
            return Response.error(HTTPStatus.FORBIDDEN, f"this machine may publish to {REPORTS_TOPIC} alone")
        if refused := allowance.refusal(len(request.body) + MESSAGE_COST):
            return refused
        try:
            messages = read_publish_request(REPORTS_TOPIC, request.body)
        except PublishError as error:
            return Response.error(HTTPStatus.BAD_REQUEST, str(error))
        if refused := allowance.refusal(MESSAGE_COST * (len(messages) - 1)):
            return refused
        try:
            for message in messages:
                publish(replace(message, ordering_key=build_id))
        except LineFull:  # not logged: the guest decides how often this happens
            return too_many(1)
        except GoldsmithError as error:  # the sender tries again; nothing is lost
            LOG.warning("a report could not be taken: %s", error)
            return Response.error(HTTPStatus.SERVICE_UNAVAILABLE, "the message could not be stored; try again")
        return Response.of({"messageIds": [secrets.token_hex(8) for _ in messages]})

    return (
        Route("POST", re.compile(r"/v1/projects/(?P<project>[^/]+)/topics/(?P<topic>[^/:]+):publish"), publish_reports),
        Route("GET", re.compile(r"/(computeMetadata/v1(/.*)?)?"), _no_metadata),
    )


def _no_metadata(request: MetadataRequest) -> Response:
    return Response(HTTPStatus.NOT_FOUND, b"not found\n", "text/plain", {"Metadata-Flavor": "Google"})


class MetadataServer:
    """Serve routes until close(): on an abstract Unix socket, or on a socket that listens in a network namespace."""

    def __init__(
        self,
        name: str,
        routes: Sequence[Route],
        listener: socket.socket | None = None,
        proxy: PackageProxy | None = None,
    ) -> None:
        self.socket_name = f"goldsmith-{secrets.token_hex(8)}-{name}"[:_LONGEST_NAME]
        self._server = _Server(self.socket_name, routes) if listener is None else _NamespaceServer(listener, routes)
        self._server.proxy = proxy
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
    proxy: PackageProxy | None = None

    def __init__(self, name: str, routes: Sequence[Route]) -> None:
        self.routes = tuple(routes)
        self._open: dict[socket.socket, None] = {}  # oldest first
        self._lock = threading.Lock()
        super().__init__("\0" + name, _Handler)

    def verify_request(self, request: object, client_address: object) -> bool:
        """Accept only processes of this user. Abstract sockets have no mode."""
        if not isinstance(request, socket.socket):
            return False
        packed = request.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        _pid, user, _group = struct.unpack("3i", packed)
        if user != os.getuid():
            return False
        self._admit(request)
        return True

    def _admit(self, request: socket.socket) -> None:
        with self._lock:
            while len(self._open) >= CONNECTIONS:
                oldest = next(iter(self._open))
                del self._open[oldest]
                _hang_up(oldest)
            self._open[request] = None

    def shutdown_request(self, request: object) -> None:
        """Forget a connection and close it."""
        if isinstance(request, socket.socket):
            with self._lock:
                self._open.pop(request, None)
            _hang_up(request)
            request.close()

    def close_connections(self) -> None:
        """Shut all connections down, which wakes the threads that wait for a client."""
        with self._lock:
            for connection in self._open:
                _hang_up(connection)

    def handle_error(self, request: object, client_address: object) -> None:
        """Log a broken connection for debugging only."""
        LOG.debug("a connection of the guest broke", exc_info=True)


class _NamespaceServer(_Server):
    """A server on a listening socket of a sandbox's network namespace, which only that sandbox reaches."""

    def __init__(self, listener: socket.socket, routes: Sequence[Route]) -> None:
        self.routes = tuple(routes)
        self._open = {}
        self._lock = threading.Lock()
        self.socket = listener
        socketserver.BaseServer.__init__(self, listener.getsockname(), _Handler)

    def verify_request(self, request: object, client_address: object) -> bool:
        if isinstance(request, socket.socket):
            self._admit(request)
        return True


def _hang_up(connection: socket.socket) -> None:
    with suppress(OSError):  # the other end was faster
        connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    default_request_version = "HTTP/1.0"  # not 0.9, whose answers have no status
    server_version, sys_version = "Metadata-Server", ""
    timeout = PATIENCE
    wbufsize = -1  # buffered: a response is sent in one piece
    server: _Server

    def _serve(self) -> None:
        length = self.headers.get("Content-Length", "0" if self.command in ("GET", "HEAD") else "")
        if self.headers.get("Transfer-Encoding") or not length.isascii() or not length.isdigit():
            self._refuse(HTTPStatus.LENGTH_REQUIRED, "give the body's length in Content-Length")
        elif len(length) > 18 or int(length) > self._most():
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a request is at most {self._most()} bytes")
        else:
            body = self.rfile.read(int(length))
            if len(body) == int(length):
                self._answer_whole(body)
            else:
                self.close_connection = True

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = _serve  # noqa: N815

    def _most(self) -> int:
        """Return how many bytes a request may have: what is served at its path says so."""
        path = urlsplit(self.path).path
        routes = (route for route in self.server.routes if route.method == self.command)
        return max((route.body_limit for route in routes if route.pattern.fullmatch(path)), default=BODY_LIMIT)

    def _answer_whole(self, body: bytes) -> None:
        proxy = self.server.proxy
        if proxy is None or not self.path.lower().startswith("http://"):
            self._answer(self._route(body))
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.connection.settimeout(PROXY_PATIENCE)
        self._forward(proxy.answer(self.command, self.path, headers))
        self.connection.settimeout(PATIENCE)

    def _forward(self, answer: ProxyAnswer) -> None:
        """Send an answer as it comes. One that breaks off ends the connection, by which the guest sees that."""
        chunked = answer.length is None and self.request_version != "HTTP/1.0"
        with closing(answer.pieces) if isinstance(answer.pieces, Generator) else nullcontext():
            self.send_response(answer.status, answer.reason)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            if answer.length is not None:
                self.send_header("Content-Length", str(answer.length))
            elif chunked:
                self.send_header("Transfer-Encoding", "chunked")
            else:
                self.close_connection = True
            self.end_headers()
            try:
                for piece in answer.pieces:
                    self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
                if chunked:
                    self.wfile.write(b"0\r\n\r\n")
            except UpstreamFault as error:
                LOG.warning("a file for a guest broke off: %s", error)
                self.close_connection = True

    def _route(self, body: bytes) -> Response:
        target = urlsplit(self.path)
        matches = [(route, match) for route in self.server.routes if (match := route.pattern.fullmatch(target.path))]
        for route, match in matches:
            if route.method == self.command:
                headers = {name.lower(): value for name, value in self.headers.items()}
                return route.answer(
                    MetadataRequest(self.command, target.path, headers, body, match.groupdict(), target.query)
                )
        if matches:
            return Response.error(HTTPStatus.METHOD_NOT_ALLOWED, f"{self.command} is not done here")
        return Response.error(HTTPStatus.NOT_FOUND, "there is nothing here")

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        self.close_connection = True  # the body that follows is not read
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
        """Log what the guest sends for debugging only."""
        LOG.debug("guest: " + format, *arguments)
