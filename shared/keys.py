"""The signing keys of build VMs, derived from a master key that no VM ever sees; the port of what signs statements."""

from __future__ import annotations

import hashlib
import hmac
from typing import Protocol

from provisioner.protocol import Report, sign

from .build.resources import machine_name
from .errors import EnvironmentFault

BY_ATTEMPT = 1  # Build.keys of builds that the release before has begun: both VMs of an attempt have one key
BY_MACHINE = 2  # of all others: each VM has its own


class Signer(Protocol):
    """A key that signs statements about images."""

    @property
    def key_id(self) -> str:
        """Return the SHA-256, in hex, of the public key in DER, or the name of the version of a key in Cloud KMS."""
        ...

    def check(self) -> None:
        """Raise EnvironmentFault where it is known that no key can sign, before anything is made."""
        ...

    def sign(self, message: bytes) -> bytes:
        """Sign a message. Transient, Permanent."""
        ...

    def has_signed(self, message: bytes, signature: bytes) -> bool | None:
        """Return whether a signature is this key's; None where the signer cannot tell."""
        ...


class Keys:
    """Derives and checks with the master key: at least 32 bytes, a secret of the functions (or of this machine).

    `master` is None in processes that neither start VMs nor read their reports; deriving a key then raises
    EnvironmentFault. `scheme` is the build's: a VM of a new build never gets by with a key of the old kind.
    """

    def __init__(self, master: bytes | None) -> None:
        if master is not None and len(master) < 32:
            raise ValueError("the master key needs at least 32 bytes")
        self._master = master

    def of_machine(
        self, build_id: str, attempt: int, phase: str, scheme: int = BY_MACHINE, *, machine: str = ""
    ) -> str:
        """Return the key, in hex, that the VM of one phase of one attempt signs its reports with: one of its own.

        `machine` is the name of a verifier.
        """
        if self._master is None:
            raise EnvironmentFault("there is no master key here; set GOLDSMITH_MASTER_KEY for functions that need it")
        if scheme == BY_ATTEMPT:
            text = f"{build_id}\n{attempt}".encode(errors="replace")
        else:
            own = [machine] if machine else []
            text = _prefixed(build_id, str(attempt), phase, machine_name(build_id, attempt, phase), *own)
        return hmac.new(self._master, text, hashlib.sha256).hexdigest()

    def good(self, report: Report, data: bytes, signature: str, scheme: int = BY_MACHINE) -> bool:
        """Return whether `signature` over the exact bytes was made by the VM that the report says it is from."""
        key = self.of_machine(report.build_id, report.attempt, report.phase, scheme, machine=report.machine)
        wanted = sign(key, data)
        return hmac.compare_digest(wanted.encode(), signature.encode(errors="replace"))


def _prefixed(*words: str) -> bytes:
    """Join words, each behind its length, so that no two lists of words give the same bytes."""
    encoded = [word.encode(errors="replace") for word in words]
    return b"".join(b"%d:%b" % (len(word), word) for word in encoded)
