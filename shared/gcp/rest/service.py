"""A service of Google's by REST, where a few calls are not worth a client library: JSON both ways, repeats that end."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import google.api_core.exceptions as api
import google.auth.exceptions as auth
import requests
from google.api_core.retry import Retry, if_exception_type

from ..errors import mapped

if TYPE_CHECKING:
    from google.auth.transport.requests import AuthorizedSession

_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_ANSWER_SECONDS = 10.0
_AGAIN = if_exception_type(
    api.TooManyRequests,
    api.InternalServerError,
    api.BadGateway,
    api.ServiceUnavailable,
    api.GatewayTimeout,
    auth.TransportError,
    requests.ConnectionError,
    requests.Timeout,
)


class RestService:
    """Google's service at `url`, or the emulator's at `endpoint`, with the credentials of the environment. Thread-safe.

    `patience` is how long, in seconds, a call that fails for a passing reason is tried again before it is Transient.
    """

    def __init__(
        self, url: str, endpoint: str | None, credentials_file: str | None, *, patience: float, version: str = "v1"
    ) -> None:
        self._url = f"{endpoint or url}/{version}"
        self._emulated = endpoint is not None
        self._credentials_file = credentials_file
        self._patience = patience

    def call(self, what: str, method: str, path: str, body: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        """Return the answer, {} where it is no object of JSON. NotFound, Transient, Permanent, which name `what`.

        Their cause is the error of Google's that they stand for.
        """
        retry = Retry(_AGAIN, initial=0.2, maximum=4.0, timeout=self._patience)
        with mapped(what):
            answer: Mapping[str, Any] = retry(self._ask)(method, path, body)
            return answer

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None) -> Mapping[str, Any]:
        url = f"{self._url}/{path}"
        answer = self._session.request(method, url, json=body, timeout=_ANSWER_SECONDS, allow_redirects=False)
        if answer.status_code != requests.codes.ok:
            raise api.from_http_response(answer)
        try:
            found = answer.json()
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    @cached_property
    def _session(self) -> AuthorizedSession:
        import google.auth
        from google.auth.transport.requests import AuthorizedSession

        if not self._emulated:
            credentials, _project = google.auth.default(scopes=[_SCOPE])
            return AuthorizedSession(credentials)
        from ..credentials import emulated

        found: Any = emulated(self._credentials_file)
        return AuthorizedSession(found.with_scopes([_SCOPE]) if hasattr(found, "with_scopes") else found)
