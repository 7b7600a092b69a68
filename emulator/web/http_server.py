"""One of the emulator's HTTP endpoints: a Flask application on a port of loopback, in threads of this process.

Plain HTTP, or TLS with a certificate of the emulator's own, for clients that speak nothing else (gsutil).
"""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import trustme
from flask import Flask
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from .admission import admitted
from .secret_files import made_once, write_secret

LOOPBACK = "127.0.0.1"
HOME_OPTION = "--home"  # what a person changes to keep the state elsewhere

_ANSWER = "goldsmith.answer"


class _Handler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"  # bodies in chunks need it; Werkzeug closes each connection all the same
    disable_nagle_algorithm = True  # answers go out in two pieces, and the second one would wait 40 ms

    def log(self, type: str, message: str, *args: object) -> None:  # noqa: A002 - the base class's name for it
        """Log nothing."""

    def connection_dropped(self, error: BaseException, environ: WSGIEnvironment | None = None) -> None:
        """Close the answer, and its file, which Werkzeug forgets when the client cuts the connection off."""
        close = getattr((environ or {}).get(_ANSWER), "close", None)
        if close is not None:
            close()


class _Application:
    """An application whose answers the handler can find."""

    def __init__(self, application: WSGIApplication) -> None:
        self._application = application

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        answer = self._application(environ, start_response)
        environ[_ANSWER] = answer
        return answer


def break_connection(environ: WSGIEnvironment) -> None:
    """Break the connection of a request off, as a machine does that is gone: what the client sends still is reset.

    Shut down alone, it may wait for minutes with a window of zero, which nobody opens any more.
    """
    connection: socket.socket = environ["werkzeug.socket"]
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.shutdown(socket.SHUT_RDWR)


class HttpServer:
    """Serves an application from its making until close(); `port` is chosen by the kernel unless given.

    Web pages are not served, but those of the application itself; `names` are hosts that it is known by (admission.py).
    """

    def __init__(
        self, application: Flask, *, port: int = 0, tls: ssl.SSLContext | None = None, names: Collection[str] = ()
    ) -> None:
        guarded = _Application(admitted(application, lambda: self.port, names))
        self._server: BaseWSGIServer = make_server(
            LOOPBACK, port, guarded, threaded=True, request_handler=_Handler, ssl_context=tls
        )
        if isinstance(self._server.socket, ssl.SSLSocket):  # else a client that says nothing would hold up all others
            self._server.socket.do_handshake_on_connect = False  # type: ignore[attr-defined] # typeshed lacks it
        self.port = self._server.server_port
        self.url = f"{'https' if tls else 'http'}://{LOOPBACK}:{self.port}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), daemon=True, name=f"http-{application.name}"
        )
        self._thread.start()

    def close(self) -> None:
        """Take no more connections; those that are open end with this process."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True)
class Certificate:
    """A server's key and certificates in `file`; clients that trust the certificate in `ca_file` trust the server."""

    file: Path
    ca_file: Path

    def server_context(self) -> ssl.SSLContext:
        """Return the TLS settings of a server with this certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.file)
        return context


def loopback_certificate(folder: Path) -> Certificate:
    """Return the certificate for 127.0.0.1 and localhost, which is made once below a folder."""
    pem = made_once(folder / "loopback.pem", _key_and_certificates)
    certificate = Certificate(folder / "loopback.pem", folder / "loopback-ca.pem")
    write_secret(certificate.ca_file, pem[pem.rindex(b"-----BEGIN CERTIFICATE-----") :])
    return certificate


def _key_and_certificates() -> bytes:
    """Return a key, its certificate, and last the certificate of the authority that issued it, whose key is gone."""
    authority = trustme.CA(organization_name="Goldsmith's emulator")
    issued = authority.issue_cert(LOOPBACK, "localhost", organization_name="Goldsmith's emulator")
    return issued.private_key_and_cert_chain_pem.bytes() + authority.cert_pem.bytes()
