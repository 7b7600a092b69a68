"""What subscriptions hold, by the metrics that Pub/Sub writes: pulling would show messages, and allow to delete them.

GET v3/projects/P/timeSeries?filter=…&interval.startTime=…&interval.endTime=…
    ──► {"timeSeries": [{"points": [{"interval": {"endTime": "…Z"}, "value": {"int64Value": "3"}}]}]}, newest first
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from ...backlog import Backlog
from ...errors import Transient
from ..settings import MONITORING_URL, Settings
from .service import RestService

MESSAGES = "pubsub.googleapis.com/subscription/num_undelivered_messages"
AGE = "pubsub.googleapis.com/subscription/oldest_unacked_message_age"  # in seconds
LOOKED_BACK = 900.0  # seconds: a point is made each minute, and seen up to four minutes later
_NUMBER = re.compile(r"[0-9]{1,18}")


class MeasuredBacklogs:
    """The subscriptions of one project by Cloud Monitoring; a Backlogs. Thread-safe."""

    def __init__(self, settings: Settings, now: Callable[[], float], *, patience: float = 10.0) -> None:
        self._project = settings.project
        self._now = now
        self._service = RestService(
            MONITORING_URL, settings.monitoring_endpoint, settings.credentials_file, patience=patience, version="v3"
        )

    def backlog(self, subscription: str) -> Backlog | None:
        """Ask for the number first, and for the age only where something waits."""
        found = self._newest(MESSAGES, subscription)
        if found is None:
            return None
        messages, seen = found
        age = self._newest(AGE, subscription) if messages else None
        return Backlog(messages, 0.0 if age is None else age[1] - age[0], seen)

    def _newest(self, metric: str, subscription: str) -> tuple[int, float] | None:
        """Return the newest value of a metric, and when it was measured; None where there is none."""
        now = self._now()
        wanted = {
            "filter": f'metric.type="{metric}" AND resource.type="pubsub_subscription" '
            f'AND resource.labels.subscription_id="{subscription}"',
            "interval.startTime": _written(now - LOOKED_BACK),
            "interval.endTime": _written(now),
        }
        what = f"{metric} of {subscription}"
        answer = self._service.call(what, "GET", f"projects/{self._project}/timeSeries?{urlencode(wanted)}")
        try:
            points = [_point(point) for series in answer.get("timeSeries", []) for point in series["points"]]
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            raise Transient(
                f"{what}: Cloud Monitoring answers what is no such number; it can be tried again"
            ) from error
        return max(points, key=lambda point: point[1], default=None)


def _written(moment: float) -> str:
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _point(point: Mapping[str, Any]) -> tuple[int, float]:
    number = point["value"]["int64Value"]
    if not isinstance(number, str) or not _NUMBER.fullmatch(number):
        raise ValueError(number)
    return int(number), datetime.fromisoformat(point["interval"]["endTime"]).timestamp()
