"""A disk in memory that loses power at a write or a sync: any sectors that were not synced may be lost."""

from __future__ import annotations

import random
from collections.abc import Iterator

from provisioner.system.disk_file import DiskFile

SECTOR = 512


class PowerCut(Exception):
    """The power went."""


class Power:
    """The power supply of a machine's disks. It counts their operations and fails at operation number `cut`."""

    def __init__(self, cut: int | None = None, seed: int = 0) -> None:
        self.cut = cut
        self.operations = 0
        self.random = random.Random(seed)

    def use(self) -> None:
        if self.operations == self.cut:
            raise PowerCut
        self.operations += 1


class MemoryDisk(DiskFile):
    """A disk. `durable` holds the sectors that survive a power cut."""

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
        """Lose power: of the sectors that were not synced, none, all or some reach the disk."""
        share = self.power.random.choice((0.0, 0.5, 1.0))
        self._keep([sector for sector in self._unsynced if self.power.random.random() < share])

    def _keep(self, sectors: list[int]) -> None:
        for sector in sectors:
            at = sector * SECTOR
            self.durable[at : at + SECTOR] = self._seen[at : at + SECTOR]
