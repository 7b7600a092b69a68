"""The key that signs for this machine: HOME/signing.key, Ed25519 in PEM, made once, readable by its owner alone.

It says that a statement was written by an account that can read this home, and no more. cryptography is imported where
the key is needed: commands that sign nothing begin without it.
"""

from __future__ import annotations

import stat
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import EnvironmentFault
from ..host.secret_file import read_or_make
from .envelope import key_id

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SIGNING_KEY = "signing.key"
LONGEST_PEM = 4096  # bytes
OTHERS = stat.S_IRWXG | stat.S_IRWXO
_REMEDY = (
    "restore it, or move it away, and a new one is made: statements of before are then checked with --key and the old "
    "public key"
)


class SigningKey:
    """The key of a home; a Signer."""

    def __init__(self, home: Path) -> None:
        self._path = home / SIGNING_KEY

    @property
    def key_id(self) -> str:
        """Return the id of the public key."""
        return key_id(self._key.public_key())

    def check(self) -> None:
        """Read the key, or make it."""
        _ = self._key

    def sign(self, message: bytes) -> bytes:
        """Sign a message; the same one has the same signature each time."""
        return self._key.sign(message)

    def has_signed(self, message: bytes, signature: bytes) -> bool:
        """Return whether a signature is this key's."""
        return self.sign(message) == signature

    def public_key(self) -> bytes:
        """Return the public key in PEM, as `openssl pkey -pubin` reads it."""
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        return self._key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    @cached_property
    def _key(self) -> Ed25519PrivateKey:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        pem = read_or_make(self._path, _new_key, LONGEST_PEM, _REMEDY)
        try:
            found = load_pem_private_key(pem, None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise EnvironmentFault(f"{self._path} holds no private key without a passphrase; {_REMEDY}") from error
        if not isinstance(found, Ed25519PrivateKey):
            raise EnvironmentFault(f"{self._path} holds a key of another kind than Ed25519; {_REMEDY}")
        mode = stat.S_IMODE(self._path.stat().st_mode)
        if mode & OTHERS:
            raise EnvironmentFault(
                f"{self._path} is open to other accounts (mode {mode:04o}); if none of them has read it, "
                f"chmod 600 {self._path}; else move it away, and a new one is made"
            )
        return found


def _new_key() -> bytes:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
