"""Secret Manager's endpoint: secrets and their versions (https://cloud.google.com/secret-manager/docs/reference/rest).

    GET, POST   v1/projects/P/secrets               ?secretId=
    GET         .../secrets/S, .../secrets/S/versions, .../versions/V, where V is a number or latest
    POST        .../secrets/S:addVersion            .../versions/V:enable  :disable  :destroy
    GET         .../versions/V:access

Names in answers have the project's number in the place of its id, as Google's have; both are taken.
"""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import google_crc32c
from flask import request

from shared.host.private_folder import private_folder

from ..web.http_server import HOME_OPTION
from ..web.identity import Identity
from ..web.secret_files import write_secret
from .endpoint import ApiEndpoint, decoded, json_body
from .refusals import already_exists, failed_precondition, invalid, not_found

ENABLED, DISABLED, DESTROYED = "ENABLED", "DISABLED", "DESTROYED"
LATEST = "latest"
MOST_DATA = 65536  # bytes of a value
_SECRETS = re.compile(r"projects/([^/]+)/secrets")
_SECRET = re.compile(r"projects/([^/]+)/secrets/([^/:]+)(:addVersion)?")
_VERSIONS = re.compile(r"projects/([^/]+)/secrets/([^/]+)/versions")
_VERSION = re.compile(r"projects/([^/]+)/secrets/([^/]+)/versions/([^/:]+)(:access|:enable|:disable|:destroy)?")
_ID = re.compile(r"[A-Za-z0-9_-]{1,255}")
_STATES = {":enable": ENABLED, ":disable": DISABLED, ":destroy": DESTROYED}


