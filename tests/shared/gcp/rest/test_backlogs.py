"""What a subscription holds, by the emulator's Cloud Monitoring over Google's Pub/Sub emulator."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from emulator.cloud.monitoring import MonitoringEndpoint
from emulator.pubsub.topics import PubSub
from emulator.web.identity import Identity
from shared.errors import Permanent, Transient
from shared.gcp.rest.backlogs import MeasuredBacklogs
from shared.gcp.settings import Settings
from shared.ports import Message
from shared.topology import DEAD_LETTERS_SUBSCRIPTION, DEAD_LETTERS_TOPIC


@pytest.fixture
def pubsub(google: Mapping[str, str]) -> Iterator[PubSub]:
    made = PubSub(google["PUBSUB_EMULATOR_HOST"], f"test-{uuid.uuid4().hex[:20]}")
    made.make()
    yield made
    made.close()


@pytest.fixture
def monitoring(pubsub: PubSub, tmp_path: Path) -> Iterator[MonitoringEndpoint]:
    with MonitoringEndpoint(pubsub, identity=Identity(tmp_path / "identity")) as endpoint:
        yield endpoint


def backlogs(monitoring: MonitoringEndpoint, project: str, patience: float = 30.0) -> MeasuredBacklogs:
    environment = {"GOLDSMITH_MONITORING_ENDPOINT": monitoring.url}
    return MeasuredBacklogs(Settings.of_person(project, "my-bucket", environment), time.time, patience=patience)


def test_messages_are_counted_and_left_as_they_are(pubsub: PubSub, monitoring: MonitoringEndpoint) -> None:
    found = backlogs(monitoring, pubsub.project)
    measured = found.backlog(DEAD_LETTERS_SUBSCRIPTION)
    assert measured is not None
    assert (measured.messages, measured.oldest) == (0, 0.0)
    assert len(monitoring.asked) == 1, "no age where nothing waits"
    begun = time.time()
    for number in range(3):
        pubsub.publish(Message(DEAD_LETTERS_TOPIC, b"%d" % number, {}))
    measured = found.backlog(DEAD_LETTERS_SUBSCRIPTION)
    assert measured is not None
    assert (measured.messages, abs(measured.oldest - begun) < 60.0) == (3, True)
    path = pubsub.subscription(DEAD_LETTERS_SUBSCRIPTION)
    pulled = pubsub.subscriber.pull(subscription=path, max_messages=10).received_messages
    assert {each.message.data for each in pulled} == {b"0", b"1", b"2"}
    pubsub.subscriber.acknowledge(subscription=path, ack_ids=[each.ack_id for each in pulled])
    measured = found.backlog(DEAD_LETTERS_SUBSCRIPTION)
    assert measured is not None
    assert measured.messages == 0


def test_what_cannot_be_counted(pubsub: PubSub, monitoring: MonitoringEndpoint) -> None:
    assert backlogs(monitoring, pubsub.project).backlog("no-such-subscription") is None
    monitoring.fail_next(503, times=50)
    with pytest.raises(Transient):
        backlogs(monitoring, pubsub.project, patience=1.0).backlog(DEAD_LETTERS_SUBSCRIPTION)
    monitoring.allow()
    monitoring.deny("monitoring.timeSeries.list")
    with pytest.raises((Permanent, Transient), match="num_undelivered_messages of dead-letters"):
        backlogs(monitoring, pubsub.project, patience=1.0).backlog(DEAD_LETTERS_SUBSCRIPTION)
