"""The console of a build's VMs, while they run and after they are gone."""

from __future__ import annotations

from ..errors import NotFound
from ..names import LOCAL
from ..ports import Bucket, Compute
from .build_folder import BuildFolder
from .machine_record import ZONE

PORT = 1  # the serial port that is the console


class Console:
    """Reads on where the last read ended."""

    poll = 0.25  # seconds between reads: files of this machine cost nothing

    def __init__(self, folder: BuildFolder, compute: Compute, bucket: Bucket) -> None:
        self._folder = folder
        self._compute = compute
        self._bucket = bucket
        self._read: dict[str, int] = {}  # VM -> bytes that were given

    def read(self) -> bytes:
        """What the VMs have written since, those that are gone first."""
        stored = [path.stem for path in sorted(self._folder.logs.glob("*.log"))]
        output = b""
        for name in dict.fromkeys([*stored, *self._folder.machines()]):
            new = self._new(name, self._read.get(name, 0))
            self._read[name] = self._read.get(name, 0) + len(new)
            output += new
        return output

    def _new(self, machine: str, start: int) -> bytes:
        try:
            return self._compute.serial_output(machine, LOCAL, ZONE, PORT, start)[0]
        except NotFound:
            pass  # gone, and its console was stored before
        try:
            return self._bucket.read(str(self._folder.logs / f"{machine}.log"))[start:]
        except NotFound:
            return b""
