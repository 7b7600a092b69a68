"""This machine as a Compute, by the contract that Compute Engine's adapter passes too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.clock import SystemClock
from shared.images.catalogue import Catalogue
from shared.local.compute import LocalCompute
from shared.machines.machines import Machines
from shared.ports import Message
from tests.contracts.compute_contract import IDLE, ComputeContract, Site, idle_disk


def ignore(message: Message) -> None:
    """The image that is booted reports nothing."""


class TestLocalCompute(ComputeContract):
    @pytest.fixture
    def compute(self, tmp_path: Path) -> Iterator[LocalCompute]:
        home = tmp_path / "home"
        catalogue = Catalogue(home, SystemClock())
        catalogue.add(idle_disk(tmp_path / "idle.raw"), IDLE, transfer="move", family=IDLE)
        with Machines(home, ignore) as machines:
            yield LocalCompute(home, catalogue, machines, SystemClock())

    @pytest.fixture
    def site(self) -> Site:
        return Site("local", (), "local")