class SecretManagerEndpoint(ApiEndpoint):
    """Serves the secrets below `folder`, which one file of them has, by project and name."""

    def __init__(self, folder: Path, *, identity: Identity, port: int = 0) -> None:
        private_folder(folder, HOME_OPTION)
        self._path = folder / "secrets.json"
        self._secrets: dict[str, list[dict[str, str]]] = {}  # versions of P/S: state, time, and data in base64
        if self._path.exists():
            self._secrets = json.loads(self._path.read_text())
        super().__init__("secret-manager", identity=identity, port=port)

    @property
    def environment(self) -> dict[str, str]:
        """What gcloud and our functions need to find in theirs to come here."""
        return {
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_SECRETMANAGER": f"{self.url}/",
            "GOLDSMITH_SECRETS_ENDPOINT": self.url,
        }

    def _permission(self, rest: str) -> tuple[str, str]:
        name, _, verb = rest.partition(":")
        kind = "versions" if "/versions" in name or verb == "addVersion" else "secrets"
        if not verb:
            verb = "create" if request.method == "POST" else "list" if name.endswith(f"/{kind}") else "get"
        return f"secretmanager.{kind}.{'add' if verb == 'addVersion' else verb}", name

    def _answer(self, rest: str) -> Mapping[str, Any]:
        method = request.method
        if found := _SECRETS.fullmatch(rest):
            return self._make(found[1]) if method == "POST" else {"secrets": self._all(found[1])}
        if (found := _SECRET.fullmatch(rest)) and (method == "POST") == (found[3] is not None):
            key = self._key(found[1], found[2])
            return self._add(key) if found[3] else _secret(key)
        if (found := _VERSIONS.fullmatch(rest)) and method == "GET":
            key = self._key(found[1], found[2])
            numbers = range(len(self._secrets[key]), 0, -1)  # newest first
            return {"versions": [self._version(key, number) for number in numbers], "totalSize": len(numbers)}
        if (found := _VERSION.fullmatch(rest)) and (method == "POST") == (found[4] in _STATES):
            key = self._key(found[1], found[2])
            return self._of_version(key, self._number(key, found[3]), found[4] or "")
        raise not_found(f"Method not found: {method} /v1/{rest}")

    def _of_version(self, key: str, number: int, verb: str) -> Mapping[str, Any]:
        version = self._secrets[key][number - 1]
        name = f"{_secret(key)['name']}/versions/{number}"
        if verb in _STATES:
            if version["state"] == DESTROYED:
                raise failed_precondition(f"Secret Version [{name}] is in {DESTROYED} state.")
            version["state"] = _STATES[verb]
            if version["state"] == DESTROYED:
                version["data"] = ""
            self._save()
        if verb != ":access":
            return self._version(key, number)
        if version["state"] != ENABLED:
            raise failed_precondition(f"Secret Version [{name}] is in {version['state']} state.")
        data = base64.b64decode(version["data"])
        return {"name": name, "payload": {"data": version["data"], "dataCrc32c": str(google_crc32c.value(data))}}

    def _make(self, project: str) -> Mapping[str, Any]:
        secret = request.args.get("secretId", "")
        if not _ID.fullmatch(secret):
            raise invalid(f"The secret ID {secret!r} does not match [A-Za-z0-9_-]{{1,255}}.")
        if not json_body().get("replication"):
            raise invalid("Field [replication] is required.")
        key = f"{project}/{secret}"
        with self._lock:
            if key in self._secrets:
                raise already_exists(f"Secret [{_secret(key)['name']}] already exists.")
            self._secrets[key] = []
            self._save()
        return _secret(key)

    def _add(self, key: str) -> Mapping[str, Any]:
        payload = json_body().get("payload")
        given = payload if isinstance(payload, dict) else {}
        data = decoded(given.get("data", ""), "payload.data")
        if not 0 < len(data) <= MOST_DATA:
            raise invalid(f"The payload has {len(data)} bytes; it must have 1 to {MOST_DATA}.")
        told = given.get("dataCrc32c")
        if told is not None and str(told) != str(google_crc32c.value(data)):
            raise invalid("The checksum in field data_crc32c did not match the data in field data.")
        with self._lock:
            encoded = base64.b64encode(data).decode()
            time = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}Z"
            self._secrets[key].append({"state": ENABLED, "createTime": time, "data": encoded})
            self._save()
            number = len(self._secrets[key])
        return {**self._version(key, number), **({} if told is None else {"clientSpecifiedPayloadChecksum": True})}

    def _version(self, key: str, number: int) -> Mapping[str, Any]:
        version = self._secrets[key][number - 1]
        name = f"{_secret(key)['name']}/versions/{number}"
        return {"name": name, "createTime": version["createTime"], "state": version["state"]}

    def _number(self, key: str, text: str) -> int:
        last = len(self._secrets[key])
        if text == LATEST and last == 0:
            raise not_found(f"Secret [{_secret(key)['name']}] not found or has no versions.")
        number = last if text == LATEST else int(text) if text.isascii() and text.isdecimal() else 0
        if not 0 < number <= last:
            raise not_found(f"Secret Version [{_secret(key)['name']}/versions/{text}] not found.")
        return number

    def _all(self, project: str) -> list[Mapping[str, Any]]:
        return [_secret(key) for key in self._secrets if project in (key.partition("/")[0], _number_of(key))]

    def _key(self, project: str, secret: str) -> str:
        for key in self._secrets:
            if key.partition("/")[2] == secret and project in (key.partition("/")[0], _number_of(key)):
                return key
        raise not_found(f"Secret [projects/{project}/secrets/{secret}] not found.")

    def _save(self) -> None:
        write_secret(self._path, json.dumps(self._secrets).encode())


def _number_of(key: str) -> str:
    """Return the number of the project of a secret, which does not change."""
    return str(100_000_000_000 + zlib.crc32(key.partition("/")[0].encode()))


def _secret(key: str) -> Mapping[str, Any]:
    name = f"projects/{_number_of(key)}/secrets/{key.partition('/')[2]}"
    return {"name": name, "replication": {"automatic": {}}}
