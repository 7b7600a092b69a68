"""The web server of one machine: the loopback address, a thread for each request, nothing in the log but faults."""

from __future__ import annotations

import socket

from flask import Flask
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

LOOPBACK_ADDRESS = "127.0.0.1"
PATIENCE = 30.0  # seconds that a client may take to send its request


class _Handler(WSGIRequestHandler):
    """Names no version in its answers, and logs no requests: their addresses may hold a token."""

    timeout = PATIENCE
    protocol_version = "HTTP/1.1"

    def version_string(self) -> str:
        return "goldsmith"

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Log nothing."""


def loopback_socket(port: int) -> socket.socket:
    """Return a socket that listens on this machine alone; on any free port for 0. OSError."""
    return socket.create_server((LOOPBACK_ADDRESS, port))


def local_server(bound: socket.socket, app: Flask) -> BaseWSGIServer:
    """Return what serves an application on a socket, of which it takes a copy."""
    port = bound.getsockname()[1]
    return make_server(LOOPBACK_ADDRESS, port, app, threaded=True, request_handler=_Handler, fd=bound.fileno())
