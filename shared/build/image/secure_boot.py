"""The keys of Secure Boot that an image brings to its VMs, in place of Google's own."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Literal

LONGEST_KEY = 64 << 10  # bytes of one, decoded; a public revocation list has some 20 KiB
MOST_KEYS = 16  # in each list
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----\s([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----")
_FORMS = "write a certificate as PEM, or a file of EFI signature lists in base64"


@dataclass(frozen=True)
class BootKey:
    """A certificate, or EFI signature lists."""

    content: str  # base64, without white space
    kind: Literal["X509", "BIN"]


@dataclass(frozen=True)
class SecureBootKeys:
    """The contents of the firmware's variables at the first boot."""

    pk: BootKey | None = None
    kek: tuple[BootKey, ...] = ()
    db: tuple[BootKey, ...] = ()
    dbx: tuple[BootKey, ...] = ()


def read_boot_key(text: str) -> BootKey:
    """Read a key as a spec has it: a certificate as PEM, or anything else in base64. ValueError."""
    if "PRIVATE KEY" in text:
        raise ValueError("is a private key, which an image must not have; write its certificate")
    pem = _CERTIFICATE.fullmatch(text.strip())
    content = "".join((pem[1] if pem else text).split())
    try:
        data = base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"is neither PEM nor base64; {_FORMS}") from None
    if not data:
        raise ValueError(f"is empty; {_FORMS}")
    if len(data) > LONGEST_KEY:
        raise ValueError(f"has {len(data)} bytes; {LONGEST_KEY} are the most")
    if b"PRIVATE KEY" in data or (_is_der(data) and not _is_certificate(data)):
        raise ValueError(
            "is no certificate, but perhaps a private key, which an image must not have; write a certificate"
        )
    if pem and not _is_der(data):
        raise ValueError("is no certificate: what it holds is cut off, or is not DER; copy it again, whole")
    return BootKey(content, "X509" if pem or _is_der(data) else "BIN")


def _is_der(data: bytes) -> bool:
    """Return whether bytes are one ASN.1 sequence, whole, with a length of two bytes, as certificates have."""
    return len(data) > 4 and data[:2] == b"\x30\x82" and int.from_bytes(data[2:4], "big") == len(data) - 4


def _is_certificate(der: bytes) -> bool:
    """Return whether a sequence begins with one, as certificates do; keys begin with the number of their version."""
    return der[4:5] == b"\x30"
