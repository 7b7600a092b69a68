"""A small HTTP/1.1 client, enough for reports: one request on one connection, its whole answer, one time limit for all.

Python's own client takes 0.4 s to import on an emulated CPU, most of it for the parser of mail headers.
"""

from __future__ import annotations

import socket
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Callable

ANSWER_LIMIT = 1 << 20  # bytes


class HttpError(OSError):
    """The answer is not HTTP, or too long."""


class Addresses:
    """The last known addresses of hosts: the clean-up removes the build network's name servers."""

    def __init__(
        self,
        look_up: Callable[..., list[Any]] = socket.getaddrinfo,
        open_one: Callable[..., socket.socket] = socket.create_connection,
    ) -> None:
        self._look_up = look_up
        self._open_one = open_one
        self._known: dict[tuple[str, int], list[Any]] = {}

    def find(self, host: str, port: int) -> list[tuple[str, int]]:
        """Return a host's addresses and ports. OSError when they were never found."""
        try:
            self._known[host, port] = self._look_up(host, port, 0, socket.SOCK_STREAM)
        except socket.gaierror:
            if (host, port) not in self._known:
                raise
        return [address[:2] for *_, address in self._known[host, port]]

    def connect(self, host: str, port: int, seconds: float) -> socket.socket:
        """Connect to the first address that accepts, within some seconds for all of them. OSError of the last one.

        Each gets an equal part of what is left: services of Google have a dozen, and a network may swallow all packets.
        """
        until = time.monotonic() + seconds
        *others, last = self.find(host, port)
        for behind, address in zip(range(len(others), 0, -1), others):
            try:
                return self._open_one(address, _left(until) / (behind + 1))
            except OSError:
                continue
        return self._open_one(last, _left(until))


_ADDRESSES = Addresses()


def request(method: str, url: str, headers: Mapping[str, str], body: bytes, seconds: float) -> tuple[int, bytes]:
    """Send one request; return the status and the body of the answer. OSError, of which HttpError is one."""
    status, _, answer = exchange(method, url, headers, body, seconds)
    return status, answer


def exchange(
    method: str, url: str, headers: Mapping[str, str], body: bytes, seconds: float
) -> tuple[int, dict[str, str], bytes]:
    """Send one request; return the status, the headers by their names in lower case, and the body. OSError."""
    until = time.monotonic() + seconds
    secure, host, port, target = split_url(url)
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}:{port}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines += [f"Content-Length: {len(body)}"] if body or method == "POST" else []
    connection = _ADDRESSES.connect(host, port, seconds)
    try:
        connection.settimeout(_left(until))
        if secure:
            connection = _secured(connection, host)
            connection.settimeout(_left(until))
        connection.sendall("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
        return _read_answer(connection, until)
    finally:
        connection.close()


def split_url(url: str) -> tuple[bool, str, int, str]:
    """Return whether a URL is https, its host, its port, and its path with the query. HttpError for other texts."""
    scheme, mark, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    host, colon, port = authority.rpartition(":")
    if not colon or port.endswith("]"):
        host, port = authority, "443" if scheme == "https" else "80"
    if scheme not in ("http", "https") or not mark or not host or not port.isdecimal():
        raise HttpError(f"{url!r} is not a URL of http or https")
    return scheme == "https", host.strip("[]"), int(port), slash + path or "/"


def _left(until: float) -> float:
    """Return the seconds until a monotonic time. TimeoutError where it is over."""
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError("no complete answer in time")
    return left


def _secured(connection: socket.socket, host: str) -> socket.socket:
    import ssl  # slow to import, and one machine's reports go by plain HTTP

    return ssl.create_default_context().wrap_socket(connection, server_hostname=host)


def _read_answer(connection: socket.socket, until: float) -> tuple[int, dict[str, str], bytes]:
    received = b""
    while True:
        head, blank, body = received.partition(b"\r\n\r\n")
        if blank:
            status, headers = _parse_head(head)
            whole = _body(headers, body)
            if whole is not None:
                return status, headers, whole
        connection.settimeout(_left(until))
        data = connection.recv(65536)
        if not data:
            return _at_end(received)
        received += data
        if len(received) > ANSWER_LIMIT:
            raise HttpError(f"an answer of more than {ANSWER_LIMIT} bytes")


def _parse_head(head: bytes) -> tuple[int, dict[str, str]]:
    first, *rest = head.decode("latin-1").split("\r\n")
    version, _, status = first.partition(" ")
    if not version.startswith("HTTP/1.") or not status[:3].isdecimal():
        raise HttpError(f"not an HTTP answer: {first[:80]!r}")
    pairs = (line.partition(":") for line in rest)
    return int(status[:3]), {name.strip().lower(): value.strip() for name, _, value in pairs}


def _body(headers: Mapping[str, str], body: bytes) -> bytes | None:
    """Return the body, or None where a part of it is missing."""
    if headers.get("transfer-encoding", "").lower() == "chunked":
        return _dechunked(body)
    length = headers.get("content-length", "")
    if length.isdecimal() and len(body) >= int(length):
        return body[: int(length)]
    return None


def _dechunked(body: bytes) -> bytes | None:
    whole = b""
    while True:
        size, end, rest = body.partition(b"\r\n")
        if not end:
            return None
        try:
            length = int(size.split(b";")[0], 16)
        except ValueError as error:
            raise HttpError(f"not the size of a chunk: {size[:80]!r}") from error
        if length == 0:
            return whole
        if len(rest) < length + 2:
            return None
        whole, body = whole + rest[:length], rest[length + 2 :]


def _at_end(received: bytes) -> tuple[int, dict[str, str], bytes]:
    """Parse an answer that ended with its connection; HttpError where it had stated a length."""
    head, blank, body = received.partition(b"\r\n\r\n")
    if not blank:
        raise HttpError("the connection was closed before an answer")
    status, headers = _parse_head(head)
    if "content-length" in headers or "transfer-encoding" in headers:
        raise HttpError("the connection was closed in the middle of the answer")
    return status, headers, body
