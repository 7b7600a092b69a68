"""The emulator's service accounts and tokens: one RSA key per home, and everything that is signed with it.

Google has a key per service account, and keys of its own for tokens; here one key stands for all of them. Signatures
are real and are really verified: a function that signs a URL or asks for a token runs the code that it runs in the
cloud.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from flask import Blueprint, Response, jsonify, request
from google.auth import crypt, jwt
from google.auth.crypt import es

from shared.errors import GoldsmithError

from .secret_files import made_once, write_secret

ISSUER = "https://accounts.google.com"
IAP_ISSUER = "https://cloud.google.com/iap"
LIFETIME_S = 3600  # of a token, as Google's
TOKEN_PATH = "/token"  # noqa: S105 - a path
CERTIFICATES_PATH = "/oauth2/v1/certs"
IAP_KEYS_PATH = "/iap/verify/public_key"
IAP_LIFETIME_S = 600  # of an assertion of Identity-Aware Proxy
GOOGLES_TOKEN_URI = "https://oauth2.googleapis.com/token"  # noqa: S105 - what google-auth signs for, wherever it sends it

_JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_SCOPE = "https://www.googleapis.com/auth/cloud-platform"


class InvalidToken(GoldsmithError):
    """A token or assertion that is not signed by the emulator's key, has expired, or is for another audience."""


