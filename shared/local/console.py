"""The console of a build's VMs, while they run and after they are gone."""

from __future__ import annotations

from ..errors import NotFound
from ..host.build_folder import BuildFolder
from ..machines.record import ZONE
from ..names import LOCAL
from ..ports import Bucket, Compute

PORT = 1  # the serial port that is the console


class LocalConsole:
    """Reads on where the last read ended."""

    poll = 0.25  # seconds between reads: files of this machine cost nothing

    def __init__(self, folder: BuildFolder, compute: Compute, bucket: Bucket) -> None:
        self._folder = folder
        self._compute = compute
        self._bucket = bucket
        self._read: dict[str, int] = {}  # VM -> bytes that were given

    def read(self) -> bytes:
        """Return what the VMs have written since, deleted ones first."""
        stored = [path.stem for path in sorted(self._folder.logs.glob("*.log"))]
        output = b""
        for name in dict.fromkeys([*stored, *self._folder.machines()]):
            new, self._read[name] = self._new(name, self._read.get(name, 0))
            output += new
        return output

    def _new(self, machine: str, start: int) -> tuple[bytes, int]:
        """Return what a VM has written since an offset, and the offset to go on from."""
        try:
            return self._compute.serial_output(machine, LOCAL, ZONE, PORT, start)
        except NotFound:
            pass  # gone, and its console was stored before
        try:
            new = self._bucket.read(str(self._folder.logs / f"{machine}.log"))[start:]
        except NotFound:
            return b"", start
        return new, start + len(new)
