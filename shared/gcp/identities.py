"""Who a person is: Google-signed OpenID identity tokens, and what Identity-Aware Proxy says of who is behind it.

A token counts for one deployment and one purpose, which its audience names, for as long as Google has signed it: an
hour. An assertion of Identity-Aware Proxy comes with each request of a browser, is for one Cloud Run service, and
counts for ten minutes. Keys are kept as long as Google says they may be, and looked up anew for one that is not known.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from ..build.image.approval import audience_of
from ..errors import InputError, Transient
from ..names import quoted

ISSUER, IAP_ISSUER = "https://accounts.google.com", "https://cloud.google.com/iap"
IAP_HEADER = "X-Goog-IAP-JWT-Assertion"
GOOGLE_ACCOUNT = "accounts.google.com:"  # how the subjects of Google accounts begin; others prove no mail of Google's
LONGEST = 8192  # characters of a token; Google's have about 1000
_LARGEST = 64 << 10  # bytes of all certificates; Google's have about 3000
_PATIENCE = (5.0, 10.0)  # seconds until the connection, and until each part of the answer
_LONGEST_KEPT, _SHORTEST_KEPT = 6 * 3600.0, 60.0  # seconds
_RENEWED_AT = 0.9  # of the time for which they count
_WAIT = 3.0  # seconds that a thread waits for another one that fetches
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0  # seconds after a second fault, twice as long after each further one
_SKEW = 30  # seconds that Google's clock may be ahead of this one
_MAX_AGE = re.compile(r"(?:^|[\s,])max-age=([0-9]{1,9})")
_GCLOUD = "gcloud auth print-identity-token --impersonate-service-account=ACCOUNT --include-email"


class GoogleIdentities:
    """The identities of Google accounts, as a deployment hears of them. Thread-safe."""

    def __init__(self, deployment: str, certificates_url: str, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._deployment = deployment
        self._signed = _SignedByGoogle(certificates_url, "RS256", "the token", monotonic)

    def mail_of(self, token: str, purpose: str) -> str:
        """Return the mail address that a token proves. InputError, Transient."""
        wanted = audience_of(self._deployment, purpose)
        claims = self._signed.claims(token)
        if claims.get("iss") != ISSUER:
            raise InputError(f"the token is by {quoted(str(claims.get('iss')))}, and not by {ISSUER}")
        mail, audience = claims.get("email"), claims.get("aud")
        if audience != wanted:
            own = (
                "; a person's own login gives tokens for gcloud alone, so use a service account that only you may "
                "impersonate"
                if isinstance(audience, str) and audience.endswith(".apps.googleusercontent.com")
                else ""
            )
            raise InputError(
                f"the token is for {quoted(str(audience))}, and not for {wanted}{own}: {_GCLOUD} --audiences={wanted}"
            )
        if not isinstance(mail, str) or not mail or claims.get("email_verified") is not True:
            raise InputError(f"the token proves no mail address: {_GCLOUD} --audiences={wanted}")
        return mail.lower()


class ProxiedPeople:
    """The people whom Identity-Aware Proxy lets through to one Cloud Run service, its audience. Thread-safe."""

    def __init__(self, audience: str, keys_url: str, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._audience = audience
        self._signed = _SignedByGoogle(keys_url, "ES256", "the assertion of Identity-Aware Proxy", monotonic)

    def mail_behind(self, assertion: str) -> str:
        """Return the mail address of the person, in lower case. InputError, Transient."""
        claims = self._signed.claims(assertion)
        mail, subject = claims.get("email"), claims.get("sub")
        if claims.get("iss") != IAP_ISSUER:
            raise InputError(f"the assertion is by {quoted(str(claims.get('iss')))}, and not by {IAP_ISSUER}")
        if claims.get("aud") != self._audience:
            raise InputError(f"the assertion is for {quoted(str(claims.get('aud')))}, and not for {self._audience}")
        if not isinstance(subject, str) or not subject.startswith(GOOGLE_ACCOUNT) or subject == GOOGLE_ACCOUNT:
            raise InputError(
                f"the assertion is of {quoted(str(subject))}, which is no Google account; sign in with one"
            )
        if not isinstance(mail, str) or "@" not in mail:
            raise InputError("the assertion of Identity-Aware Proxy names no mail address")
        return mail.lower()


@dataclass(frozen=True)
class _Certificates:
    """What Google has shown, by the monotonic clock."""

    found: Mapping[str, str] = field(default_factory=dict)
    fetched: float = float("-inf")
    renewed_at: float = float("-inf")
    good_until: float = float("-inf")

    def is_due(self, key: str, now: float) -> bool:
        """Return whether they are to be fetched anew: they are old, or a key is not known that may be new."""
        return now >= self.renewed_at or (key not in self.found and now - self.fetched >= _SHORTEST_KEPT)

    def still(self, now: float, fault: Transient) -> Mapping[str, str]:
        """Return those that count although new ones cannot be had; raise the fault where none does."""
        if now >= self.good_until:
            raise fault
        return self.found


class _SignedByGoogle:
    """JSON Web Tokens that Google signs with keys which a page shows. `what` is what people call such a token."""

    def __init__(self, url: str, algorithm: str, what: str, monotonic: Callable[[], float]) -> None:
        self._url = url
        self._algorithm = algorithm
        self._what = what
        self._monotonic = monotonic
        self._known = _Certificates()
        self._fetching = threading.Lock()  # held by the one thread that fetches
        self._failures = 0  # in a row
        self._failed_until = float("-inf")
        self._failure = ""

    def claims(self, token: str) -> Mapping[str, Any]:
        """Return what a token says, which is signed by Google and has not expired. InputError, Transient."""
        from google.auth import jwt  # with cryptography, 0.1 s, which few functions have need of
        from google.auth.exceptions import GoogleAuthError

        if len(token) > LONGEST or not token.isascii():
            raise InputError(f"{self._what} is no JSON Web Token")
        try:
            header = jwt.decode_header(token)
            if header.get("alg") != self._algorithm:
                raise InputError(f"{self._what} is not signed by {self._algorithm}; get another one")
            key = header.get("kid")
            certificates = self._certificates_with(key) if isinstance(key, str) else {}
            claims: Mapping[str, Any] = jwt.decode(token, certs=certificates, clock_skew_in_seconds=_SKEW)
        except GoogleAuthError as error:
            what = str(error.args[0]).partition(":")[0][:100]  # what follows may show the token
            raise InputError(f"{self._what} does not count: {what.rstrip('.')}; get another one") from None
        except (ValueError, TypeError, AttributeError, RecursionError):
            raise InputError(f"{self._what} is no JSON Web Token; get another one") from None
        return claims

    def _certificates_with(self, key: str) -> Mapping[str, str]:
        """Return Google's certificates by the names of their keys, this one among them if there is such. Transient.

        One thread fetches them. Others go on with those that still count, and wait a little where there are none.
        """
        known, now = self._known, self._monotonic()
        if not known.is_due(key, now):
            return known.found
        counts = now < known.good_until and key in known.found
        if not self._fetching.acquire(timeout=0 if counts else _WAIT):
            if counts:
                return known.found
            raise Transient("Google's certificates are being fetched; try again")
        try:
            known, now = self._known, self._monotonic()  # another thread may have fetched them meanwhile
            return self._renewed(known, now) if known.is_due(key, now) else known.found
        finally:
            self._fetching.release()

    def _renewed(self, known: _Certificates, now: float) -> Mapping[str, str]:
        """Fetch the certificates anew, unless that has failed just now. Transient where none count."""
        if now < self._failed_until:
            return known.still(now, Transient(self._failure))
        try:
            found, seconds = self._fetch()
        except Transient as error:
            pause = min(_FIRST_PAUSE * 2.0 ** min(self._failures - 1, 10), _LONGEST_PAUSE) if self._failures else 0.0
            self._failures, self._failed_until, self._failure = self._failures + 1, now + pause, str(error)
            return known.still(now, error)
        kept = min(max(seconds, _SHORTEST_KEPT), _LONGEST_KEPT)
        self._failures, self._known = 0, _Certificates(found, now, now + kept * _RENEWED_AT, now + kept)
        return found

    def _fetch(self) -> tuple[Mapping[str, str], float]:
        """Return Google's certificates, and for how many seconds they are good. Transient."""
        import requests

        body, status, age = b"", 0, ""
        try:
            with requests.get(self._url, timeout=_PATIENCE, stream=True, allow_redirects=False) as answer:
                status, age = answer.status_code, answer.headers.get("Cache-Control", "")
                for part in answer.iter_content(_LARGEST):
                    body += part
                    if len(body) > _LARGEST:
                        break
            found = json.loads(body) if len(body) <= _LARGEST else None
        except (requests.RequestException, ValueError, RecursionError) as error:
            raise Transient(f"Google's certificates cannot be had: {type(error).__name__}") from error
        is_known = isinstance(found, dict) and all(isinstance(value, str) for value in found.values())
        if status != HTTPStatus.OK or not isinstance(found, dict) or not is_known:
            raise Transient(f"Google's certificates cannot be had: status {status}, or of no known form")
        cached = _MAX_AGE.search(age)
        return found, float(cached[1]) if cached else 0.0
