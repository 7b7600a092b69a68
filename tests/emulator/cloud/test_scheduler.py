"""Cloud Scheduler: when schedules are due, and what they do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

import pytest

from emulator.cloud.scheduler import Cron, Scheduler
from emulator.pubsub.topics import PubSub
from shared.errors import Transient
from shared.topology import REQUESTS_TOPIC, SCHEDULES
from tests.emulator.listener import SECONDS, Listener
from tests.emulator.pubsub.test_router import listener, pubsub
from tests.shared.gcp.conftest import google

__all__ = ["google", "listener", "pubsub"]  # fixtures


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("cron", "due", "not_due"),
    [
        ("* * * * *", ["2026-11-20T00:00", "2026-11-20T23:59:59"], []),
        ("0 3 * * *", ["2026-11-20T03:00"], ["2026-11-20T03:01", "2026-11-20T04:00"]),
        ("*/15 * * * *", ["2026-11-20T03:00", "2026-11-20T03:45"], ["2026-11-20T03:16"]),
        ("5/20 * * * *", ["2026-11-20T03:05", "2026-11-20T03:25"], ["2026-11-20T03:20"]),
        ("0 9-17/4,22 * * *", ["2026-11-20T13:00", "2026-11-20T22:00"], ["2026-11-20T10:00"]),
        ("0 0 1 1,7 *", ["2026-07-01T00:00"], ["2026-06-01T00:00"]),
        ("0 0 * * 1-5", ["2026-11-20T00:00"], ["2026-11-21T00:00"]),  # a Friday, a Saturday
        ("0 0 * * 7", ["2026-11-22T00:00"], ["2026-11-23T00:00"]),
        ("0 0 * * 0", ["2026-11-22T00:00"], ["2026-11-23T00:00"]),
        ("0 0 13 * 5", ["2026-11-13T00:00", "2026-11-20T00:00", "2026-12-13T00:00"], ["2026-11-21T00:00"]),
    ],
)
def test_when_a_schedule_is_due(cron: str, due: list[str], not_due: list[str]) -> None:
    made = Cron(cron)
    assert [made.is_due(at(text)) for text in due] == [True] * len(due)
    assert [made.is_due(at(text)) for text in not_due] == [False] * len(not_due)


@pytest.mark.parametrize(
    "cron",
    ["", "* * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "5-1 * * * *", "*/0 * * * *", "x * * * *"],
)
def test_what_is_no_schedule(cron: str) -> None:
    with pytest.raises(ValueError, match="write"):
        Cron(cron)


def test_topologys_schedules_can_be_read() -> None:
    assert [Cron(each.cron).is_due(at("2026-11-20T12:23")) for each in SCHEDULES] == [True] * len(SCHEDULES)


@pytest.fixture
def scheduler(pubsub: PubSub, listener: Listener) -> Iterator[Scheduler]:
    made = Scheduler(pubsub, {"expire_builds": listener.url}, token=lambda audience: f"token-for-{audience}")
    made.start()
    yield made
    made.close()


def test_step_calls_the_function_and_waits_for_its_end(scheduler: Scheduler, listener: Listener) -> None:
    scheduler.step("expire-builds")
    [heard] = listener.heard
    assert heard.path == ""
    assert heard.headers["Authorization"] == f"Bearer token-for-{listener.url}"
    assert heard.headers["User-Agent"] == "Google-Cloud-Scheduler"


def test_step_tells_of_a_function_that_does_not_succeed(scheduler: Scheduler, listener: Listener) -> None:
    listener.answer = lambda _heard: 500
    with pytest.raises(Transient, match="schedule expire-builds: expire_builds answers 500; see its log"):
        scheduler.step("expire-builds")


def test_rebuild_is_a_request(scheduler: Scheduler, pubsub: PubSub, google: Mapping[str, str]) -> None:
    scheduler.add_rebuild("nightly", "0 3 * * *", {"spec": "gs://b/specs/x.yaml"})
    scheduler.step("nightly")
    answer = pubsub.subscriber.pull(subscription=pubsub.subscription("requests"), max_messages=10, timeout=SECONDS)
    assert [received.message.data for received in answer.received_messages] == [b'{"spec": "gs://b/specs/x.yaml"}']
    assert pubsub.topic(REQUESTS_TOPIC).endswith("/topics/build-requests")


def test_schedules_that_are_none(scheduler: Scheduler) -> None:
    with pytest.raises(ValueError, match="fields"):
        scheduler.add_rebuild("nightly", "daily", {})
    with pytest.raises(KeyError):
        scheduler.step("nightly")
