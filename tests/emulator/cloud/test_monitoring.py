"""Cloud Monitoring's endpoint: what Google refuses. What it counts is in tests/shared/gcp/test_backlogs.py."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import requests

from emulator.cloud.monitoring import MonitoringEndpoint
from emulator.pubsub.topics import PubSub
from emulator.web.identity import Identity

METRIC = 'metric.type="pubsub.googleapis.com/subscription/num_undelivered_messages"'
END = {"interval.endTime": "2026-11-20T12:00:00Z"}


@pytest.fixture
def monitoring(identity: Identity) -> Iterator[MonitoringEndpoint]:
    with MonitoringEndpoint(PubSub("127.0.0.1:1", "my-project"), identity=identity) as endpoint:
        yield endpoint


@pytest.mark.parametrize(
    ("wanted", "status", "text"),
    [
        ({**END}, 400, "must specify a single metric type"),
        ({"filter": METRIC}, 400, "interval.endTime"),
        ({"filter": METRIC, "interval.endTime": "noon"}, 400, "Illegal timestamp format"),
        ({"filter": 'resource.type="pubsub_subscription"', **END}, 400, "must specify a single metric type"),
        ({"filter": f"{METRIC} OR {METRIC}", **END}, 501, "filters of equality"),
        ({"filter": METRIC, **END}, 501, "one subscription at a time"),
        ({"filter": 'metric.type="compute.googleapis.com/instance/cpu/utilization"', **END}, 200, "{}"),
    ],
)
def test_requests(monitoring: MonitoringEndpoint, wanted: dict[str, str], status: int, text: str) -> None:
    answer = requests.get(f"{monitoring.url}/v3/projects/my-project/timeSeries", params=wanted, timeout=30)
    assert (answer.status_code, text in answer.text) == (status, True), answer.text


def test_other_projects_and_methods(monitoring: MonitoringEndpoint) -> None:
    for method, path in (("GET", "projects/other/timeSeries"), ("POST", "projects/my-project/timeSeries")):
        assert requests.request(method, f"{monitoring.url}/v3/{path}", timeout=30).status_code == 404
