"""Cloud KMS's endpoint: rings, keys, versions and signatures (https://cloud.google.com/kms/docs/reference/rest).

GET, POST   v1/projects/P/locations/L/keyRings                                   ?keyRingId=
GET, POST   .../keyRings/R/cryptoKeys                                            ?cryptoKeyId=
GET, POST   .../cryptoKeys/K/cryptoKeyVersions
PATCH       .../cryptoKeyVersions/N                                              ?updateMask=state
POST        .../cryptoKeyVersions/N:destroy  :restore  :asymmetricSign
GET         .../cryptoKeyVersions/N/publicKey, and every resource by its name
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import google_crc32c
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.hashes import SHA256
from flask import request

from shared.host.private_folder import private_folder

from ..web.http_server import HOME_OPTION
from ..web.identity import Identity
from .endpoint import ApiEndpoint, decoded, json_body
from .key_rings import P256, KeyRings, public_pem
from .refusals import invalid, not_found

MOST_DATA = 65536  # bytes that are signed as they are
_LOCATION = r"projects/[^/]+/locations/[^/]+"
_RING = rf"{_LOCATION}/keyRings/[^/:]+"
_KEY = rf"{_RING}/cryptoKeys/[^/:]+"
_VERSION = rf"{_KEY}/cryptoKeyVersions/[^/:]+"
_COLLECTION = re.compile(rf"({_LOCATION})/(keyRings)|({_RING})/(cryptoKeys)|({_KEY})/(cryptoKeyVersions)")
_RESOURCE = re.compile(rf"({_VERSION})|({_KEY})|({_RING})")
_OF_VERSION = re.compile(rf"({_VERSION})(:asymmetricSign|:destroy|:restore|/publicKey)")
_PERMISSIONS = {
    ":asymmetricSign": "useToSign",
    "/publicKey": "viewPublicKey",
    ":destroy": "destroy",
    ":restore": "restore",
}


class KmsEndpoint(ApiEndpoint):
    """Serves the keys below `folder`. Another fault: damage_next()."""

    def __init__(self, folder: Path, *, identity: Identity, port: int = 0) -> None:
        private_folder(folder, HOME_OPTION)
        self.keys = KeyRings(folder)
        self._damages = 0
        super().__init__("kms", identity=identity, port=port)

    @property
    def environment(self) -> dict[str, str]:
        """What gcloud and our functions need to find in theirs to come here."""
        return {
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDKMS": f"{self.url}/",
            "GOLDSMITH_KMS_ENDPOINT": self.url,
        }

    def make_version(self, name: str) -> None:
        """Make a version of a key for ECDSA, with its ring and key, unless it is there; the number is the next one."""
        key, _, _number = name.partition("/cryptoKeyVersions/")
        ring, _, key_id = key.partition("/cryptoKeys/")
        location, _, ring_id = ring.partition("/keyRings/")
        found = {one["name"] for one in self.keys.list(location, "keyRings")}
        if ring not in found:
            self.keys.make_ring(location, ring_id)
        if key not in {one["name"] for one in self.keys.list(ring, "cryptoKeys")}:
            wanted = {"purpose": "ASYMMETRIC_SIGN", "versionTemplate": {"algorithm": P256}}
            self.keys.make_key(ring, key_id, wanted, empty=True)
        if name not in {one["name"] for one in self.keys.list(key, "cryptoKeyVersions")}:
            self.keys.make_version(key)

    def damage_next(self, times: int = 1) -> None:
        """Answer with sums that are wrong, so many times."""
        with self._lock:
            self._damages += times

    def _permission(self, rest: str) -> tuple[str, str]:
        kind = next((found for found in ("cryptoKeyVersions", "cryptoKeys", "keyRings") if f"/{found}" in rest), "")
        verb = {"GET": "get", "POST": "create", "PATCH": "update"}[request.method]
        name = rest
        for ending, word in _PERMISSIONS.items():
            if rest.endswith(ending):
                verb, name = word, rest.removesuffix(ending)
        return f"cloudkms.{kind}.{verb}", name

    def _answer(self, rest: str) -> Mapping[str, Any]:
        if found := _COLLECTION.fullmatch(rest):
            parent, collection = (part for part in found.groups() if part is not None)
            answers = {"GET": self._listed, "POST": self._make}
            if request.method in answers:
                return answers[request.method](parent, collection)
        elif found := _OF_VERSION.fullmatch(rest):
            methods = {
                "POST :asymmetricSign": self._sign,
                "POST :destroy": self.keys.destroy,
                "POST :restore": self.keys.restore,
                "GET /publicKey": self._public_key,
            }
            method = methods.get(f"{request.method} {found[2]}")
            if method is not None:
                return method(found[1])
        elif _RESOURCE.fullmatch(rest):
            if request.method == "GET":
                return self.keys.get(rest)
            if request.method == "PATCH" and "/cryptoKeyVersions/" in rest:
                return self._change(rest)
        raise not_found(f"Method not found: {request.method} /v1/{rest}")

    def _listed(self, parent: str, collection: str) -> Mapping[str, Any]:
        found = self.keys.list(parent, collection)
        return {collection: found, "totalSize": len(found)}

    def _make(self, parent: str, collection: str) -> Mapping[str, Any]:
        if collection == "keyRings":
            return self.keys.make_ring(parent, request.args.get("keyRingId", ""))
        if collection == "cryptoKeyVersions":
            return self.keys.make_version(parent)
        empty = request.args.get("skipInitialVersionCreation") == "true"
        return self.keys.make_key(parent, request.args.get("cryptoKeyId", ""), json_body(), empty=empty)

    def _change(self, version: str) -> Mapping[str, Any]:
        if request.args.get("updateMask") != "state":
            raise invalid("update_mask must be state: nothing else of a CryptoKeyVersion can be changed here.")
        return self.keys.set_state(version, str(json_body().get("state")))

    def _public_key(self, version: str) -> Mapping[str, Any]:
        found, key = self.keys.private_key(version)
        pem = public_pem(key)
        return {
            "name": version,
            "algorithm": found["algorithm"],
            "protectionLevel": found["protectionLevel"],
            "pem": pem.decode(),
            "pemCrc32c": self._sum(pem),
        }

    def _sign(self, version: str) -> Mapping[str, Any]:
        found, key = self.keys.private_key(version)
        body = json_body()
        if ("digest" in body) == ("data" in body):
            raise invalid("Exactly one of digest and data must be specified.")
        if isinstance(key, ec.EllipticCurvePrivateKey):
            digest = _digest(body["digest"]) if "digest" in body else hashlib.sha256(_data(body["data"])).digest()
            signature = key.sign(digest, ec.ECDSA(utils.Prehashed(SHA256())))
        elif "digest" in body:
            raise invalid(f"A key of {found['algorithm']} signs data, and no digest.")
        else:
            signature = key.sign(_data(body["data"]))
        given = {name: read(body[name]) for name, read in (("digest", _digest), ("data", _data)) if name in body}
        checked = {name: _is_checked(body, name, data) for name, data in given.items()}
        return {
            "name": version,
            "protectionLevel": found["protectionLevel"],
            "signature": base64.b64encode(signature).decode(),
            "signatureCrc32c": self._sum(signature),
            **{f"verified{name.capitalize()}Crc32c": True for name, known in checked.items() if known},
        }

    def _sum(self, data: bytes) -> str:
        with self._lock:
            damaged = self._damages > 0
            self._damages -= damaged
        return str(google_crc32c.value(data) ^ damaged)


def _digest(found: object) -> bytes:
    if not isinstance(found, dict) or set(found) != {"sha256"}:
        raise invalid("The digest must be a SHA-256: that of the algorithm of the key.")
    digest = decoded(found["sha256"], "digest.sha256")
    if len(digest) != hashlib.sha256().digest_size:
        raise invalid(f"The digest has {len(digest)} bytes, and a SHA-256 has 32.")
    return digest


def _data(found: object) -> bytes:
    data = decoded(found, "data")
    if len(data) > MOST_DATA:
        raise invalid(f"The data has {len(data)} bytes, and {MOST_DATA} is the most.")
    return data


def _is_checked(body: Mapping[str, Any], name: str, data: bytes) -> bool:
    """Return whether the caller has told the sum of what is signed. Refusal where it is another one."""
    told = body.get(f"{name}Crc32c")
    if told is None:
        return False
    if str(told) != str(google_crc32c.value(data)):
        raise invalid(f"The checksum in field {name}_crc32c did not match the data in field {name}.")
    return True
