"""Google's bucket of NVIDIA's drivers, as the emulator's Cloud Storage can have it."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from emulator.storage.endpoint import StorageEndpoint
from emulator.web.identity import Identity
from provisioner.protocol import Step
from shared.build.plan import Plan
from shared.gpu_drivers import BUCKET

VERSIONS = ["390.46", "450.51.06", "450.119.04", "535.104.05"]  # oldest first; the first one is elsewhere
_OBJECTS = (
    *(f"tesla/{version}/NVIDIA-Linux-x86_64-{version}.run" for version in VERSIONS[1:]),
    "tesla/535.104.05/extra/R470.txt",
    "tesla/README",
    "tesla/latest/x.run",
    "grid/1.2.3/x.run",
)


def fill(url: str) -> None:
    """Make the bucket and its objects in the Cloud Storage at `url`."""
    _post(f"{url}/storage/v1/b?project=p", json.dumps({"name": BUCKET}).encode())
    for name in _OBJECTS:
        _post(f"{url}/upload/storage/v1/b/{BUCKET}/o?uploadType=media&name={name}", b"x")


@contextmanager
def driver_storage(folder: Path) -> Iterator[str]:
    """Serve a Cloud Storage that has the bucket; return its URL."""
    with StorageEndpoint(folder / "storage", identity=Identity(folder / "identity")) as endpoint:
        fill(endpoint.url)
        yield endpoint.url


def installing(plan: Plan, version: str) -> Plan:
    """The same plan with one step that installs a driver."""
    return replace(plan, steps=(Step("gpu", "install-gpu", {"version": version}),))


def _post(url: str, data: bytes) -> None:
    with urllib.request.urlopen(urllib.request.Request(url, data, {"Content-Type": "application/json"})):
        pass
