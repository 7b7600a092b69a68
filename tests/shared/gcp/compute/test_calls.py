"""How Compute Engine is called: request ids, waits that end, complaints by reason, and not before it must."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from google.cloud import compute_v1
from google.cloud.compute_v1 import Operation

from shared.errors import NotFound, Permanent, Transient
from shared.gcp.compute.calls import BUDGET, Calls
from shared.gcp.errors import Stockout
from shared.gcp.settings import Settings
from tests.world.fakes import FakeClock

ROOT = Path(__file__).parents[4]
SETTINGS = Settings("my-project", "bucket", ("us-central1-a",), "vm@x", compute_endpoint="http://127.0.0.1:9")


@dataclass
class Waits(Calls):
    """Calls to an operation that goes on for a while, each wait taking a minute."""

    clock: FakeClock
    minutes: float
    ending: Operation = field(default_factory=Operation)

    def __post_init__(self) -> None:
        super().__init__(SETTINGS, self.clock)

    def call(self, method: object, request: object, seconds: float) -> Operation:
        assert isinstance(request, compute_v1.WaitZoneOperationRequest)
        assert (request.project, request.zone, request.operation) == ("p", "us-central1-a", "operation-1")
        self.clock.time += 60
        self.minutes -= 1
        return self.ending if self.minutes <= 0 else running()


def running() -> Operation:
    return Operation(
        name="operation-1", zone="https://x/projects/p/zones/us-central1-a", status=Operation.Status.RUNNING
    )


def failed(code: str, message: str, status: int) -> Operation:
    detail = compute_v1.ErrorDetails(error_info=compute_v1.ErrorInfo(metadatas={"policy": "constraints/compute.new"}))
    error = compute_v1.Error(errors=[compute_v1.Errors(code=code, message=message, error_details=[detail])])
    return Operation(status=Operation.Status.DONE, error=error, http_error_status_code=status)


def test_a_long_operation_is_waited_for_within_the_budget() -> None:
    clock = FakeClock()
    calls = Waits(clock, 3, Operation(status=Operation.Status.DONE))
    calls.finish("machine x", running(), "p", calls.until())
    assert calls.minutes == 0


def test_a_longer_one_is_left_to_redelivery() -> None:
    clock = FakeClock()
    calls, began = Waits(clock, 1000), clock.time
    with pytest.raises(Transient, match="machine x: Compute Engine is still working on it"):
        calls.finish("machine x", running(), "p", calls.until())
    assert clock.time - began == BUDGET


@pytest.mark.parametrize(
    ("code", "message", "status", "kind", "text"),
    [
        ("ZONE_RESOURCE_POOL_EXHAUSTED", "no", 503, Stockout, "no such machines are left"),
        ("ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS", "no", 503, Stockout, "no such machines are left"),
        ("QUOTA_EXCEEDED", "Quota 'CPUS' exceeded.", 403, Permanent, "quota CPUS is used up"),
        ("RESOURCE_NOT_FOUND", "gone", 404, NotFound, "not found: gone"),
        ("RESOURCE_IN_USE_BY_ANOTHER_RESOURCE", "busy", 400, Transient, "busy"),
        ("INTERNAL_ERROR", "oops", 500, Transient, "oops"),
        ("INVALID_USAGE", "not so", 400, Permanent, "not so"),
        (
            "CONDITION_NOT_MET",
            "Several constraints were violated.",
            412,
            Permanent,
            "policy constraints/compute.new forbids",
        ),
    ],
)
def test_a_failed_operation_is_one_of_our_errors(
    code: str, message: str, status: int, kind: type[Exception], text: str
) -> None:
    calls = Calls(SETTINGS, FakeClock())
    with pytest.raises(kind, match=f"machine x: .*{text}"):
        calls.finish("machine x", failed(code, message, status), "p", calls.until())


def test_a_request_id_tells_requests_apart_and_not_their_senders() -> None:
    clock = FakeClock()
    first = Calls(SETTINGS, clock).request_id("insert", "p", "zone-a", "instances", "x")
    assert first == Calls(SETTINGS, clock).request_id("insert", "p", "zone-a", "instances", "x")
    others = {Calls(SETTINGS, clock).request_id(*what) for what in (("delete", "p"), ("insert", "q"), ("insert", "p"))}
    assert len(others | {first}) == 4
    clock.time += 60
    assert Calls(SETTINGS, clock).request_id("insert", "p", "zone-a", "instances", "x") != first


def test_a_server_that_is_not_there_is_transient() -> None:
    calls = Calls(SETTINGS, FakeClock(), patience=0.5)
    request = compute_v1.GetImageRequest(project="p", image="x")
    client = calls.client(compute_v1.ImagesClient)
    assert calls.client(compute_v1.ImagesClient) is client
    with pytest.raises(Transient, match="image x: Google cannot be reached"):
        calls.look("image x", client.get, request)


def test_compute_v1_is_imported_at_the_first_call() -> None:
    program = (
        "import sys\n"
        "from shared.clock import SystemClock\n"
        "from shared.gcp.compute.compute import GoogleCompute\n"
        "from shared.gcp.settings import Settings\n"
        "from shared.gcp.storage import GoogleBucket\n"
        "settings = Settings('p', 'b', ('z',), 'vm@x', compute_endpoint='http://127.0.0.1:9')\n"
        "compute = GoogleCompute(settings, GoogleBucket(settings), SystemClock())\n"
        "assert compute.packages('p', 'x') is None\n"
        "assert 'google.cloud.compute_v1' not in sys.modules\n"
        "compute._images\n"
        "assert 'google.cloud.compute_v1' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
