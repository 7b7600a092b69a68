"""The form of a request, and whether what comes back is that form, from that browser.

Nothing is kept of a form. Its seal is an HMAC over all that was shown, with a key that only this browser has, in a
cookie that other sites can neither read nor have sent. So another site can make a browser send neither a form of its
own, nor this one about something else. What is left is a second time of the same form, which has the same id.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
from dataclasses import dataclass

from flask import Request, Response

from ...errors import InputError
from ...person_requests import LEADS_TO, PersonRequestKind

_KEY = re.compile(r"[A-Za-z0-9_-]{43}")
_FIELDS = ("id", "kind", "target", "channel", "seen")
LIFETIME = 12 * 3600  # seconds of the cookie


@dataclass(frozen=True)
class AskForm:
    """What a form holds beside the reason."""

    id: str
    kind: PersonRequestKind
    target: str
    channel: str
    seen: str
    by: str  # who is shown it: no field of it

    def seal(self, key: str) -> str:
        """Return what proves that this browser was shown it."""
        content = json.dumps([self.id, self.kind, self.target, self.channel, self.seen, self.by])
        return hmac.new(key.encode(), content.encode(errors="surrogatepass"), hashlib.sha256).hexdigest()


def new_form(kind: PersonRequestKind, target: str, channel: str, seen: str, by: str) -> AskForm:
    """Return a form with an id of its own."""
    return AskForm(secrets.token_hex(16), kind, target, channel, seen, by)


def read_kind(text: str) -> PersonRequestKind:
    """Return what is asked for. InputError."""
    for kind in LEADS_TO:
        if kind == text:
            return kind
    raise InputError(f"{text[:20]!r} is nothing that can be asked for; {', '.join(LEADS_TO)} are")


def browser_key(request: Request) -> str:
    """Return the key that a browser has from an earlier form; a new one where it has none."""
    found = request.cookies.get(_cookie(request), "")
    return found if _KEY.fullmatch(found) else secrets.token_urlsafe(32)


def give_key(answer: Response, request: Request, key: str) -> None:
    """Let a browser keep its key."""
    secure = _is_secure(request)
    answer.set_cookie(
        _cookie(request), key, max_age=LIFETIME, path="/", secure=secure, httponly=True, samesite="Strict"
    )


def sent_form(request: Request, by: str) -> AskForm:
    """Return the form that a person has sent. InputError for one that this browser was not shown."""
    _refuse_other_sites(request)
    key = request.cookies.get(_cookie(request), "")
    given = {name: request.form.get(name, "") for name in _FIELDS}
    form = AskForm(**{**given, "kind": read_kind(given["kind"])}, by=by)  # type: ignore[arg-type]
    seal = request.form.get("seal", "").encode(errors="replace")
    if not _KEY.fullmatch(key) or not hmac.compare_digest(seal, form.seal(key).encode()):
        raise InputError("this form is too old, or is not what you were shown; look again, and send it once more")
    return form


def _refuse_other_sites(request: Request) -> None:
    """Raise InputError for a form that no page of this very site has sent."""
    origin, site = request.headers.get("Origin", ""), request.headers.get("Sec-Fetch-Site", "same-origin")
    if origin not in (f"http://{request.host}", f"https://{request.host}") or site != "same-origin":
        raise InputError("this form comes from another site; open it here")


def _cookie(request: Request) -> str:
    """Return the cookie's name; browsers take one with this beginning only as it is given here."""
    if _is_secure(request):
        return "__Host-goldsmith-form"
    return f"goldsmith-form-{request.host.rpartition(':')[2]}"


def _is_secure(request: Request) -> bool:
    """Return whether a browser sees https: Cloud Run ends it, and says so in a header that it writes itself."""
    return request.is_secure or request.headers.get("X-Forwarded-Proto", "") == "https"
