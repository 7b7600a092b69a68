"""The bus in Pub/Sub: the contract, and what a network and a project can do to it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from queue import SimpleQueue

import grpc
import pytest
from google.api_core.exceptions import DeadlineExceeded
from google.pubsub_v1.services.publisher import PublisherClient
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber import SubscriberClient
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

from emulator.web.processes import free_port
from shared.errors import EnvironmentFault, Permanent, Transient
from shared.gcp.pubsub import MESSAGE_LIMIT, GoogleBus
from shared.ports import Message
from shared.topology import REPORTS_TOPIC, TOPICS
from tests.contracts.bus_contract import BusContract, Pull, numbered
from tests.world.values import BUILD_ID

WITHOUT_LIMIT = [("grpc.max_receive_message_length", -1)]  # gRPC's own is 4 MiB, less than a message may have


@pytest.fixture
def channel(google: Mapping[str, str]) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(google["PUBSUB_EMULATOR_HOST"]) as opened:
        yield opened


@pytest.fixture
def bus(google: Mapping[str, str], channel: grpc.Channel, project: str) -> GoogleBus:
    """A bus in whose project all topics are, each with an ordered subscription of the same name."""
    publisher = PublisherClient(transport=PublisherGrpcTransport(channel=channel))
    subscriber = SubscriberClient(transport=SubscriberGrpcTransport(channel=channel))
    for topic in TOPICS:
        name = f"projects/{project}/topics/{topic}"
        publisher.create_topic(name=name)
        subscriber.create_subscription(
            request={
                "name": f"projects/{project}/subscriptions/{topic}",
                "topic": name,
                "enable_message_ordering": True,
            }
        )
    return GoogleBus(project, google["PUBSUB_EMULATOR_HOST"])


@pytest.fixture
def pull(google: Mapping[str, str], bus: GoogleBus, project: str) -> Iterator[Pull]:
    """One thread per subscription waits there until the channel is closed."""
    arrived: SimpleQueue[Message] = SimpleQueue()
    waiting: list[Message] = []

    def pulled(key: str, count: int) -> list[Message]:
        while len(mine := [message for message in waiting if message.ordering_key == key]) < count:
            waiting.append(arrived.get(timeout=120))
        for message in mine[:count]:
            waiting.remove(message)
        return mine[:count]

    with (
        ThreadPoolExecutor(len(TOPICS)) as pool,
        grpc.insecure_channel(google["PUBSUB_EMULATOR_HOST"], WITHOUT_LIMIT) as channel,
    ):
        subscriber = SubscriberClient(transport=SubscriberGrpcTransport(channel=channel))
        for topic in TOPICS:
            pool.submit(receive, subscriber, project, topic, arrived)
        yield pulled


def receive(subscriber: SubscriberClient, project: str, topic: str, arrived: SimpleQueue[Message]) -> None:
    subscription = f"projects/{project}/subscriptions/{topic}"
    while True:
        with suppress(DeadlineExceeded):
            for received in subscriber.pull(subscription=subscription, max_messages=100, timeout=60).received_messages:
                subscriber.acknowledge(subscription=subscription, ack_ids=[received.ack_id])
                sent = received.message
                arrived.put(Message(topic, sent.data, dict(sent.attributes), sent.ordering_key))


class TestGoogleBus(BusContract):
    pass


def test_an_absent_topic_is_a_fault_of_the_project(google: Mapping[str, str], project: str) -> None:
    """NotFound would be taken for a build's."""
    with pytest.raises(EnvironmentFault, match=rf"topic projects/{project}/topics/build-events: .*terraform"):
        GoogleBus(project, google["PUBSUB_EMULATOR_HOST"]).publish(numbered(1))


def test_what_is_too_large_is_refused_at_once(bus: GoogleBus, pull: Pull) -> None:
    with pytest.raises(Permanent, match=f"a message of {MESSAGE_LIMIT + 1} bytes"):
        bus.publish(Message("build-events", b"x" * MESSAGE_LIMIT, {}, "k"))
    with pytest.raises(Permanent, match="takes 10000000"):
        bus.publish(Message("build-events", b"x", {"kind": "x" * MESSAGE_LIMIT}, "k"))
    largest = Message("build-events", b"x" * (MESSAGE_LIMIT - len(BUILD_ID)), {}, BUILD_ID)
    bus.publish(largest)
    assert pull(BUILD_ID, 1) == [largest]


def test_reports_have_no_key_which_a_vm_could_use_up(bus: GoogleBus, pull: Pull) -> None:
    bus.publish(Message(REPORTS_TOPIC, b"said", {}, BUILD_ID))
    assert pull("", 1) == [Message(REPORTS_TOPIC, b"said", {}, "")]


def test_what_pubsub_refuses_is_permanent(bus: GoogleBus) -> None:
    with pytest.raises(Permanent, match="topics/build-events: "):
        bus.publish(Message("build-events", b"", {}))  # neither data nor attributes


def test_a_server_that_is_not_there_is_transient_after_the_patience(project: str) -> None:
    began = time.monotonic()
    with pytest.raises(Transient, match=r"topics/build-events: .*tried again"):
        GoogleBus(project, f"127.0.0.1:{free_port()}", patience=0.5).publish(numbered(1))
    assert time.monotonic() - began < 10  # by default it would be longer
