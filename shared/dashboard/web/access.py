"""Who may reach a dashboard that one machine serves: those who have the address that `goldsmith serve` printed.

The address holds a token. It is exchanged for a cookie, and left out of the address from then on, so that neither the
history of a browser nor a picture of its window gives it away. The Host header has to be this machine's: a page of
another site whose name leads to 127.0.0.1 (DNS rebinding) is refused before anything is looked at.
"""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass, field
from urllib.parse import quote, urlencode

from flask import Response, redirect, request

from .pages import html_answer, json_response, wants_html

TOKEN = "token"  # noqa: S105 - the parameter's name
HOSTS = ("127.0.0.1", "localhost", "[::1]")
TOKEN_BYTES = 24


@dataclass(frozen=True)
class Access:
    """The token of one server, and what it is exchanged for."""

    port: int
    token: str = field(default_factory=lambda: secrets.token_urlsafe(TOKEN_BYTES), repr=False)
    session: str = field(default_factory=lambda: secrets.token_urlsafe(TOKEN_BYTES), repr=False)

    @property
    def cookie(self) -> str:
        """Return the cookie's name: browsers send the cookies of one port to the others too."""
        return f"goldsmith-{self.port}"

    @property
    def address(self) -> str:
        """Return what a person opens."""
        return f"http://{HOSTS[0]}:{self.port}/?{urlencode({TOKEN: self.token})}"

    def refusal(self) -> Response | None:
        """Return the answer to a request that may not be answered, or that brings the token; None for any other."""
        if request.headers.get("Host", "") not in [f"{host}:{self.port}" for host in HOSTS]:
            return json_response({"error": "this is another host's dashboard; open the address that was printed"}, 421)
        given = request.args.get(TOKEN, "")
        if given and request.method == "GET" and _is(given, self.token):
            return self._exchange()
        kind, _, bearer = request.headers.get("Authorization", "").partition(" ")
        if _is(request.cookies.get(self.cookie, ""), self.session) or (kind == "Bearer" and _is(bearer, self.token)):
            return None
        if request.endpoint == "static":
            return None
        text = "open the address that `goldsmith serve` printed: it has a token, without which nothing is shown"
        if wants_html():
            return html_answer("error.html", {"status": 401, "text": text}, 401)
        answer = json_response({"error": text}, 401)
        answer.headers["WWW-Authenticate"] = "Bearer"
        return answer

    def _exchange(self) -> Response:
        """Return the way to the same address without the token, with the cookie."""
        rest = [(name, value) for name, value in request.args.items(multi=True) if name != TOKEN]
        path = quote("/" + request.path.lstrip("/"))  # browsers drop tabs and lines of an address, and may read // then
        answer = redirect(path + (f"?{urlencode(rest)}" if rest else ""), 303)
        assert isinstance(answer, Response)
        answer.set_cookie(self.cookie, self.session, httponly=True, samesite="Strict")
        return answer


def _is(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode(), wanted.encode())
