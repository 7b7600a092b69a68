"""Compute Engine as a Compute, by the contract that this machine's passes too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from emulator.web.identity import Identity
from shared.gcp.compute.compute import GoogleCompute
from tests.contracts.compute_contract import ComputeContract, Site
from tests.shared.gcp.compute.compute_cloud import SITE, open_cloud


class TestGoogleCompute(ComputeContract):
    @pytest.fixture
    def compute(self, tmp_path: Path) -> Iterator[GoogleCompute]:
        with open_cloud(tmp_path, Identity(tmp_path / "identity")) as cloud:
            yield cloud.compute()

    @pytest.fixture
    def site(self) -> Site:
        return SITE
