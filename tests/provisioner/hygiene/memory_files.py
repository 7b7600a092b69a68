"""Files of a tree in memory, for the hygiene check."""

from __future__ import annotations

import base64
import stat

from provisioner.hygiene.hygiene import File

KEY = base64.b64encode(bytes(range(200))).decode()


def pem(kind: str) -> str:
    """Return a file in the form of a private key, which is none."""
    lines = "\n".join(KEY[at : at + 64] for at in range(0, len(KEY), 64))
    return f"-----BEGIN {kind} KEY-----\n{lines}\n-----END {kind} KEY-----\n"


class MemoryFile(File):
    """A file of a test's tree."""

    def __init__(self, path: str, data: bytes | str, of_build: bool = True, mode: int = stat.S_IFREG | 0o600) -> None:
        self.data = data.encode() if isinstance(data, str) else data
        self.limits: list[int] = []  # of each read
        self._of_build = of_build
        super().__init__(path, mode, len(self.data))

    def is_of_build(self) -> bool:
        return self._of_build

    def is_blank(self, start: int) -> bool:
        return not self.data[start:].strip(b"\0")

    def read(self, limit: int) -> bytes:
        self.limits.append(limit)
        return self.data[:limit]
