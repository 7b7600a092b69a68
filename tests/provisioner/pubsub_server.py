"""A server to which a provisioner publishes: Pub/Sub's `:publish` and the metadata server's token, on the loopback."""

from __future__ import annotations

import base64
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from provisioner.protocol import decode_report, sign
from tests.provisioner.provisioning import KEY

TOKEN = {"access_token": "secret-token", "expires_in": 3600}


@dataclass
class PubSub:
    """The messages and settings of the server. It answers with `statuses` in turn, then with 200."""

    url: str = ""
    token_url: str = ""
    statuses: list[int] = field(default_factory=list)
    delay: float = 0.0  # seconds before each answer
    chunked: bool = False
    certificate: Path | None = None  # with its key: serve by https
    messages: list[dict[str, Any]] = field(default_factory=list)
    authorizations: list[str | None] = field(default_factory=list)
    tokens_given: int = 0
    closing: threading.Event = field(default_factory=threading.Event)

    def data(self) -> list[bytes]:
        """Return the data of all messages, after checking their attributes and signatures."""
        found = []
        for message in self.messages:
            data, attributes = base64.b64decode(message["data"]), message["attributes"]
            report = decode_report(data)
            assert attributes == {
                "build_id": report.build_id,
                "attempt": str(report.attempt),
                "phase": report.phase,
                "kind": report.kind,
                "signature": sign(KEY, data),
            }
            assert set(message) == {"data", "attributes"}
            found.append(data)
        return found


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    bus: PubSub

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.bus.closing.wait(self.bus.delay)
        status = self.bus.statuses.pop(0) if self.bus.statuses else 200
        self.bus.authorizations.append(self.headers["Authorization"])
        if status == 200:
            self.bus.messages += body["messages"]
        self._answer(status, {"messageIds": ["1" for _ in body["messages"]]})

    def do_GET(self) -> None:
        assert self.headers["Metadata-Flavor"] == "Google"
        self.bus.tokens_given += 1
        self._answer(200, TOKEN)

    def _answer(self, status: int, document: object) -> None:
        data = json.dumps(document).encode()
        self.send_response(status)
        if self.bus.chunked:
            self.send_header("Transfer-Encoding", "chunked")
            data = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (data[:5], data[5:], b""))
        else:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        with suppress(ConnectionError):
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        return


@contextmanager
def pubsub(**settings: Any) -> Iterator[PubSub]:
    """Serve until the end of the block."""
    bus = PubSub(**settings)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"bus": bus}))
    scheme = "http"
    if bus.certificate is not None:
        scheme = "https"
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(bus.certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    bus.url = f"{scheme}://127.0.0.1:{server.server_port}/v1/projects/p/topics/build-reports:publish"
    bus.token_url = f"{scheme}://127.0.0.1:{server.server_port}/computeMetadata/v1/token"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield bus
    finally:
        bus.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()
