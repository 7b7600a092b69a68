"""The metadata server: what a guest finds at http://169.254.169.254/computeMetadata/v1.

Names are as in Compute Engine's: words joined by dashes in paths, camelCase in recursive answers.
https://cloud.google.com/compute/docs/metadata/predefined-metadata-keys
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, unquote

from shared.machines.metadata_server import MetadataRequest, Response, Route

from ..web.identity import LIFETIME_S, Identity
from .machines import Instance
from .places import PROJECT_NUMBER
from .rest.calls import fingerprint
from .rest.links import last
from .rest.refusals import Document

ROOT = "/computeMetadata/v1"
_FLAVOR = {"Metadata-Flavor": "Google", "Server": "Metadata Server for VM"}
_KEPT = ("attributes", "service-accounts")  # whose keys are not ours to rename
_LONGEST_WAIT = 300.0  # seconds for which a request waits for a change

Tree = dict[str, Any]
Leaf = Callable[[Mapping[str, str]], Response]
"""Answers a request for one value that depends on the query."""


class Metadata:
    """The metadata of one instance. `tokens` are the access tokens that its guest has been given."""

    def __init__(self, instance: Instance, identity: Identity) -> None:
        self._instance = instance
        self._identity = identity
        self.tokens: set[str] = set()

    def routes(self) -> Sequence[Route]:
        """What is served."""
        return (
            Route("GET", re.compile(r"/?"), lambda request: _text("computeMetadata/\n")),
            Route("GET", re.compile(re.escape(ROOT) + r"(?P<path>(/.*)?)"), self._answer),
            Route("PUT", re.compile(re.escape(ROOT) + r"/instance/guest-attributes/.*"), _no_guest_attributes),
        )

    def _answer(self, request: MetadataRequest) -> Response:
        if request.headers.get("metadata-flavor") != "Google" or "x-forwarded-for" in request.headers:
            return _text('Missing required header "Metadata-Flavor": "Google"', HTTPStatus.FORBIDDEN)
        query = {key.lower(): values[-1] for key, values in parse_qs(request.query, keep_blank_values=True).items()}
        parts = [unquote(part) for part in request.groups["path"].split("/") if part]
        if query.get("wait_for_change", "").lower() == "true":
            self._wait_for_change(parts, query)
        value = self._find(parts)
        if value is None:
            return _text("The requested metadata key was not found\n", HTTPStatus.NOT_FOUND)
        if callable(value):
            found = value(query)
            assert isinstance(found, Response)
            return found
        if isinstance(value, dict) and not request.path.endswith("/") and "recursive" not in query:
            return Response(HTTPStatus.MOVED_PERMANENTLY, b"", "text/html", {**_FLAVOR, "Location": f"{request.path}/"})
        found = _value(value, query, kept=any(f"/{name}" in request.path for name in _KEPT))
        return replace(found, headers={**found.headers, "ETag": _etag(value)})

    def _find(self, parts: Sequence[str]) -> object:
        value: object = self._tree()
        for part in parts:
            value = value.get(part) if isinstance(value, dict) else None
        return value

    def _wait_for_change(self, parts: Sequence[str], query: Mapping[str, str]) -> None:
        """Wait until a value is another one than the asker knows, for as long as the asker wants to wait."""
        seconds = query.get("timeout_sec", "")
        known = query.get("last_etag") or _etag(self._find(parts))
        with self._instance.changed:
            self._instance.changed.wait_for(
                lambda: _etag(self._find(parts)) != known,
                min(float(seconds), _LONGEST_WAIT) if seconds.isdecimal() else _LONGEST_WAIT,
            )

    def _tree(self) -> Tree:
        document = self._instance.document
        zone = f"projects/{PROJECT_NUMBER}/zones/{last(document['zone'])}"
        name = document["name"]
        hostname = document.get("hostname", f"{name}.{last(document['zone'])}.c.{self._instance.project}.internal")
        machine_type = f"projects/{PROJECT_NUMBER}/machineTypes/{last(document['machineType'])}"
        scheduling = document["scheduling"]
        instance: Tree = {
            "attributes": self._instance.attributes(),
            "cpu-platform": document["cpuPlatform"],
            "description": document.get("description", ""),
            "disks": _disks(document),
            "hostname": hostname,
            "id": int(document["id"]),
            "image": "",
            "machine-type": machine_type,
            "maintenance-event": "NONE",
            "name": name,
            "network-interfaces": _interfaces(document),
            "preempted": "FALSE",
            "scheduling": {
                "automatic-restart": str(scheduling["automaticRestart"]).upper(),
                "on-host-maintenance": scheduling["onHostMaintenance"],
                "preemptible": str(scheduling["preemptible"]).upper(),
            },
            "service-accounts": self._accounts(),
            "tags": document["tags"].get("items", []),
            "zone": zone,
        }
        project = {
            "attributes": {},
            "numeric-project-id": int(PROJECT_NUMBER),
            "project-id": self._instance.project,
        }
        return {"instance": instance, "project": project}

    def _accounts(self) -> Tree:
        accounts: Tree = {}
        for account in self._instance.document.get("serviceAccounts", []):
            email, scopes = account["email"], account["scopes"]
            entry: Tree = {"aliases": ["default"], "email": email, "scopes": scopes}
            entry["token"] = self._token(email, scopes)
            entry["identity"] = self._id_token(email)
            accounts["default"] = accounts[email] = entry
        return accounts

    def _token(self, email: str, scopes: Sequence[str]) -> Leaf:
        def answer(query: Mapping[str, str]) -> Response:
            token = self._identity.access_token(email, scope=" ".join(scopes))
            self.tokens.add(token)
            found = {"access_token": token, "expires_in": LIFETIME_S - 1, "token_type": "Bearer"}
            return Response(HTTPStatus.OK, json.dumps(found).encode(), "application/json", _FLAVOR)

        return answer

    def _id_token(self, email: str) -> Leaf:
        def answer(query: Mapping[str, str]) -> Response:
            if not query.get("audience"):
                return _text("non-empty audience parameter required", HTTPStatus.BAD_REQUEST)
            document = self._instance.document
            about = {
                "instance_id": document["id"],
                "instance_name": document["name"],
                "project_id": self._instance.project,
                "project_number": int(PROJECT_NUMBER),
                "zone": last(document["zone"]),
            }
            if query.get("format") == "full":
                google = {"compute_engine": about}
                return _text(self._identity.id_token(email, query["audience"], google=google))
            return _text(self._identity.id_token(email, query["audience"]))

        return answer


def _disks(document: Document) -> Tree:
    return {
        str(entry["index"]): {"device-name": entry["deviceName"], "index": entry["index"], "mode": entry["mode"]}
        for entry in document["disks"]
    }


def _interfaces(document: Document) -> Tree:
    return {
        str(number): {"ip": entry["networkIP"], "network": entry["network"]}
        for number, entry in enumerate(document["networkInterfaces"])
    }


def _value(value: object, query: Mapping[str, str], *, kept: bool) -> Response:
    if isinstance(value, dict) and query.get("recursive", "").lower() != "true":
        names = (f"{name}/" if isinstance(entry, dict) else name for name, entry in value.items())
        return _text("".join(f"{name}\n" for name in sorted(names)))
    if isinstance(value, dict) or query.get("alt") == "json":
        body = json.dumps(_renamed(value, kept=kept)).encode()
        return Response(HTTPStatus.OK, body, "application/json", _FLAVOR)
    return _text("\n".join(value) + "\n" if isinstance(value, list) else str(value))


def _renamed(value: object, *, kept: bool) -> object:
    """Return a tree with the names of recursive answers, without the values that depend on a query."""
    if not isinstance(value, dict):
        return value
    return {
        key if kept else _camel(key): _renamed(entry, kept=key in _KEPT)
        for key, entry in value.items()
        if not callable(entry)
    }


def _etag(value: object) -> str:
    """Name a value, or all that is below it: equal names for equal values."""
    return fingerprint(_renamed(value, kept=True) if not callable(value) else "")


def _camel(name: str) -> str:
    first, *rest = name.split("-")
    return first + "".join(word.capitalize() for word in rest)


def _text(text: str, status: int = HTTPStatus.OK) -> Response:
    return Response(status, text.encode(), "application/text" if status == HTTPStatus.OK else "text/html", _FLAVOR)


def _no_guest_attributes(request: MetadataRequest) -> Response:
    return _text("Guest attributes endpoint access is disabled.", HTTPStatus.FORBIDDEN)
