"""The emulator's parts, each test with its own."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from emulator.storage.endpoint import StorageEndpoint
from emulator.web.identity import Identity

BUCKET = "first-bucket"


@pytest.fixture(scope="session")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    """One key for all tests: to make one takes longer than most of them."""
    return Identity(tmp_path_factory.mktemp("identity"))


@pytest.fixture
def finalized() -> list[dict[str, Any]]:
    """What `storage` has announced; complete when the endpoint is closed."""
    return []


@pytest.fixture
def storage(tmp_path: Path, identity: Identity, finalized: list[dict[str, Any]]) -> Iterator[StorageEndpoint]:
    """Cloud Storage with one empty bucket, `first-bucket`."""
    with StorageEndpoint(tmp_path / "storage", identity=identity, on_finalized=finalized.append) as endpoint:
        body = json.dumps({"name": BUCKET}).encode()
        headers = {"Content-Type": "application/json"}
        with urllib.request.urlopen(urllib.request.Request(f"{endpoint.url}/storage/v1/b?project=p", body, headers)):
            yield endpoint
