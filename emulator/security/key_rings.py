"""Rings, keys and their versions, with real keys: what a home of the emulator keeps in one file.

States are Google's (https://cloud.google.com/kms/docs/key-states). A key is there at once: PENDING_GENERATION, in which
a new one is for a moment on Google Cloud, is not seen here.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from ..web.secret_files import write_secret
from .refusals import already_exists, failed_precondition, invalid, not_found, unimplemented

P256, ED25519 = "EC_SIGN_P256_SHA256", "EC_SIGN_ED25519"
ENABLED, DISABLED, DESTROY_SCHEDULED = "ENABLED", "DISABLED", "DESTROY_SCHEDULED"
KEPT_DAYS = 30  # between a version's destruction and its end, as Google's default is
_ID = re.compile(r"[a-zA-Z0-9_-]{1,63}")
_KINDS = {"keyRings": "KeyRing", "cryptoKeys": "CryptoKey", "cryptoKeyVersions": "CryptoKeyVersion"}

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


class KeyRings:
    """Everything below `folder`, by the names of the resources. Thread-safe; raises Refusal."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "keys.json"
        self._lock = threading.RLock()
        self._resources: dict[str, dict[str, Any]] = {}
        self._keys: dict[str, str] = {}  # private keys in PEM, by the names of their versions
        if self._path.exists():
            kept = json.loads(self._path.read_text())
            self._resources, self._keys = kept["resources"], kept["keys"]

    def get(self, name: str) -> Mapping[str, Any]:
        """Return a resource."""
        with self._lock:
            found = self._resources.get(name)
        if found is None:
            raise not_found(f"{_KINDS[name.split('/')[-2]]} {name} not found.")
        return dict(found)

    def list(self, parent: str, collection: str) -> list[Mapping[str, Any]]:
        """Return the resources of a collection, oldest first."""
        if collection != "keyRings":
            self.get(parent)
        prefix = f"{parent}/{collection}/"
        with self._lock:
            return [dict(one) for name, one in self._resources.items() if name.rpartition("/")[0] + "/" == prefix]

    def make_ring(self, parent: str, ring_id: str) -> Mapping[str, Any]:
        """Make a key ring, below `projects/P/locations/L`."""
        with self._changing():
            return self._add(f"{parent}/keyRings/{_checked(ring_id)}", {})

    def make_key(self, ring: str, key_id: str, wanted: Mapping[str, Any], *, empty: bool) -> Mapping[str, Any]:
        """Make a key for signatures, with its first version unless `empty`."""
        if wanted.get("purpose") != "ASYMMETRIC_SIGN":
            raise unimplemented("This emulator has keys of purpose ASYMMETRIC_SIGN alone.")
        template = wanted.get("versionTemplate")
        algorithm = template.get("algorithm") if isinstance(template, dict) else None
        if algorithm not in (P256, ED25519):
            raise unimplemented(f"This emulator has keys of {P256} and {ED25519} alone.")
        self.get(ring)
        described = {
            "purpose": "ASYMMETRIC_SIGN",
            "versionTemplate": {"protectionLevel": "SOFTWARE", "algorithm": algorithm},
            "labels": wanted.get("labels") or {},
        }
        with self._changing():
            key = self._add(f"{ring}/cryptoKeys/{_checked(key_id)}", described)
            if not empty:
                self._add_version(key)
            return key

    def make_version(self, key: str) -> Mapping[str, Any]:
        """Make a further version of a key."""
        with self._changing():
            return self._add_version(self.get(key))

    def set_state(self, version: str, state: str) -> Mapping[str, Any]:
        """Enable a version or disable it."""
        if state not in (ENABLED, DISABLED):
            raise invalid(f"The state of a CryptoKeyVersion cannot be set to {state}.")
        with self._changing():
            return self._move(version, (ENABLED, DISABLED), state)

    def destroy(self, version: str) -> Mapping[str, Any]:
        """Schedule the destruction of a version."""
        with self._changing():
            found = self._move(version, (ENABLED, DISABLED), DESTROY_SCHEDULED)
            found["destroyTime"] = _time(datetime.now(UTC) + timedelta(days=KEPT_DAYS))
            return found

    def restore(self, version: str) -> Mapping[str, Any]:
        """Take back the destruction of a version, which is disabled then."""
        with self._changing():
            found = self._move(version, (DESTROY_SCHEDULED,), DISABLED)
            found.pop("destroyTime", None)
            return found

    def private_key(self, version: str) -> tuple[Mapping[str, Any], PrivateKey]:
        """Return a version that is enabled, and its key."""
        found = self.get(version)
        if found["state"] != ENABLED:
            raise failed_precondition(f"{version} is not enabled, current state is: {found['state']}.")
        key = load_pem_private_key(self._keys[version].encode(), None)
        assert isinstance(key, (ec.EllipticCurvePrivateKey, ed25519.Ed25519PrivateKey))
        return found, key

    @contextmanager
    def _changing(self) -> Iterator[None]:
        with self._lock:
            yield
            content = json.dumps({"resources": self._resources, "keys": self._keys})
            write_secret(self._path, content.encode())

    def _add(self, name: str, described: Mapping[str, Any]) -> dict[str, Any]:
        if name in self._resources:
            raise already_exists(f"{_KINDS[name.split('/')[-2]]} {name} already exists.")
        self._resources[name] = {"name": name, "createTime": _time(datetime.now(UTC)), **described}
        return self._resources[name]

    def _add_version(self, key: Mapping[str, Any]) -> dict[str, Any]:
        algorithm = key["versionTemplate"]["algorithm"]
        name = f"{key['name']}/cryptoKeyVersions/{len(self.list(key['name'], 'cryptoKeyVersions')) + 1}"
        made = ed25519.Ed25519PrivateKey.generate() if algorithm == ED25519 else ec.generate_private_key(ec.SECP256R1())
        self._keys[name] = made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        described = {"state": ENABLED, "protectionLevel": "SOFTWARE", "algorithm": algorithm}
        return self._add(name, {**described, "generateTime": _time(datetime.now(UTC))})

    def _move(self, version: str, before: tuple[str, ...], state: str) -> dict[str, Any]:
        self.get(version)
        found = self._resources[version]
        if found["state"] not in before:
            raise failed_precondition(f"{version} cannot become {state}, current state is: {found['state']}.")
        found["state"] = state
        return found


def public_pem(key: PrivateKey) -> bytes:
    """Return the public key of a private one, in PEM."""
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _checked(name: str) -> str:
    if not _ID.fullmatch(name):
        raise invalid(f"The ID {name!r} does not match [a-zA-Z0-9_-]{{1,63}}.")
    return name


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S.%f}000Z"
