"""IAM's Service Account Credentials API: tokens in the name of another service account.

As everywhere in the emulator there are no permissions: any account may act as any other.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

from flask import Blueprint, Response, jsonify, request

from .identity import LIFETIME_S, Identity, InvalidToken

_Answer = tuple[Response, int]
_ACCOUNT = re.compile(r"[a-z0-9-]{1,63}@[a-z0-9.-]{1,190}\.iam\.gserviceaccount\.com")
_LIFETIME = re.compile(r"([0-9]{1,5})s")


def iam_credentials(identity: Identity) -> Blueprint:
    """Return the routes of generateAccessToken and generateIdToken."""
    routes = Blueprint("iam_credentials", __name__)

    @routes.post("/v1/projects/<project>/serviceAccounts/<called>")
    def generate(project: str, called: str) -> _Answer:
        try:
            identity.verify_access_token(request.headers.get("Authorization", "").removeprefix("Bearer "))
        except InvalidToken:
            return _refused(401, "UNAUTHENTICATED", "Request had invalid authentication credentials.")
        account, _, method = called.rpartition(":")
        asked = request.get_json(force=True, silent=True)
        if project != "-" or not isinstance(asked, dict):
            return _refused(400, "INVALID_ARGUMENT", "Request contains an invalid argument.")
        if not _ACCOUNT.fullmatch(account):
            return _refused(404, "NOT_FOUND", "Not found; Gaia id not found for email " + account)
        if method == "generateIdToken":
            return _id_token(identity, account, asked)
        if method == "generateAccessToken":
            return _access_token(identity, account, asked)
        return _refused(404, "NOT_FOUND", f"Method {method} not found.")

    return routes


def _id_token(identity: Identity, account: str, asked: dict[str, Any]) -> _Answer:
    audience, with_email = asked.get("audience"), asked.get("includeEmail", False)
    if not isinstance(audience, str) or not audience or not isinstance(with_email, bool):
        return _refused(400, "INVALID_ARGUMENT", "Request contains an invalid argument.")
    return jsonify({"token": identity.id_token(account, audience, with_email=with_email)}), 200


def _access_token(identity: Identity, account: str, asked: dict[str, Any]) -> _Answer:
    scopes, lifetime = asked.get("scope"), _LIFETIME.fullmatch(str(asked.get("lifetime", f"{LIFETIME_S}s")))
    seconds = int(lifetime[1]) if lifetime else 0
    if not isinstance(scopes, list) or not scopes or not 0 < seconds <= LIFETIME_S:
        return _refused(400, "INVALID_ARGUMENT", "Request contains an invalid argument.")
    expires = datetime.now(UTC) + timedelta(seconds=seconds)
    token = identity.access_token(account, scope=" ".join(map(str, scopes)), lifetime_s=seconds)
    return jsonify({"accessToken": token, "expireTime": f"{expires:%Y-%m-%dT%H:%M:%SZ}"}), 200


def _refused(code: int, status: str, message: str) -> _Answer:
    return jsonify({"error": {"code": code, "message": message, "status": status}}), code
