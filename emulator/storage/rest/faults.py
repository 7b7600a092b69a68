"""Faults on purpose: what a test wants to go wrong, so many times, for the requests that match.

A pattern is searched in `METHOD /path?query`, the path as it was sent (percent-encoded).
"""

from __future__ import annotations

import io
import re
import threading
from dataclasses import dataclass
from typing import Any

from flask import Request, Response

from ...web.http_server import break_connection
from .failures import ApiError

_REASONS = {408: "requestTimeout", 429: "rateLimitExceeded", 500: "internalError", 502: "badGateway"}


@dataclass
class _Fault:
    pattern: re.Pattern[str]
    left: int  # how many requests it will still meet

    def meets(self, text: str) -> bool:
        if self.left > 0 and self.pattern.search(text):
            self.left -= 1
            return True
        return False


@dataclass
class _Answer(_Fault):
    status: int


@dataclass
class _Cut(_Fault):
    after_bytes: int  # of the request's body


@dataclass
class _LostAnswer(_Fault):
    pass


class Faults:
    """The faults of one endpoint, in the order in which they were asked for; a request meets the first that matches."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[_Fault] = []
        self._denied: list[tuple[str, re.Pattern[str]]] = []

    def answer(self, status: int, *, times: int = 1, matching: str = "") -> None:
        """Answer with an error instead of doing anything."""
        self._add(_Answer(re.compile(matching), times, status))

    def break_connection(self, *, times: int = 1, matching: str = "", after_bytes: int = 0) -> None:
        """Cut the connection when so many bytes of the request's body have come in."""
        self._add(_Cut(re.compile(matching), times, after_bytes))

    def lose_answer(self, *, times: int = 1, matching: str = "") -> None:
        """Do what is asked, and cut the connection instead of answering."""
        self._add(_LostAnswer(re.compile(matching), times))

    def deny(self, permission: str, *, matching: str = "") -> None:
        """Refuse what needs a permission, such as storage.objects.get, until clear()."""
        with self._lock:
            self._denied.append((permission, re.compile(matching)))

    def clear(self) -> None:
        """Let everything go well again."""
        with self._lock:
            self._faults.clear()
            self._denied.clear()

    def _add(self, fault: _Fault) -> None:
        with self._lock:
            self._faults.append(fault)

    def before(self, request: Request) -> Response | None:
        """Meet a request before it is served: None, or what to answer instead. Raises ApiError."""
        text = _described(request)
        with self._lock:
            fault = next((fault for fault in self._faults if fault.meets(text)), None)
        if isinstance(fault, _Answer):
            reason = _REASONS.get(fault.status, "backendError")
            raise ApiError(fault.status, reason, f"A fault on purpose: {reason}.")
        if isinstance(fault, _Cut):
            if fault.after_bytes == 0:
                break_connection(request.environ)
                return Response()
            request.environ["wsgi.input"] = _CutBody(request, fault.after_bytes)
        if isinstance(fault, _LostAnswer):
            request.environ["emulator.lost_answer"] = True
        return None

    def after(self, request: Request) -> None:
        """Meet a request that has been served, before its answer is sent."""
        if request.environ.get("emulator.lost_answer"):
            break_connection(request.environ)

    def check(self, request: Request, permission: str, who: str, what: str) -> None:
        """Raise ApiError 403, in Google's words, if `who` may not do this to a `what`: an object or a bucket."""
        text = _described(request)
        with self._lock:
            denied = any(permission == name and pattern.search(text) for name, pattern in self._denied)
        if denied:
            raise ApiError(
                403,
                "forbidden",
                f"{who} does not have {permission} access to the Google Cloud Storage {what}. "
                f"Permission '{permission}' denied on resource (or it may not exist).",
            )


class _CutBody(io.RawIOBase):
    """A request's body whose connection breaks after some bytes."""

    def __init__(self, request: Request, after_bytes: int) -> None:
        self._request = request
        self._body = request.environ["wsgi.input"]
        self._left = after_bytes

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._left == 0:
            break_connection(self._request.environ)
            raise ConnectionResetError
        part = self._body.read(min(len(buffer), self._left))
        buffer[: len(part)] = part
        self._left -= len(part)
        return len(part)


def _described(request: Request) -> str:
    return f"{request.method} {request.environ['REQUEST_URI']}"
