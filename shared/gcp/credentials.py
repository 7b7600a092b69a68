"""Credentials that sign URLs, in the cloud and in the emulator, and that prove who sends traces.

Importing google-auth's cryptography takes 0.1 s.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import google.auth
from google.auth.credentials import AnonymousCredentials, Credentials, Scoped, Signing
from google.auth.exceptions import GoogleAuthError
from google.auth.transport.requests import AuthorizedSession, Request
from google.oauth2 import service_account

from ..errors import EnvironmentFault, Permanent

_SCOPE = "https://www.googleapis.com/auth/cloud-platform"


def signer(uri: str, credentials: Credentials) -> Mapping[str, str]:
    """Return what generate_signed_url() needs beside credentials. EnvironmentFault for those that cannot sign.

    A key signs by itself. A function has none: IAM signs for its service account, whose address is known, and the
    token fresh, once the metadata server has been asked. It is asked for a token of a wider scope: the storage client's
    own reads and writes objects alone, and IAM refuses it (Cloud Run gives a token just the scopes that were named).
    """
    if isinstance(credentials, Signing):
        return {}
    if not hasattr(credentials, "service_account_email"):
        raise EnvironmentFault(f"{uri}: only a service account can sign URLs; run as one")
    account: Any = credentials
    if isinstance(account, Scoped):
        account = account.with_scopes([_SCOPE])
    account.refresh(Request())
    return {"service_account_email": account.service_account_email, "access_token": account.token}


def emulated(credentials_file: str | None) -> Credentials:
    """Return the credentials of the emulator's service account, or none, which it takes too."""
    if credentials_file is None:
        return AnonymousCredentials()
    credentials: Any = service_account.Credentials.from_service_account_file(credentials_file)
    # Else google-auth asks Google itself, in a thread, in which regions an unknown account may be used.
    credentials._set_regional_access_boundary({"encodedLocations": "0x0", "expiry": datetime.max})
    given: Credentials = credentials
    return given


def google_session() -> AuthorizedSession:
    """Return what sends requests with a token of the process's own account. Permanent where it has none."""
    try:
        credentials, _ = google.auth.default(scopes=[_SCOPE])
    except GoogleAuthError as error:
        raise Permanent(f"there are no credentials for Google Cloud: {error}") from error
    return AuthorizedSession(credentials)
