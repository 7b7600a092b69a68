"""The certificate for loopback, as strict clients see it."""

from __future__ import annotations

import multiprocessing
import socket
import ssl
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlsplit

import pytest
from flask import Flask

from emulator.certificate import loopback_certificate
from emulator.http_server import HttpServer


@pytest.fixture
def server(tmp_path: Path) -> Iterator[HttpServer]:
    application = Flask("hello")
    application.add_url_rule("/", view_func=lambda: "hello")
    with HttpServer(application, tls=loopback_certificate(tmp_path).server_context()) as served:
        yield served


def test_strict_clients_trust_it(server: HttpServer, tmp_path: Path) -> None:
    context = ssl.create_default_context(cafile=str(loopback_certificate(tmp_path).ca_file))
    context.verify_flags |= ssl.VERIFY_X509_STRICT  # what Python 3.13 and later do
    for host in ("127.0.0.1", "localhost"):
        url = server.url.replace("127.0.0.1", host)
        with urllib.request.urlopen(url, context=context, timeout=10) as answer:
            assert answer.read() == b"hello"


def test_it_is_for_loopback_alone(server: HttpServer, tmp_path: Path) -> None:
    context = ssl.create_default_context(cafile=str(loopback_certificate(tmp_path).ca_file))
    place = urlsplit(server.url)
    with (
        socket.create_connection((place.hostname or "", place.port or 0), timeout=10) as connection,
        pytest.raises(ssl.SSLCertVerificationError, match=r"storage\.googleapis\.com"),
    ):
        context.wrap_socket(connection, server_hostname="storage.googleapis.com")


def test_nobody_else_trusts_it(server: HttpServer) -> None:
    with pytest.raises(URLError, match="CERTIFICATE_VERIFY_FAILED"):
        urllib.request.urlopen(server.url, context=ssl.create_default_context(), timeout=10)


def made(folder: str, number: int) -> tuple[bytes, bytes]:
    certificate = loopback_certificate(Path(folder))
    return certificate.file.read_bytes(), certificate.ca_file.read_bytes()


def test_it_is_made_once(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        found = pool.starmap(made, [(str(tmp_path / "home"), number) for number in range(6)])
    [(both, certificate)] = set(found)
    assert both.endswith(certificate)
    assert (tmp_path / "home" / "loopback.pem").stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in (tmp_path / "home").iterdir()) == ["loopback-ca.pem", "loopback.pem"]
