"""A package mirror on the loopback of this host, and connections that lead to it whatever the name of a host."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Reply = tuple[int, Mapping[str, str], bytes]


@dataclass
class Mirror:
    """A running mirror. `files` are its answers by path; one that is called may look at the request's headers."""

    files: dict[str, bytes | Callable[[Mapping[str, str]], Reply]] = field(default_factory=dict)
    asked: list[tuple[str, Mapping[str, str]]] = field(default_factory=list)  # target and headers of each request
    connections: list[tuple[str, int]] = field(default_factory=list)  # what was to be connected to
    port: int = 0

    def connect(self, host: str, port: int) -> socket.socket:
        self.connections.append((host, port))
        if host.startswith("down."):
            raise OSError("Connection refused")
        return socket.create_connection(("127.0.0.1", self.port), 10)

    def paths(self) -> list[str]:
        """Return the paths that were asked for since the last call."""
        found = [target for target, _ in self.asked]
        self.asked.clear()
        return found


def versioned(data: bytes, etag: str) -> Callable[[Mapping[str, str]], Reply]:
    """Return what answers with a file of a version, or that the asker has that version."""

    def reply(headers: Mapping[str, str]) -> Reply:
        named = {"ETag": etag, "Last-Modified": "Sat, 01 Nov 2026 00:00:00 GMT"}
        return (304, named, b"") if headers.get("If-None-Match") == etag else (200, named, data)

    return reply


def missing() -> Reply:
    return 404, {}, b"no such file"


@contextmanager
def running_mirror() -> Iterator[Mirror]:
    mirror = Mirror()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            mirror.asked.append((self.path, dict(self.headers.items())))
            found = mirror.files.get(self.path)
            if found is None:
                status, headers, body = missing()
            elif isinstance(found, bytes):
                status, headers, body = 200, {}, found
            else:
                status, headers, body = found(dict(self.headers.items()))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if status != 304 and "Transfer-Encoding" not in headers and "Content-Length" not in headers:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    mirror.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield mirror
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
