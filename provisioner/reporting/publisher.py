"""Reports as Pub/Sub messages, by its REST interface: the same on Compute Engine and on one machine."""

from __future__ import annotations

import binascii
import json
import time

from ..protocol import Job, decode_report, sign
from ..system.output import StepConsole
from .reports import Way

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Tuple

TRIES = 6
LAST_TRIES = 3  # while the machine waits to be turned off
FIRST_PAUSE = 0.5  # seconds; doubled each time
REQUEST_SECONDS = 15.0
TOKEN_MARGIN = 60.0  # seconds before a token's end at which another one is fetched


class Publisher(Way):
    """Publishes to job.publish_url."""

    def __init__(self, job: Job, url: str, console: StepConsole) -> None:
        super().__init__(job)
        self._url = url
        self._console = console
        self._token = ""
        self._token_until = 0.0

    def deliver(self, reports: list[bytes]) -> bool:
        """Publish them together."""
        body = json.dumps({"messages": [self._message(report) for report in reports]}).encode()
        problem = ""
        for number in range(TRIES):
            seconds = self.seconds_left(REQUEST_SECONDS)
            if seconds <= 0 or (self.is_closing() and number >= LAST_TRIES):
                break
            problem = self._post(body, seconds)
            if not problem:
                return True
            self.pause(FIRST_PAUSE * 2**number)
        self._console.say(
            f"{len(reports)} report(s) could not be published to {self._url}: {problem or 'no time left'}"
        )
        return False

    def _message(self, data: bytes) -> dict[str, object]:
        job = self.job
        attributes = {
            "build_id": job.build_id,
            "attempt": str(job.attempt),
            "phase": job.phase,
            "kind": decode_report(data).kind,
            "signature": sign(job.key, data),
        }
        text = binascii.b2a_base64(data, newline=False).decode()
        return {"data": text, "attributes": attributes}

    def _post(self, body: bytes, seconds: float) -> str:
        """Publish once; return what went wrong, or ""."""
        from ..system.http import request  # sockets are slow to import: in this thread, beside the first step

        try:
            headers = {"Content-Type": "application/json", **self._authorization(seconds)}
            status, answer = request("POST", self._url, headers, body, seconds)
        except (OSError, ValueError) as error:
            return str(error) or type(error).__name__
        if 200 <= status < 300:
            return ""
        if status in (401, 403):
            self._token = ""
        return f"HTTP {status} {answer[:200].decode('utf-8', 'replace')}"

    def _authorization(self, seconds: float) -> dict[str, str]:
        if self.job.token_url is None:
            return {}
        if not self._token or time.monotonic() >= self._token_until:
            self._token, seconds = fetch_token(self.job.token_url, seconds)
            self._token_until = time.monotonic() + seconds - TOKEN_MARGIN
        return {"Authorization": f"Bearer {self._token}"}


def fetch_token(url: str, seconds: float) -> Tuple[str, float]:
    """Return an access token of this machine's account, and for how many seconds it is valid. OSError; ValueError."""
    from ..system.http import request

    status, answer = request("GET", url, {"Metadata-Flavor": "Google"}, b"", seconds)
    if status != 200:
        raise ValueError(f"{url}: HTTP {status}")
    document = json.loads(answer)
    token = document.get("access_token") if isinstance(document, dict) else None
    if not isinstance(token, str):
        raise ValueError(f"{url}: no access_token in the answer")  # noqa: TRY004 - it came by the wire
    return token, float(document.get("expires_in", 0))
