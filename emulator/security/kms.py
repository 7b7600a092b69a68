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
import binascii
import hashlib
import re
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import google_crc32c
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.hashes import SHA256
from flask import Flask, Response, jsonify, request

from shared.host.private_folder import private_folder

from ..web.http_server import HOME_OPTION, HttpServer
from ..web.identity import Identity, InvalidToken
from .key_rings import P256, KeyRings, public_pem
from .refusals import Refusal, denied, invalid, not_found, unauthenticated

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


class KmsEndpoint:
    """Serves the keys below `folder` from its making until close(). Faults: deny(), fail_next(), damage_next().

    A caller without a token may do everything; a token that is not of the emulator is refused.
    """

    def __init__(self, folder: Path, *, identity: Identity, port: int = 0) -> None:
        private_folder(folder, HOME_OPTION)
        self.keys = KeyRings(folder)
        self._identity = identity
        self._lock = threading.Lock()
        self._denied: set[str] = set()
        self._failures: list[int] = []
        self._damages = 0
        self.asked: list[str] = []  # METHOD /path of each request, in their order
        with ExitStack() as opened:
            server = opened.enter_context(HttpServer(self._application(), port=port))
            self.url = server.url
            self._opened = opened.pop_all()

    def close(self) -> None:
        """Serve no more."""
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

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

    def deny(self, permission: str) -> None:
        """Refuse what needs a permission, such as cloudkms.cryptoKeyVersions.useToSign, until allow()."""
        with self._lock:
            self._denied.add(permission)

    def allow(self) -> None:
        """Refuse nothing any more."""
        with self._lock:
            self._denied.clear()

    def fail_next(self, status: int, times: int = 1) -> None:
        """Answer requests with an error, so many times."""
        with self._lock:
            self._failures += [status] * times

    def damage_next(self, times: int = 1) -> None:
        """Answer with sums that are wrong, so many times."""
        with self._lock:
            self._damages += times

    def _application(self) -> Flask:
        application = Flask("kms")

        @application.route("/v1/<path:rest>", methods=["GET", "POST", "PATCH"])
        def serve(rest: str) -> Response:
            with self._lock:
                self.asked.append(f"{request.method} /v1/{rest}")
                status = self._failures.pop(0) if self._failures else 0
            if status:
                raise Refusal(status, "UNAVAILABLE" if status == 503 else "INTERNAL", "A fault on purpose.")
            self._admit(rest)
            return jsonify(self._answer(rest))

        @application.errorhandler(Refusal)
        def refuse(refusal: Refusal) -> Response:
            return refusal.response()

        return application

    def _admit(self, rest: str) -> None:
        header = request.headers.get("Authorization")
        if header is not None:
            try:
                self._identity.verify_access_token(header.removeprefix("Bearer "))
            except InvalidToken as error:
                raise unauthenticated() from error
        kind = next((found for found in ("cryptoKeyVersions", "cryptoKeys", "keyRings") if f"/{found}" in rest), "")
        verb = {"GET": "get", "POST": "create", "PATCH": "update"}[request.method]
        name = rest
        for ending, word in _PERMISSIONS.items():
            if rest.endswith(ending):
                verb, name = word, rest.removesuffix(ending)
        permission = f"cloudkms.{kind}.{verb}"
        with self._lock:
            if permission in self._denied:
                raise denied(permission, name)

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
        return self.keys.make_key(parent, request.args.get("cryptoKeyId", ""), _body(), empty=empty)

    def _change(self, version: str) -> Mapping[str, Any]:
        if request.args.get("updateMask") != "state":
            raise invalid("update_mask must be state: nothing else of a CryptoKeyVersion can be changed here.")
        return self.keys.set_state(version, str(_body().get("state")))

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
        body = _body()
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


def _body() -> Mapping[str, Any]:
    found = request.get_json(force=True, silent=True)
    if not isinstance(found, dict):
        raise invalid("Invalid JSON payload received.")
    return found


def _bytes(text: object, field: str) -> bytes:
    """Decode base64, of either alphabet, as JSON of protocol buffers may have it: gcloud writes that of URLs."""
    try:
        return base64.b64decode(str(text).replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError) as error:
        raise invalid(f"Invalid value at '{field}' (TYPE_BYTES), Base64 decoding failed.") from error


def _digest(found: object) -> bytes:
    if not isinstance(found, dict) or set(found) != {"sha256"}:
        raise invalid("The digest must be a SHA-256: that of the algorithm of the key.")
    digest = _bytes(found["sha256"], "digest.sha256")
    if len(digest) != hashlib.sha256().digest_size:
        raise invalid(f"The digest has {len(digest)} bytes, and a SHA-256 has 32.")
    return digest


def _data(found: object) -> bytes:
    data = _bytes(found, "data")
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
