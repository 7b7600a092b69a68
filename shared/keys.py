"""Who may speak for a build VM: one key an attempt, derived from a master key that no VM ever sees."""

from __future__ import annotations

import hashlib
import hmac

from provisioner.protocol import Report, sign

from .errors import EnvironmentFault


class Keys:
    """Derives and checks with the master key: at least 32 bytes, a secret of the functions (or of this machine).

    Who neither makes VMs nor hears them has no master key; to need one there is an EnvironmentFault.
    """

    def __init__(self, master: bytes | None) -> None:
        if master is not None and len(master) < 32:
            raise ValueError("the master key needs at least 32 bytes")
        self._master = master

    def of_attempt(self, build_id: str, attempt: int) -> str:
        """The key, in hex, that one attempt's VM signs its reports with."""
        if self._master is None:
            raise EnvironmentFault("there is no master key here; set GOLDSMITH_MASTER_KEY for functions that need it")
        return hmac.new(self._master, f"{build_id}\n{attempt}".encode(errors="replace"), hashlib.sha256).hexdigest()

    def good(self, report: Report, data: bytes, signature: str) -> bool:
        """Whether `signature` over the exact bytes was made by the VM that the report says it is from."""
        wanted = sign(self.of_attempt(report.build_id, report.attempt), data)
        return hmac.compare_digest(wanted.encode(), signature.encode(errors="replace"))
