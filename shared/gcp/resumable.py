"""Uploads of large files that survive broken connections and killed processes: Cloud Storage's resumable uploads.

    PUT session   bytes */SIZE            -> 308, Range: bytes=0-N: what is kept, absent for nothing; 200: the object
    PUT session   bytes FIRST-LAST/SIZE   -> the same
                                          -> 404 or 410: the session is over, after a week at the latest

The session is a URL that needs no credentials. GoogleBucket.begin_upload() opens one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import google.api_core.exceptions as api
import requests

from ..errors import NotFound, Transient
from ..ports import Clock, Progress
from .errors import translated
from .storage import PART

PATIENCE = 300.0  # seconds without a byte more, after which an upload is left for later
_ANSWER_SECONDS = 60.0
_PAUSE = 5.0  # seconds, at most, between two tries
_KEPT = re.compile(r"bytes=0-([0-9]+)")
_WHOLE = (200, 201)
_GOES_ON = 308
_PASSING = (408, 429, 500, 502, 503, 504)
_GONE = (404, 410)


def send_file(
    session: str, file: Path, uri: str, progress: Progress, clock: Clock, *, patience: float = PATIENCE
) -> Mapping[str, Any]:
    """Send what Cloud Storage has not yet of a file, and return the description of the object that it becomes.

    NotFound when the session is over; Transient when nothing has arrived for `patience` seconds; Permanent.
    """
    size, work = file.stat().st_size, f"uploading {uri}"
    kept, most, moved = None, -1, clock.now()  # None: what is kept has to be asked for
    with file.open("rb") as opened, requests.Session() as connection:
        while True:
            answer = _put(connection, session, opened, kept, size, uri)
            described = _described(answer)
            if described is not None:
                progress(work, size, size)
                return described
            kept = None if answer is None or answer.status_code != _GOES_ON else _kept(answer)
            if kept is None:
                _raise_final(answer, uri)
            if kept is not None and kept > most:
                most, moved = kept, clock.now()
                progress(work, kept, size)
                continue
            if clock.now() - moved > patience:
                raise Transient(f"{uri}: nothing could be uploaded for {patience:.0f} s; try again, which goes on")
            clock.pause(_PAUSE)


def _put(
    connection: requests.Session, session: str, opened: BinaryIO, first: int | None, size: int, uri: str
) -> requests.Response | None:
    """Send a part, or ask what is kept for None; None where the connection broke. NotFound.

    What requests raises names the session, so none of it is passed on.
    """
    data, span = b"", "*"
    if first is not None and first < size:
        opened.seek(first)
        data = opened.read(PART)
        span = f"{first}-{first + len(data) - 1}"
    headers = {"Content-Range": f"bytes {span}/{size}"}
    try:
        return connection.put(session, data=data, headers=headers, timeout=_ANSWER_SECONDS, allow_redirects=False)
    except requests.RequestException as error:
        if isinstance(error, ValueError):  # not even sent, since the session is no address
            raise NotFound(f"{uri}: its upload cannot be found again; begin again") from None
        return None


def _described(answer: requests.Response | None) -> Mapping[str, Any] | None:
    """Return the description of the whole object; None for any other answer, also one that was cut off."""
    if answer is None or answer.status_code not in _WHOLE:
        return None
    try:
        found = answer.json()
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _kept(answer: requests.Response) -> int:
    found = _KEPT.fullmatch(answer.headers.get("Range", ""))
    return int(found[1]) + 1 if found else 0


def _raise_final(answer: requests.Response | None, uri: str) -> None:
    """Raise what an answer means that will not be another one the next time."""
    if answer is None or answer.status_code in (*_PASSING, *_WHOLE):
        return
    if answer.status_code in _GONE:
        raise NotFound(f"{uri}: its upload is no longer known; begin again")
    raise translated(uri, api.from_http_response(answer))
