"""The server of the emulator's endpoints, and its certificate as strict clients see it."""

from __future__ import annotations

import multiprocessing
import socket
import ssl
import struct
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlsplit

import pytest
from flask import Flask, Response, request

from emulator.web.http_server import LOOPBACK, HttpServer, break_connection, loopback_certificate
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


def test_a_client_whose_connection_is_broken_while_it_sends_is_told_at_once() -> None:
    """Shut down without a reset, some of these connections wait for minutes."""
    application = Flask("broken")

    @application.put("/")
    def take_a_part() -> str:
        request.stream.read(3 << 20)
        break_connection(request.environ)
        raise ConnectionResetError

    with HttpServer(application) as server:
        head = f"PUT / HTTP/1.1\r\nHost: {LOOPBACK}:{server.port}\r\nContent-Length: {8 << 20}\r\n\r\n"
        for _ in range(100):
            client = socket.create_connection((LOOPBACK, server.port), timeout=SECONDS / 2)
            with client, suppress(ConnectionError):
                client.sendall(head.encode() + bytes(8 << 20))
                assert client.recv(1) == b""


@pytest.fixture
def tls_server(tmp_path: Path) -> Iterator[HttpServer]:
    application = Flask("hello")
    application.add_url_rule("/", view_func=lambda: "hello")
    with HttpServer(application, tls=loopback_certificate(tmp_path).server_context()) as served:
        yield served


def test_strict_clients_trust_the_certificate(tls_server: HttpServer, tmp_path: Path) -> None:
    context = ssl.create_default_context(cafile=str(loopback_certificate(tmp_path).ca_file))
    context.verify_flags |= ssl.VERIFY_X509_STRICT  # what Python 3.13 and later do
    for host in ("127.0.0.1", "localhost"):
        url = tls_server.url.replace("127.0.0.1", host)
        with urllib.request.urlopen(url, context=context, timeout=10) as answer:
            assert answer.read() == b"hello"


def test_certificate_is_for_loopback_alone(tls_server: HttpServer, tmp_path: Path) -> None:
    context = ssl.create_default_context(cafile=str(loopback_certificate(tmp_path).ca_file))
    place = urlsplit(tls_server.url)
    with (
        socket.create_connection((place.hostname or "", place.port or 0), timeout=10) as connection,
        pytest.raises(ssl.SSLCertVerificationError, match=r"storage\.googleapis\.com"),
    ):
        context.wrap_socket(connection, server_hostname="storage.googleapis.com")


def test_clients_that_do_not_know_the_certificate_refuse_it(tls_server: HttpServer) -> None:
    with pytest.raises(URLError, match="CERTIFICATE_VERIFY_FAILED"):
        urllib.request.urlopen(tls_server.url, context=ssl.create_default_context(), timeout=10)


def certificate_files(folder: str, number: int) -> tuple[bytes, bytes]:
    certificate = loopback_certificate(Path(folder))
    return certificate.file.read_bytes(), certificate.ca_file.read_bytes()


def test_certificate_of_a_home_of_before_is_kept(tmp_path: Path) -> None:
    made = loopback_certificate(tmp_path / "made")
    key, _, certificates = made.file.read_bytes().partition(b"-----BEGIN CERTIFICATE-----")
    single = b"-----BEGIN CERTIFICATE-----" + certificates.partition(b"-----BEGIN CERTIFICATE-----")[0]
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "loopback.pem").write_bytes(key + single)  # one certificate, its own authority
    kept = loopback_certificate(tmp_path / "home")
    assert (kept.file.read_bytes(), kept.ca_file.read_bytes()) == (key + single, single)


def test_certificate_is_made_once(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        found = pool.starmap(certificate_files, [(str(tmp_path / "home"), number) for number in range(6)])
    [(both, certificate)] = set(found)
    assert both.endswith(certificate)
    assert (tmp_path / "home" / "loopback.pem").stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in (tmp_path / "home").iterdir()) == ["loopback-ca.pem", "loopback.pem"]
