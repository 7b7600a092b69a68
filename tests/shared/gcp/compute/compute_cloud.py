"""Compute Engine and Cloud Storage on loopback for the adapter's tests, with an image that boots into nothing."""

from __future__ import annotations

import io
import json
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

from flask import Flask
from google.auth.credentials import AnonymousCredentials
from google.cloud import compute_v1

from emulator.compute.endpoint import ComputeEndpoint
from emulator.storage.endpoint import StorageEndpoint
from emulator.web.http_server import HttpServer
from emulator.web.identity import Identity
from shared import ports
from shared.clock import SystemClock
from shared.gcp.compute.calls import Answer, Calls
from shared.gcp.compute.compute import GoogleCompute
from shared.gcp.settings import Settings
from shared.gcp.storage import GoogleBucket
from shared.images.catalogue import Catalogue
from shared.ports import MachineRequest, Message
from tests.contracts.compute_contract import BOOT, IDLE, KEY, VM, Site, idle_disk
from tests.world.fuse import Fuse

PROJECT = "goldsmith-emulator"
BUCKET = "goldsmith-bucket"
ZONES = ("us-central1-a", "us-central1-b")
SITE = Site(PROJECT, ZONES, ZONES[0])
EMAIL = f"functions@{PROJECT}.iam.gserviceaccount.com"

__all__ = [
    "BOOT",
    "BUCKET",
    "IDLE",
    "KEY",
    "PROJECT",
    "SITE",
    "VM",
    "ZONES",
    "Cloud",
    "FusedCompute",
    "open_cloud",
    "request",
]


@dataclass
class Clock:
    """The time, which a test may set ahead; pauses are short, and count in full unless a test holds the time."""

    ahead: float = 0.0
    held: float | None = None

    def now(self) -> float:
        return (time.time() if self.held is None else self.held) + self.ahead

    def hold(self) -> None:
        """Let only `ahead` move the time."""
        self.held = time.time()

    def pause(self, most: float) -> None:
        time.sleep(min(most, 0.02))
        if self.held is None:
            self.ahead += most


class FusedCalls(Calls):
    """Notes what is called, and ends "the process" at one of the calls: before it was sent, or after its answer."""

    def __init__(self, settings: Settings, clock: ports.Clock, fuse: Fuse) -> None:
        super().__init__(settings, clock)
        self.made: list[str] = []
        self._fuse = fuse

    def call(self, method: Callable[..., Answer], request: object, seconds: float) -> Answer:
        self._fuse.touch()
        self.made.append(f"{type(method.__self__).__name__.removesuffix('Client')}.{method.__name__}")  # type: ignore[attr-defined]  # all are methods
        answer = super().call(method, request, seconds)
        self._fuse.touch()
        return answer


class FusedBucket(GoogleBucket):
    """Ends "the process" before or after an object is written."""

    def __init__(self, settings: Settings, fuse: Fuse) -> None:
        super().__init__(settings)
        self._fuse = fuse

    def upload(self, uri: str, data: bytes, metadata: Mapping[str, str]) -> str:
        self._fuse.touch()
        generation = super().upload(uri, data, metadata)
        self._fuse.touch()
        return generation

    def write_parts(self, uri: str, parts: Iterable[bytes]) -> None:
        self._fuse.touch()
        super().write_parts(uri, parts)
        self._fuse.touch()


class FusedCompute(GoogleCompute):
    """An adapter that ends at a call, or only counts them."""

    def __init__(self, settings: Settings, clock: ports.Clock, fuse: Fuse) -> None:
        super().__init__(settings, FusedBucket(settings, fuse), clock)
        self.calls = FusedCalls(settings, clock, fuse)

    @cached_property
    def _calls(self) -> Calls:
        return self.calls


@dataclass
class Cloud:
    """The endpoints, and what talks to them."""

    endpoint: ComputeEndpoint
    storage: StorageEndpoint
    settings: Settings
    identity: Identity
    messages: list[Message]
    clock: Clock = field(default_factory=Clock)

    def compute(self, **changes: Any) -> GoogleCompute:
        """Return an adapter as a new process has it."""
        settings = replace(self.settings, **changes)
        return GoogleCompute(settings, GoogleBucket(settings), self.clock)

    def fused(self, last: int | None = None, **changes: Any) -> FusedCompute:
        """Return an adapter whose process ends at call number `last`."""
        return FusedCompute(replace(self.settings, **changes), self.clock, Fuse(last))

    @property
    def bucket(self) -> GoogleBucket:
        return GoogleBucket(self.settings)

    def client(self, kind: Any) -> Any:
        return kind(client_options={"api_endpoint": self.endpoint.url}, credentials=AnonymousCredentials())

    def instances(self) -> dict[str, compute_v1.Instance]:
        """All instances, by ZONE/NAME."""
        return self._all(compute_v1.InstancesClient, "instances")

    def disks(self) -> dict[str, compute_v1.Disk]:
        """All disks, by ZONE/NAME."""
        return self._all(compute_v1.DisksClient, "disks")

    def objects(self) -> list[str]:
        """All objects' URIs."""
        return [found.uri for found in self.bucket.listing(f"gs://{BUCKET}/")]

    def _all(self, kind: Any, what: str) -> dict[str, Any]:
        pages = self.client(kind).aggregated_list(project=PROJECT)
        return {f"{zone[6:]}/{one.name}": one for zone, scoped in pages for one in getattr(scoped, what)}


@contextmanager
def open_cloud(folder: Path, identity: Identity, **options: Any) -> Iterator[Cloud]:
    """Serve both until the end."""
    home = folder / "home"
    home.mkdir(mode=0o700, exist_ok=True)
    catalogue = Catalogue(home, SystemClock())
    if catalogue.get(IDLE) is None:
        catalogue.add(idle_disk(folder / "idle.raw"), IDLE, transfer="move", family=IDLE)
    messages: list[Message] = []
    with ExitStack() as stack:
        storage = stack.enter_context(StorageEndpoint(folder / "storage", identity=identity))
        _make_bucket(storage.url)
        tokens = Flask("tokens")
        tokens.register_blueprint(identity.blueprint())
        token_uri = stack.enter_context(HttpServer(tokens)).url + "/token"
        endpoint = stack.enter_context(
            ComputeEndpoint(
                home,
                project=PROJECT,
                identity=identity,
                storage=lambda uri: _opened(GoogleBucket(settings), uri),
                storage_url=storage.url,
                publish=messages.append,
                **{"boot": "firmware", **options},
            )
        )
        settings = Settings(
            project=PROJECT,
            bucket=BUCKET,
            zones=ZONES,
            master_key=b"5" * 32,
            vm_service_account=f"vm@{PROJECT}.iam.gserviceaccount.com",
            vm_storage_url="http://169.254.169.253",
            storage_endpoint=storage.url,
            compute_endpoint=endpoint.url,
            credentials_file=str(identity.service_account_file(folder, EMAIL, token_uri=token_uri, project=PROJECT)),
        )
        yield Cloud(endpoint, storage, settings, identity, messages)


def request(attempt: int = 1, **changes: Any) -> MachineRequest:
    """A request for the build VM of an attempt."""
    return SITE.request(attempt, **changes)


def _make_bucket(url: str) -> None:
    body = json.dumps({"name": BUCKET}).encode()
    headers = {"Content-Type": "application/json"}
    made = urllib.request.Request(f"{url}/storage/v1/b?project={PROJECT}", body, headers)
    with urllib.request.urlopen(made):
        pass


def _opened(bucket: GoogleBucket, uri: str) -> BinaryIO:
    return io.BytesIO(bucket.read(uri))
