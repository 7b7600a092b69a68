"""Resumable uploads: bytes that come in several requests, over connections that break.

    POST ?uploadType=resumable   metadata              -> 200, Location: the session
    PUT  session                 bytes 0-999/*         -> 308, Range: bytes=0-999 (what is kept; absent for nothing)
    PUT  session                 bytes */3000          -> 308, how far it has come
    PUT  session                 bytes 1000-2999/3000  -> 200, the object

Sessions live as long as the endpoint; a client that finds its session gone (404) begins again.
"""

from __future__ import annotations

import re
import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flask import Request, Response, jsonify

from .kept.preconditions import Preconditions, preconditions
from .kept.staged_data import StagedData, sums_of
from .kept.stored_object import StoredObject, checked_name, settings_of, without_nulls
from .rest.failures import ApiError, invalid, not_found
from .rest.request_body import BLOCK, Body, json_body
from .service import Service, resource

UNIT = 256 << 10  # bytes; every chunk but the last is a multiple of it
_CONTENT_RANGE = re.compile(r"bytes (?:([0-9]{1,18})-([0-9]{1,18})|\*)/(?:([0-9]{1,18})|\*)")
assert BLOCK % UNIT == 0


@dataclass
class _Session:
    bucket: str
    name: str
    settings: dict[str, Any]
    demands: Preconditions
    document: dict[str, Any]  # the metadata as it came: the sums are in it
    staged: StagedData
    total: int | None = None
    finished: StoredObject | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass(frozen=True)
class _Span:
    """What one PUT brings: bytes from `first` up to `stop` (None: to the end) of `total`, if that is known."""

    first: int
    stop: int | None
    total: int | None
    is_query: bool = False

    @property
    def is_last(self) -> bool:
        return self.stop is None or self.stop == self.total


class Sessions:
    """The uploads under way at one endpoint."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._lock = threading.Lock()
        self._sessions: dict[str, _Session] = {}

    def start(self, request: Request, bucket: str) -> Response:
        """Open a session. ApiError, also if the preconditions do not hold already now."""
        document = json_body(request)
        name, settings = described(request, document, request.headers.get("X-Upload-Content-Type", ""))
        demands = preconditions(request.args)
        demands.check(self._service.store.find(bucket, name))
        session = _Session(bucket, name, settings, demands, document, self._service.store.stage())
        key = uuid.uuid4().hex
        with self._lock:
            self._sessions[key] = session
        answer = Response(status=200)
        answer.headers["Location"] = f"{request.base_url}?uploadType=resumable&upload_id={key}"
        answer.headers["X-GUploader-UploadID"] = key
        return answer

    def put(self, request: Request, bucket: str) -> Response:
        """Take a chunk, or tell how far the upload has come."""
        session = self._session(request, bucket)
        body = Body(request)
        with session.lock:
            if session.finished is None:
                span = _span(request, body)
                if not self._take(session, span, body):
                    return _so_far(session)
                session.finished = self._finish(request, session)
            return jsonify(resource(session.finished))

    def cancel(self, request: Request, bucket: str) -> Response:
        """Forget a session: 499, as Google answers."""
        session = self._session(request, bucket)
        with session.lock:
            self._forget(session)
        return Response(status=499)

    def _session(self, request: Request, bucket: str) -> _Session:
        with self._lock:
            session = self._sessions.get(request.args.get("upload_id", ""))
        if session is None or session.bucket != bucket:
            raise not_found("No such upload session; begin again.")
        return session

    def _take(self, session: _Session, span: _Span, body: Body) -> bool:
        """Keep what a chunk brings that is new; tell whether the upload is complete."""
        if span.total is not None and session.total not in (None, span.total):
            raise invalid(f"Invalid request. The total size was {session.total} bytes, and is {span.total} now.")
        kept = session.staged.size
        if span.is_query:
            return span.total == kept
        if span.first > kept:
            raise invalid(f"Invalid request. Bytes from {kept} on are needed; got bytes from {span.first} on.")
        session.total = span.total if span.total is not None else session.total
        for _ in body.blocks(kept - span.first):  # sent again because an answer was lost
            pass
        most = None if span.stop is None else max(0, span.stop - kept)
        if most is not None and not span.is_last:
            most -= most % UNIT
        for block in body.blocks(most):
            session.staged.append(block)
        return span.is_last

    def _finish(self, request: Request, session: _Session) -> StoredObject:
        sums = sums_of(session.document, request.headers)
        try:
            return self._service.finish(
                session.staged, session.bucket, session.name, session.settings, session.demands, sums
            )
        except ApiError:
            self._forget(session)
            raise

    def _forget(self, session: _Session) -> None:
        with self._lock:
            self._sessions = {key: one for key, one in self._sessions.items() if one is not session}
        if session.finished is None:
            session.staged.discard()


def described(request: Request, document: Mapping[str, object], content_type: str) -> tuple[str, dict[str, Any]]:
    """Return the name and the settings of an object to be, from its metadata and its bytes' type. ApiError 400."""
    settings = without_nulls(settings_of(document))
    if content_type:
        settings.setdefault("contentType", content_type)
    return checked_name(request.args.get("name", document.get("name"))), settings


def _span(request: Request, body: Body) -> _Span:
    """Read Content-Range, and hold it to the length of the body. ApiError 400."""
    text = request.headers.get("Content-Range")
    if text is None:
        return _Span(0, body.length, body.length)
    found = _CONTENT_RANGE.fullmatch(text)
    if not found:
        raise invalid("Failed to parse Content-Range header.")
    total = int(found[3]) if found[3] else None
    if found[1] is None:
        return _Span(0, None, total, is_query=True)
    first, stop = int(found[1]), int(found[2]) + 1
    if stop <= first or (total is not None and stop > total):
        raise invalid(f"Invalid Content-Range: {text}")
    if body.length not in (None, stop - first):
        raise invalid(f"Invalid request. Content-Range has {stop - first} bytes, the body {body.length}.")
    if stop != total and stop - first < UNIT:
        raise invalid(
            f"Invalid request. The number of bytes uploaded is required to be equal or greater than {UNIT}, except for "
            "the final request (it's recommended to be the exact multiple of 262144). The received request contained "
            f"{stop - first} bytes, which does not meet this requirement."
        )
    return _Span(first, stop, total)


def _so_far(session: _Session) -> Response:
    answer = Response(status=308)
    if session.staged.size:
        answer.headers["Range"] = f"bytes=0-{session.staged.size - 1}"
    return answer
