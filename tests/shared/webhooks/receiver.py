"""A receiver of webhooks on loopback, which answers as it is told and keeps what it gets."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Receiver:
    """`answers` are the statuses of the next requests; then 204, or 200 with `body`."""

    url: str = ""
    body: bytes = b""
    answers: list[int] = field(default_factory=list)
    got: list[tuple[Mapping[str, str], bytes]] = field(default_factory=list)
    silent: threading.Event = field(default_factory=threading.Event)  # set: the next answers come byte by byte
    ended: threading.Event = field(default_factory=threading.Event)

    def wait_for(self, holds: Callable[[Sequence[bytes]], bool], seconds: float = 60) -> None:
        """Wait until the bodies are as they should be."""
        end = time.monotonic() + seconds
        while not holds(self.bodies):
            assert time.monotonic() < end, f"{len(self.got)} calls came, and not those that should"
            time.sleep(0.1)

    @property
    def bodies(self) -> Sequence[bytes]:
        return [body for _, body in self.got]


@contextmanager
def receiver() -> Iterator[Receiver]:
    """Serve for the length of a block."""
    kept = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            kept.got.append(({key.lower(): value for key, value in self.headers.items()}, body))
            while kept.silent.is_set() and not kept.ended.wait(0.05):
                self.wfile.write(b"X")  # no status line, ever
            status = kept.answers.pop(0) if kept.answers else 200 if kept.body else 204
            self.send_response(status)
            if status in (301, 302, 307, 308):
                self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", str(len(kept.body)))
            self.end_headers()
            self.wfile.write(kept.body)

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        kept.url = f"http://127.0.0.1:{server.server_address[1]}/hook"
        try:
            yield kept
        finally:
            kept.ended.set()
            server.shutdown()
            thread.join()
