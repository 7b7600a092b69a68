"""A disk in memory whose power goes at a write or a sync: of what was not synced, any sectors may be lost."""

from __future__ import annotations

import random
from collections.abc import Iterator

from provisioner.disk_file import DiskFile

SECTOR = 512


class PowerCut(Exception):
    """The power went."""


class Power:
    """What all disks of a machine hang on. It goes at operation number `cut`; counts those that there were."""

    def __init__(self, cut: int | None = None, seed: int = 0) -> None:
        self.cut = cut
        self.operations = 0
        self.random = random.Random(seed)

    def use(self) -> None:
        if self.operations == self.cut:
            raise PowerCut
        self.operations += 1


class MemoryDisk(DiskFile):
    """A disk. `durable` is what outlives a power cut, whole sectors at a time."""

    def __init__(self, path: str, data: bytes, power: Power) -> None:
        self.path = path
        self.size = len(data)
        self.durable = bytearray(data)
        self.power = power
        self._seen = bytearray(data)
        self._unsynced: list[int] = []  # sectors, in the order in which they were written

    def read(self, offset: int, length: int) -> bytes:
        return bytes(self._seen[offset : offset + length])

    def write(self, offset: int, data: bytes) -> None:
        self._seen[offset : offset + len(data)] = data
        self._unsynced += range(offset // SECTOR, -(-(offset + len(data)) // SECTOR))
        self.power.use()

    def sync(self) -> None:
        self.power.use()
        self._keep(self._unsynced)
        self._unsynced = []

    def clear(self, begin: int, end: int) -> None:
        if begin < end:
            self.write(begin, bytes(end - begin))

    def runs(self, begin: int, end: int) -> Iterator[tuple[int, int]]:
        yield begin, end

    def lose(self) -> None:
        """The power went. Let any of the sectors reach the disk that nobody waited for: none, all, or some."""
        share = self.power.random.choice((0.0, 0.5, 1.0))
        self._keep([sector for sector in self._unsynced if self.power.random.random() < share])

    def _keep(self, sectors: list[int]) -> None:
        for sector in sectors:
            at = sector * SECTOR
            self.durable[at : at + SECTOR] = self._seen[at : at + SECTOR]
