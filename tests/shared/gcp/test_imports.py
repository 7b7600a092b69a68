"""A function starts with what it needs: no client of Google's is loaded before its adapter is asked for something."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
CLIENTS = ("google.cloud.firestore_v1", "google.cloud.storage", "google.pubsub_v1", "google.cloud.compute_v1")
# Only start_build reads specs, which takes pydantic, and only label_image makes bills of materials.
SLOW = (*CLIENTS, "pydantic", "spdx_tools", "cyclonedx")
NOBODY = "127.0.0.1:1"

USES = {
    "from shared.gcp.firestore import GoogleStore; GoogleStore('p-1', NOBODY)._client": "google.cloud.firestore_v1",
    "from shared.gcp.pubsub import GoogleBus; GoogleBus('p-1', NOBODY)._client": "google.pubsub_v1",
    "from shared.gcp.storage import GoogleBucket; from shared.gcp.settings import Settings;"
    "GoogleBucket(Settings.of_person('my-project', 'b-1', {'STORAGE_EMULATOR_HOST': 'http://' + NOBODY}))._client": (
        "google.cloud.storage"
    ),
}


def loaded_by(program: str) -> set[str]:
    """Return which of the clients a new interpreter has loaded after it has run this."""
    line = f"NOBODY = {NOBODY!r}; {program}; import sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", line], cwd=ROOT, capture_output=True, text=True, check=True)
    return {*SLOW} & {*done.stdout.split()}


def test_making_the_adapters_loads_no_client() -> None:
    assert loaded_by("import shared.runtime.cloud") == set()


def test_loading_the_functions_loads_no_client() -> None:
    assert loaded_by("import main") == set()


@pytest.mark.parametrize(("program", "client"), USES.items(), ids=USES.values())
def test_each_adapter_loads_its_own(program: str, client: str) -> None:
    assert loaded_by(program) == {client}
