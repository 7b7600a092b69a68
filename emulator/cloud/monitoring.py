"""Cloud Monitoring's endpoint: the two metrics by which Pub/Sub tells what a subscription holds.

    GET v3/projects/P/timeSeries?filter=…&interval.startTime=…&interval.endTime=…

https://cloud.google.com/monitoring/api/ref_v3/rest/v3/projects.timeSeries/list has the method, and
https://cloud.google.com/monitoring/api/v3/filters the language of filters, of which equality joined by AND is taken.
Google's numbers are some minutes old. These are measured when they are asked for, and are of the end of the interval.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from flask import request

from ..pubsub.topics import PubSub
from ..security.endpoint import ApiEndpoint
from ..security.refusals import invalid, not_found, unimplemented
from ..web.identity import Identity

METRICS = (
    "pubsub.googleapis.com/subscription/num_undelivered_messages",
    "pubsub.googleapis.com/subscription/oldest_unacked_message_age",
)
_PATH = re.compile(r"projects/([^/]+)/timeSeries")
_COMPARED = re.compile(r'\s*(metric\.type|resource\.type|resource\.labels\.subscription_id)\s*=\s*"([^"]*)"\s*')


class MonitoringEndpoint(ApiEndpoint):
    """Serves the metrics of the subscriptions of one project."""

    def __init__(self, pubsub: PubSub, *, identity: Identity, port: int = 0) -> None:
        self._pubsub = pubsub
        super().__init__("monitoring", identity=identity, port=port, version="v3")

    def _permission(self, rest: str) -> tuple[str, str]:
        return "monitoring.timeSeries.list", rest.rpartition("/")[0]

    def _answer(self, rest: str) -> Mapping[str, Any]:
        found = _PATH.fullmatch(rest)
        if found is None or request.method != "GET" or found[1] != self._pubsub.project:
            raise not_found("Requested entity was not found.")
        wanted = _filter(request.args.get("filter", ""))
        metric, subscription = wanted["metric.type"], wanted.get("resource.labels.subscription_id")
        begin, end = _time("startTime"), _time("endTime")
        if end is None:
            raise invalid("Field interval.endTime had an invalid value: The end time is required.")
        if metric not in METRICS or wanted.get("resource.type", "pubsub_subscription") != "pubsub_subscription":
            return {}
        if subscription is None:
            raise unimplemented("This emulator has metrics of one subscription at a time.")
        waiting = self._pubsub.waiting(subscription)
        now = time.time()
        if waiting is None or not (end if begin is None else begin) <= now:
            return {}
        value = len(waiting) if metric == METRICS[0] else max((round(now - since) for since in waiting), default=0)
        return {"timeSeries": [_series(metric, self._pubsub.project, subscription, max(0, value), min(now, end))]}


def _filter(text: str) -> Mapping[str, str]:
    """Return what a filter compares. Refusal."""
    if not text:
        raise invalid('Field filter had an invalid value of "": The filter must specify a single metric type.')
    compared = [_COMPARED.fullmatch(part) for part in text.split(" AND ")]
    wanted = {each[1]: each[2] for each in compared if each is not None}
    if len(wanted) != len(compared):
        raise unimplemented("This emulator takes filters of equality that are joined by AND, of a subscription.")
    if "metric.type" not in wanted:
        raise invalid(f"Field filter had an invalid value of {text!r}: The filter must specify a single metric type.")
    return wanted


def _time(name: str) -> float | None:
    """Return an end of the interval, None for one that is not given. Refusal."""
    text = request.args.get(f"interval.{name}")
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError as error:
        raise invalid(
            f"Invalid value at 'interval.{name}' (Timestamp), Field 'interval.{name}', Illegal timestamp format."
        ) from error


def _series(metric: str, project: str, subscription: str, value: int, at: float) -> Mapping[str, Any]:
    moment = f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%SZ}"
    return {
        "metric": {"type": metric},
        "resource": {
            "type": "pubsub_subscription",
            "labels": {"project_id": project, "subscription_id": subscription},
        },
        "metricKind": "GAUGE",
        "valueType": "INT64",
        "points": [{"interval": {"startTime": moment, "endTime": moment}, "value": {"int64Value": str(value)}}],
    }
