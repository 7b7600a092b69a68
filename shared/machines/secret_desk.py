"""Hand a machine the secrets of its steps, from this process's memory to the memory of its provisioner.

    POST /goldsmith/secrets, signed with the machine's key     {"PLACE": VALUE IN BASE64, ...}

There is no file with a value on this host, and none that the guest needs: when this process is killed, its memory and
its machines go with it. A provisioner asks after each boot. Steps are root on their machine, which has the key, so each
of them could ask as well. Once a person gets a shell there, every request is refused.
"""

from __future__ import annotations

import hmac
import re
import threading
from base64 import b64encode
from http import HTTPStatus

from provisioner.protocol import GIVE_SECRETS, LAYER_SIGNATURE, SECRETS_REQUEST, sign

from .metadata_server import MetadataRequest, Response, Route
from .qemu import GivenSecrets


class SecretDesk:
    """Answers a machine that asks for its secrets. Thread-safe."""

    def __init__(self, given: GivenSecrets) -> None:
        self._given: GivenSecrets | None = given
        self._turn = threading.Lock()

    @property
    def route(self) -> Route:
        """The route by which the guest asks."""
        return Route("POST", re.compile(re.escape(GIVE_SECRETS)), self._answer)

    def close(self) -> None:
        """Refuse from now on."""
        with self._turn:
            self._given = None

    def _answer(self, request: MetadataRequest) -> Response:
        with self._turn:
            given = self._given
        if given is None:
            return Response.error(HTTPStatus.GONE, "no secrets are given any more")
        told = request.headers.get(LAYER_SIGNATURE.lower(), "")
        wanted = sign(given.key, SECRETS_REQUEST)
        if request.body != SECRETS_REQUEST or not hmac.compare_digest(told.encode(), wanted.encode()):
            return Response.error(HTTPStatus.FORBIDDEN, "the request is not signed with this machine's key")
        return Response.of({place: b64encode(value).decode() for place, value in given.values.items()})
