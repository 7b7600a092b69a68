"""A function that records its requests and answers as a test says."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from flask import Flask, request

from emulator.web.http_server import HttpServer

SECONDS = 60.0  # for anything here to happen


@dataclass(frozen=True)
class Heard:
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes
    json: Any


class Listener:
    """Its `answer` gives the status for a request, 200 unless told otherwise; it may take its time."""

    def __init__(self) -> None:
        self.heard: list[Heard] = []
        self.answer: Callable[[Heard], int] = lambda _heard: 200
        self.url = ""
        self._news = threading.Condition()

    @contextmanager
    def serving(self) -> Iterator[None]:
        application = Flask("listener")

        @application.post("/", defaults={"path": ""})
        @application.post("/<path:path>")
        def take(path: str) -> tuple[str, int]:
            heard = Heard(path, dict(request.headers), request.get_data(), request.get_json(silent=True))
            with self._news:
                self.heard.append(heard)
                self._news.notify_all()
            return "", self.answer(heard)

        with HttpServer(application) as server:
            self.url = server.url
            yield

    def wait_for(self, count: int) -> list[Heard]:
        """Wait until so many requests have come."""
        return self.wait_until(lambda heard: len(heard) >= count)

    def wait_until(self, is_enough: Callable[[list[Heard]], bool]) -> list[Heard]:
        """Wait until such requests have come."""
        with self._news:
            assert self._news.wait_for(lambda: is_enough(self.heard), SECONDS), f"only {self.heard}"
            return list(self.heard)
