from __future__ import annotations

from collections.abc import Mapping

import pytest

from shared.gcp.firestore import GoogleStore
from tests.contracts.store_contract import StoreContract


@pytest.fixture
def store(google: Mapping[str, str], project: str) -> GoogleStore:
    return GoogleStore(project, google["FIRESTORE_EMULATOR_HOST"])


class TestGoogleStore(StoreContract):
    pass
