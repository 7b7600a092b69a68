"""Versions of secrets in Secret Manager: their numbers and states, and never their values.

GET v1/projects/P/secrets/S/versions/latest ──► {"name": "projects/NUMBER/secrets/S/versions/7", "state": "ENABLED"}
"""

from __future__ import annotations

import re

from ...errors import InputError, NotFound, Permanent, Transient
from ..settings import SECRETS_URL, Settings
from .service import RestService

_NAME = re.compile(r"projects/[^/]+/secrets/[^/]+/versions/([1-9][0-9]{0,9})")


class GoogleSecretVersions:
    """The versions of secrets that the deployment may look up (`latest_secrets`); a SecretVersions."""

    def __init__(self, settings: Settings, *, patience: float = 20.0) -> None:
        self._service = RestService(
            SECRETS_URL, settings.secrets_endpoint, settings.credentials_file, patience=patience
        )

    def newest(self, secret: str) -> int:
        """Return the number of a secret's newest version, which must be enabled. InputError, Transient."""
        what = f"{secret}/versions/latest"
        try:
            found = self._service.call(what, "GET", what)
        except NotFound as error:
            raise InputError(f"{error}; look at the project and the name, and whether it has a version") from error
        except Transient:
            raise
        except Permanent as error:
            raise InputError(
                f"{error}; latest_secrets of this deployment has to name the secret. Ask those who deploy it, or write "
                "the version's number"
            ) from error
        named, state = _NAME.fullmatch(str(found.get("name"))), found.get("state")
        if named is None:
            raise Transient(f"{what}: Secret Manager answers what is no version; it can be tried again")
        if state != "ENABLED":
            raise InputError(
                f"{what} is version {named[1]}, which is {state}; enable it, add a version, or write the number of one"
            )
        return int(named[1])