class Identity:
    """The emulator's own key, made once below `folder` and kept. Tokens are JWTs; verifying raises InvalidToken."""

    def __init__(self, folder: Path) -> None:
        pem = made_once(folder / "identity-key.pem", _new_key)
        self._pem = pem.decode("ascii")
        public_key = serialization.load_pem_private_key(pem, password=None).public_key()
        self.public_pem = public_key.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        self.key_id = hashlib.sha256(self.public_pem).hexdigest()[:40]
        self._signer = crypt.RSASigner.from_string(pem, self.key_id)
        self._folder = folder

    @cached_property
    def _proxy(self) -> es.EsSigner:
        """Return what signs as Identity-Aware Proxy, by a key that is made when it is first asked for."""
        pem = made_once(self._folder / "proxy-key.pem", _new_proxy_key)
        return es.EsSigner.from_string(pem, hashlib.sha256(pem).hexdigest()[:6])

    @property
    def _proxy_public(self) -> bytes:
        pem = made_once(self._folder / "proxy-key.pem", _new_proxy_key)
        public = serialization.load_pem_private_key(pem, password=None).public_key()
        return public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)

    def sign(self, data: bytes) -> bytes:
        """Sign by RSASSA-PKCS1-v1_5 with SHA-256, as IAM's signBlob does."""
        signature: bytes = self._signer.sign(data)
        return signature

    def is_signed(self, signature: bytes, data: bytes) -> bool:
        """Return whether a signature of the data is by sign()."""
        return bool(crypt.verify_signature(data, signature, self.public_pem))

    def access_token(self, email: str, *, scope: str = _SCOPE, lifetime_s: int = LIFETIME_S) -> str:
        """Return a token that lets its bearer call the emulator's services as a service account."""
        return self._token({"iss": ISSUER, "email": email, "scope": scope}, lifetime_s)

    def id_token(
        self, email: str, audience: str, *, lifetime_s: int = LIFETIME_S, with_email: bool = True, **claims: object
    ) -> str:
        """Return an OpenID Connect token, as Pub/Sub's pushes and the metadata server's `identity` carry it."""
        subject = {"iss": ISSUER, "aud": audience, "azp": email, "sub": email}
        about = {"email": email, "email_verified": True} if with_email else {}
        return self._token({**subject, **about, **claims}, lifetime_s)

    def iap_assertion(self, email: str, audience: str) -> str:
        """Return what Identity-Aware Proxy says of a person in the header of a request, for a service behind it."""
        now = int(time.time())
        claims = {"iss": IAP_ISSUER, "aud": audience, "sub": f"accounts.google.com:{email}", "email": email}
        token: bytes = jwt.encode(self._proxy, {**claims, "iat": now, "exp": now + IAP_LIFETIME_S})
        return token.decode("ascii")

    def verify_access_token(self, token: str) -> str:
        """Return the email that a token of access_token() is for."""
        claims = self._decode(token)
        if "scope" not in claims or claims.get("iss") != ISSUER:
            raise InvalidToken("this is a token, and no access token")
        return str(claims.get("email", ""))

    def verify_id_token(self, token: str, audience: str) -> dict[str, Any]:
        """Return the claims of an id_token() that is meant for the audience."""
        claims = self._decode(token, audience)
        if claims.get("iss") != ISSUER:
            raise InvalidToken(f"the issuer is {claims.get('iss')!r}, not {ISSUER}")
        return claims

    def exchange(self, assertion: str, token_uri: str) -> dict[str, object]:
        """Answer a service account's assertion as Google does: with an access token, or with an ID token if asked."""
        claims = self._decode(assertion, token_uri, GOOGLES_TOKEN_URI)
        email = str(claims.get("iss", ""))
        if "target_audience" in claims:
            return {"id_token": self.id_token(email, str(claims["target_audience"]))}
        token = self.access_token(email, scope=str(claims.get("scope", _SCOPE)))
        return {"access_token": token, "expires_in": LIFETIME_S - 1, "token_type": "Bearer"}

    def service_account_file(self, folder: Path, email: str, *, token_uri: str, project: str) -> Path:
        """Write a service account's key file, for GOOGLE_APPLICATION_CREDENTIALS; only its owner may read it."""
        content = {
            "type": "service_account",
            "project_id": project,
            "private_key_id": self.key_id,
            "private_key": self._pem,
            "client_email": email,
            "client_id": email,
            "auth_uri": token_uri,
            "token_uri": token_uri,
            "universe_domain": "googleapis.com",
        }
        path = folder / f"{email.partition('@')[0]}.json"
        write_secret(path, json.dumps(content, indent=2).encode())
        return path

    def blueprint(self) -> Blueprint:
        """Return the routes of the token endpoint (TOKEN_PATH) and of the public key (CERTIFICATES_PATH)."""
        routes = Blueprint("identity", __name__)

        @routes.post(TOKEN_PATH)
        def token() -> Response | tuple[Response, int]:
            if request.form.get("grant_type") != _JWT_BEARER:
                return _refusal("unsupported_grant_type", f"only {_JWT_BEARER} is served")
            try:
                return jsonify(self.exchange(request.form.get("assertion", ""), request.base_url))
            except InvalidToken as error:
                return _refusal("invalid_grant", str(error))

        @routes.get(CERTIFICATES_PATH)
        def certificates() -> Response:
            return jsonify({self.key_id: self.public_pem.decode("ascii")})

        @routes.get(IAP_KEYS_PATH)
        def proxy_keys() -> Response:
            return jsonify({self._proxy.key_id: self._proxy_public.decode("ascii")})

        return routes

    def _token(self, claims: Mapping[str, object], lifetime_s: int) -> str:
        now = int(time.time())
        token: bytes = jwt.encode(self._signer, {**claims, "iat": now, "exp": now + lifetime_s})
        return token.decode("ascii")

    def _decode(self, token: str, *audiences: str) -> dict[str, Any]:
        try:
            return dict(jwt.decode(token, certs=self.public_pem, audience=audiences or None))
        except (ValueError, TypeError, RecursionError) as error:  # google-auth's own exceptions are ValueErrors
            raise InvalidToken(f"this is no valid JSON Web Token: {error}") from error


def _refusal(error: str, description: str) -> tuple[Response, int]:
    return jsonify({"error": error, "error_description": description}), 400


def _new_proxy_key() -> bytes:
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _new_key() -> bytes:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
