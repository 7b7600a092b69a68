"""One object of Cloud Storage, written by a resumable session: what was kept is not sent again, whatever breaks.

    PUT  bytes 0-8388607/*           -> 308, Range: bytes=0-8388607 (what is kept; absent for nothing)
    PUT  bytes */*                   -> 308, the same: asked after a broken connection, or a restart of the machine
    PUT  bytes 8388608-9000000/9000001  -> 200, the object

A session is a URL that needs no credentials, and gives the right to write this object alone. No error quotes it.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from binascii import a2b_base64, b2a_hex

from .http import exchange

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, Optional

UPLOAD_PART = 8 << 20  # bytes; Cloud Storage takes uploads in multiples of 256 KiB
ANSWER_SECONDS = 120.0
PATIENCE = 900.0  # seconds without a byte more
PAUSE = 2.0  # seconds; doubled each time
LONGEST_PAUSE = 30.0
_KEPT = re.compile(r"bytes=0-([0-9]+)")


class UploadError(Exception):
    """The object cannot be written; the text says why."""


class Upload:
    """An object that is being written. Memory holds one part of it."""

    def __init__(self, session: str, sleep: Callable[[float], None] = time.sleep, patience: float = PATIENCE) -> None:
        """Ask what is kept of it. `patience` is how many seconds may pass without a byte more. UploadError."""
        self.bytes = 0
        self._session = session
        self._sleep = sleep
        self._patience = patience
        self._moved = time.monotonic()  # when the last byte was kept
        self._sha256, self._md5 = hashlib.sha256(), hashlib.md5()  # noqa: S324 - reported by Cloud Storage
        self._part = bytearray()
        self._start = 0  # of the part
        self._kept = 0
        self._whole: Optional[Dict[str, Any]] = None  # the object, once it is there
        self._insist("*", "*", b"")

    @property
    def sha256(self) -> str:
        """Return the digest of what was written, in hex."""
        return self._sha256.hexdigest()

    @property
    def md5(self) -> str:
        """Return the digest that Cloud Storage reports as well, in hex."""
        return self._md5.hexdigest()

    def write(self, data: bytes) -> None:
        """Write more of it. UploadError."""
        self.bytes += len(data)
        self._sha256.update(data)
        self._md5.update(data)
        self._part += data
        while len(self._part) > UPLOAD_PART:  # never the last part, which has to say that it is
            self._send(bytes(self._part[:UPLOAD_PART]), "*")
            del self._part[:UPLOAD_PART]

    def close(self) -> None:
        """Send the rest, and compare what is there with what was written. UploadError."""
        self._send(bytes(self._part), str(self.bytes))
        whole = self._whole or {}
        try:
            found = int(whole["size"]), b2a_hex(a2b_base64(whole["md5Hash"])).decode()
        except (KeyError, TypeError, ValueError) as error:
            raise UploadError("Cloud Storage does not tell the size and digest of the object") from error
        if found != (self.bytes, self.md5):
            raise UploadError(
                "the object is not what was sent: it was damaged on its way, or an earlier try wrote other bytes"
            )

    def _send(self, part: bytes, total: str) -> None:
        """Send a part, but for what is kept of it; with a total, until the object is there."""
        end = self._start + len(part)
        self._moved = time.monotonic()  # the caller may have taken long to make the part
        while self._whole is None and (total != "*" or self._kept < end):
            if self._kept < self._start:
                raise UploadError("Cloud Storage has lost what it had kept of the object")
            rest = part[self._kept - self._start :]
            span, before = f"{self._kept}-{end - 1}" if rest else "*", self._kept
            self._insist(span, total, rest)
            if self._kept > before:
                self._moved = time.monotonic()
            elif self._whole is None:  # it says at once that it keeps nothing of that, which may pass
                self._wait(PAUSE, "nothing of what is sent is kept")
        self._start = end

    def _insist(self, span: str, total: str, data: bytes) -> None:
        """Send a request; ask what is kept where it is not answered, until it is. UploadError."""
        pause, problem = PAUSE, ""
        while True:
            headers = {"Content-Range": f"bytes {span}/{total}"}
            if not data:
                headers["Content-Length"] = "0"
            try:
                status, answered, answer = exchange("PUT", self._session, headers, data, ANSWER_SECONDS)
            except (OSError, ValueError) as error:  # the latter also of a certificate, in Python 3.6
                problem = str(error) or type(error).__name__
            else:
                if self._take(status, answered, answer):
                    return
                problem = f"HTTP {status}"
            self._wait(pause, problem)
            pause = min(LONGEST_PAUSE, 2 * pause)
            span, data = "*", b""

    def _wait(self, seconds: float, problem: str) -> None:
        """Pause before the next request, unless no byte was kept for too long. UploadError."""
        if time.monotonic() - self._moved > self._patience:
            raise UploadError(f"nothing could be uploaded for {self._patience:.0f} s: {problem}")
        self._sleep(seconds)

    def _take(self, status: int, headers: Dict[str, str], answer: bytes) -> bool:
        """Note what an answer says; return False for one that may be another one the next time. UploadError."""
        if status in (200, 201):
            try:
                self._whole = json.loads(answer)
            except ValueError:
                return False  # cut off: asked again, it comes again
            return True
        if status == 308:
            found = _KEPT.match(headers.get("range", ""))
            self._kept = int(found.group(1)) + 1 if found else 0
            return True
        if status in (408, 429) or status >= 500:
            return False
        what = "its upload is no longer known" if status in (404, 410) else f"Cloud Storage refuses it: HTTP {status}"
        if status == 412:
            what = "another object has its name by now"
        raise UploadError(what)
