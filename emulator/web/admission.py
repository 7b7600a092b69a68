"""Which requests an endpoint of the emulator answers: those of programs on this machine, never those of web pages.

The endpoints listen on loopback and ask for no credentials, so a browser on this machine is the way in for others:

- A page may send requests to any address (`fetch`, forms, images). The browser says which page it was, in
  Origin, or that it was another site's, in Sec-Fetch-Site. No program says either.
- A page may have its own name resolved to 127.0.0.1 (DNS rebinding), and is of the same origin then. Host has the
  name.

So Host must be loopback with the endpoint's port, or a name of Google's, which no other site has; and a request of
another origin's page is refused before anything is done.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable
from http import HTTPStatus
from urllib.parse import urlsplit
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")
GOOGLE = ".googleapis.com"
_OWN_PAGES = ("same-origin", "none")  # what Sec-Fetch-Site says of the endpoint's own pages, and of an address typed in


def admitted(
    application: WSGIApplication, port: int | Callable[[], int], names: Collection[str] = ()
) -> WSGIApplication:
    """Return an application that passes on what it admits, and answers anything else with 403.

    `port` is the one that the application is served at, or gives it; `names` are further hosts that it is known by.
    """

    def serve(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        number = port if isinstance(port, int) else port()
        refusal = _refusal(environ, number, names)
        if not refusal:
            return application(environ, start_response)
        body = json.dumps({"error": {"code": int(HTTPStatus.FORBIDDEN), "message": refusal}}).encode()
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body))), ("Connection", "close")]
        start_response(f"{HTTPStatus.FORBIDDEN.value} {HTTPStatus.FORBIDDEN.phrase}", headers)
        return [body]

    return serve


def _refusal(environ: WSGIEnvironment, port: int, names: Collection[str]) -> str:
    """Return why a request is not answered; empty for one that is."""
    host = environ.get("HTTP_HOST", "").lower()
    own = {f"{name}:{port}" for name in LOOPBACK_NAMES}
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    if host not in own and name not in names and not name.endswith(GOOGLE):
        return f"this is no host of the emulator's; ask for 127.0.0.1:{port}"
    origin = environ.get("HTTP_ORIGIN")
    if origin is not None and urlsplit(origin).netloc.lower() not in own:
        return "pages of other origins may not use the emulator"
    if environ.get("HTTP_SEC_FETCH_SITE", "none") not in _OWN_PAGES:
        return "pages of other sites may not use the emulator"
    return ""
