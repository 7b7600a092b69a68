"""A version of a key of Cloud KMS, which signs statements about images, and its public key: two calls by REST.

    POST v1/VERSION:asymmetricSign {digest, digestCrc32c} ──► {name, verifiedDigestCrc32c, signature, signatureCrc32c}
    GET  v1/VERSION/publicKey                             ──► {name, algorithm, pem, pemCrc32c}

What is signed is a digest, so that a statement may have any size: Cloud KMS takes 64 KiB of data, which is what it
would need for Ed25519. Sums guard both ways, as https://cloud.google.com/kms/docs/data-integrity-guidelines wants it.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import google.api_core.exceptions as api
import google_crc32c
import requests

from ...errors import GoldsmithError, NotFound, Permanent, Transient
from ..settings import KMS_URL, Settings
from .service import RestService

ALGORITHM = "EC_SIGN_P256_SHA256"
_TRIES = 3  # of a call whose answer has a wrong sum


class _WrongSum(GoldsmithError):
    """An answer, or what it answers, was damaged on its way."""


class KeyVersion:
    """A version of a key, by its name in Cloud KMS; a Signer. Thread-safe.

    `patience` is how long, in seconds, a call that fails for a passing reason is tried again before it is Transient.
    """

    def __init__(self, name: str, settings: Settings, *, patience: float = 20.0) -> None:
        self._name = name
        self._service = RestService(KMS_URL, settings.kms_endpoint, settings.credentials_file, patience=patience)

    @property
    def key_id(self) -> str:
        """Return the name of the version."""
        return self._name

    def check(self) -> None:
        """Check nothing: the account that asks at the beginning of a build may not sign."""

    def has_signed(self, message: bytes, signature: bytes) -> bool | None:
        """Return None: the account that signs may not read public keys."""
        return None

    def sign(self, message: bytes) -> bytes:
        """Sign the SHA-256 of a message by ECDSA on P-256; return the signature in DER. Transient, Permanent."""
        digest = hashlib.sha256(message).digest()
        body = {
            "digest": {"sha256": base64.b64encode(digest).decode()},
            "digestCrc32c": str(google_crc32c.value(digest)),
        }

        def signature() -> bytes:
            answer = self._call("POST", ":asymmetricSign", body)
            if answer.get("verifiedDigestCrc32c") is not True:
                raise _WrongSum
            return self._checked(answer, "signature", base64.b64decode(str(answer.get("signature")), validate=True))

        return self._whole(signature)

    def public_key(self) -> bytes:
        """Return the public key in PEM. NotFound, Transient, Permanent."""

        def pem() -> bytes:
            answer = self._call("GET", "/publicKey", None)
            found = self._checked(answer, "pem", str(answer.get("pem")).encode())
            if answer.get("algorithm") != ALGORITHM:
                raise Permanent(f"key {self._name} is of {answer.get('algorithm')}; name one of {ALGORITHM}")
            return found

        return self._whole(pem)

    def _whole(self, call: Callable[[], bytes]) -> bytes:
        """Return what a call does, which is made again where a sum is wrong."""
        for _ in range(_TRIES):
            try:
                return call()
            except (_WrongSum, ValueError):  # ValueError: no base64
                continue
        raise Transient(f"key {self._name}: what Cloud KMS answers is damaged on its way; it can be tried again")

    def _checked(self, answer: Mapping[str, Any], key: str, data: bytes) -> bytes:
        """Return data of an answer. _WrongSum where its sum or the name of the key is another one."""
        if answer.get("name") != self._name or str(answer.get(f"{key}Crc32c")) != str(google_crc32c.value(data)):
            raise _WrongSum
        return data

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None) -> Mapping[str, Any]:
        try:
            return self._service.call(f"key {self._name}", method, self._name + path, body)
        except NotFound as error:  # which a worker would take for its build
            raise Permanent(f"{error}; write the name of one that exists in signing_key of the deployment") from error
        except Permanent as error:
            raise Permanent(f"{error}{self._remedy(error.__cause__)}") from error

    def _remedy(self, cause: BaseException | None) -> str:
        if not isinstance(cause, api.BadRequest):
            return ""
        if isinstance(cause.response, requests.Response) and "FAILED_PRECONDITION" in cause.response.text:
            return (
                "; enable it (gcloud kms keys versions enable), or have signing_key of the deployment name another one"
            )
        return f"; signing_key of the deployment must be a version of a key of {ALGORITHM}"
