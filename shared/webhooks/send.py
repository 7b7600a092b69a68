"""Send a webhook: one POST, signed as the Standard Webhooks specification has it (version 1, HMAC-SHA-256).

    webhook-id: hello-0123456789ab.1795176000      the same for every try
    webhook-timestamp: 1795176123
    webhook-signature: v1,BASE64                   HMAC-SHA-256 over ID.TIMESTAMP.BODY

Receivers check it with any of its libraries, and tell tries of one message apart from others by its id.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import threading
import urllib.request
from http import HTTPStatus
from http.client import HTTPException
from urllib.error import HTTPError
from urllib.parse import urlsplit

from ..errors import Permanent, Transient
from .webhook import LOOPBACK, Webhook

PATIENCE = 15.0  # seconds for one try, whatever the receiver does
_PAUSE = 10.0  # seconds between two bytes of it
_PASSING = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS}


def send(hook: Webhook, message_id: str, body: bytes, now: float, patience: float = PATIENCE) -> None:
    """Send `body` once, for `patience` seconds at most.

    Transient where a later try may work, Permanent where the receiver does not want it. Neither shows the URL, which
    may be a secret.
    """
    headers = _headers(hook, message_id, body, now)
    request = urllib.request.Request(hook.url, body, headers, method="POST")  # noqa: S310 - http or https, by its reader
    what = f"webhook {hook.name} at {urlsplit(hook.url).hostname}"
    status = _Try(request).status(what, patience)
    if 200 <= status < 300:
        return
    if status in _PASSING or status >= 500:
        raise Transient(f"{what}: answers with status {status}; it is tried again")
    redirected = ", which leads elsewhere, and is not followed; write the address that it leads to"
    raise Permanent(f"{what}: answers with status {status}{redirected if 300 <= status < 400 else ''}")


def signature(secret: bytes, message_id: str, seconds: int, body: bytes) -> str:
    """Return the value of webhook-signature."""
    signed = b".".join((message_id.encode(), str(seconds).encode(), body))
    return "v1," + base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()


def _headers(hook: Webhook, message_id: str, body: bytes, now: float) -> dict[str, str]:
    seconds = int(now)
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "goldsmith",
        "webhook-id": message_id,
        "webhook-timestamp": str(seconds),
    }
    if hook.secret is not None:
        headers["webhook-signature"] = signature(hook.secret, message_id, seconds, body)
    return headers


class _Try:
    """One request on a thread of its own, which a receiver that sends a byte now and then cannot hold up."""

    def __init__(self, request: urllib.request.Request) -> None:
        self._request = request
        self._status = 0  # until there is an answer
        self._reason = "the request ended without an answer"

    def status(self, what: str, patience: float) -> int:
        """Return the answer's status. Transient where there is none in time."""
        thread = threading.Thread(target=self._run, name="webhook", daemon=True)
        thread.start()
        thread.join(patience)
        if thread.is_alive():
            raise Transient(f"{what}: gives no answer within {patience:.0f} s; it is tried again")
        if not self._status:
            raise Transient(f"{what}: cannot be reached: {self._reason}; it is tried again")
        return self._status

    def _run(self) -> None:
        direct = [urllib.request.ProxyHandler({})] if self._request.host.partition(":")[0] in LOOPBACK else []
        opener = urllib.request.build_opener(_NoRedirect, *direct)
        try:
            with opener.open(self._request, timeout=_PAUSE) as answer:
                self._status = answer.status
        except HTTPError as error:
            self._status = error.code
            error.close()
        except (OSError, HTTPException, ValueError) as error:
            self._reason = str(getattr(error, "reason", "") or type(error).__name__)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Leaves redirects alone: a message goes only to the address in the settings."""

    def redirect_request(self, *_request: object, **_more: object) -> None:
        """Follow nowhere."""
