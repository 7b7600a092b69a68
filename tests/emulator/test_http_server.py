"""What serves the emulator's endpoints."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator

from flask import Flask, Response

from emulator.http_server import LOOPBACK, HttpServer
from tests.emulator.listener import SECONDS


def test_answer_is_closed_when_its_client_cuts_the_connection() -> None:
    application, closed, is_cut = Flask("cut"), threading.Event(), threading.Event()

    def blocks() -> Iterator[bytes]:
        yield b"x"
        is_cut.wait(SECONDS)

    @application.get("/")
    def answer() -> Response:
        made = Response(blocks(), headers={"Content-Length": "1"})  # nothing is written after the block
        made.call_on_close(closed.set)
        return made

    with HttpServer(application) as server:
        client = socket.create_connection((LOOPBACK, server.port))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset, as of a kill
        client.sendall(f"GET / HTTP/1.1\r\nHost: {LOOPBACK}:{server.port}\r\n\r\n".encode())
        received = b""
        while not received.endswith(b"\r\n\r\nx"):
            received += client.recv(1000)
        client.close()
        is_cut.set()
        assert closed.wait(SECONDS)
