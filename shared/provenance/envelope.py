"""DSSE envelopes: a statement with the signatures over it, as one line of JSON. Nothing here reads or writes files.

What is signed is the pre-authentication encoding of the payload and its type (PAE), so that nothing has to be brought
into one form before it is checked: https://github.com/secure-systems-lab/dsse, version 1.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import InputError, StoreError
from ..keys import Signer

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

PAYLOAD_TYPE = "application/vnd.in-toto+json"
LARGEST_ENVELOPE = 4 << 20  # bytes: thousands of steps
MOST_SIGNATURES = 16  # each of them is checked over the whole payload


@dataclass(frozen=True)
class Envelope:
    """A payload and the signatures over it, by the ids that their keys are said to have."""

    payload: bytes
    payload_type: str
    signatures: tuple[tuple[str, bytes], ...]


class VerifyingKey:
    """A public key of Ed25519, as machines sign with, or of ECDSA on P-256 with SHA-256, as Cloud KMS does."""

    def __init__(self, pem: bytes, place: str, name: str = "") -> None:
        """Read a key in PEM; `place` is for the message of the InputError that anything else raises.

        The key has the id `name` then, if it has one, and signatures under any other id are not its own.
        """
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key

        try:
            found = load_pem_public_key(pem)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise InputError(f"{place}: is no public key in PEM; get one with: goldsmith images signing-key") from error
        if not isinstance(found, (Ed25519PublicKey, EllipticCurvePublicKey)) or (
            isinstance(found, EllipticCurvePublicKey) and not isinstance(found.curve, SECP256R1)
        ):
            raise InputError(f"{place}: is a key of another kind than Ed25519 and P-256, which Goldsmith signs with")
        self._key = found
        self._name = name
        self.id = name or key_id(found)

    def has_signed(self, envelope: Envelope) -> bool:
        """Return whether one of an envelope's signatures is of this key; without a name, whatever id it is under."""
        message = pre_authentication_encoding(envelope.payload_type, envelope.payload)
        return any(
            self._has_made(signature, message)
            for known, signature in envelope.signatures
            if not self._name or known == self._name
        )

    def _has_made(self, signature: bytes, message: bytes) -> bool:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.hashes import SHA256

        try:
            if isinstance(self._key, Ed25519PublicKey):
                self._key.verify(signature, message)
            else:
                self._key.verify(signature, message, ECDSA(SHA256()))
        except InvalidSignature:
            return False
        return True


def key_id(key: Ed25519PublicKey | EllipticCurvePublicKey) -> str:
    """Return the id of a public key: the SHA-256, in hex, of its SubjectPublicKeyInfo in DER."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """Return what is signed for a payload of a type."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def sign_statement(payload: bytes, signer: Signer) -> bytes:
    """Sign a statement; return its envelope as a line of JSON. Transient, Permanent.

    The key of a machine gives the same bytes for the same statement, and Cloud KMS others each time.
    """
    signature = signer.sign(pre_authentication_encoding(PAYLOAD_TYPE, payload))
    document = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [{"keyid": signer.key_id, "sig": base64.b64encode(signature).decode()}],
    }
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def read_envelope(data: bytes, place: str) -> Envelope:
    """Read an envelope. StoreError, which names `place`, for anything that is none; nothing is checked yet."""
    if len(data) > LARGEST_ENVELOPE:
        raise StoreError(f"{place}: has more than {LARGEST_ENVELOPE} bytes, and is no statement of Goldsmith's")
    try:
        document = json.loads(data)
        payload_type = document["payloadType"]
        signatures = [(entry.get("keyid", ""), _decoded(entry["sig"])) for entry in document["signatures"]]
        envelope = Envelope(_decoded(document["payload"]), payload_type, tuple(signatures))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise StoreError(f"{place}: is damaged, or no DSSE envelope; restore it, or build the image again") from error
    if not isinstance(payload_type, str) or not _is_unicode(payload_type):
        raise StoreError(f"{place}: is no DSSE envelope: its payloadType is no text")
    if len(signatures) > MOST_SIGNATURES:
        raise StoreError(f"{place}: has more than {MOST_SIGNATURES} signatures, and is no statement of Goldsmith's")
    return envelope


def _is_unicode(text: str) -> bool:
    """Return whether a text of JSON can be encoded: half of a surrogate pair cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _decoded(text: str) -> bytes:
    """Decode base64, of either alphabet, as DSSE wants it. ValueError, TypeError."""
    try:
        return base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)
    except binascii.Error as error:
        raise ValueError("not base64") from error
