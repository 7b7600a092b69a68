"""From Google's Pub/Sub emulator and the bucket to the functions."""

from __future__ import annotations

import base64
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import replace

import pytest
from google.pubsub_v1.types import PubsubMessage

from emulator.courier import Faults
from emulator.router import Router
from emulator.topics import PubSub
from shared.messages import EVENTS_TOPIC, REPORTS_TOPIC
from shared.orders import FINISHED_TOPIC, ORDER_KINDS, WORKER_TOPIC
from shared.ports import Message
from shared.topology import DEAD_LETTERS_SUBSCRIPTION, FUNCTIONS, SUBSCRIPTIONS, TOPICS
from tests.emulator.listener import SECONDS, Heard, Listener
from tests.gcp.conftest import google

__all__ = ["google"]  # the fixture


@pytest.fixture
def listener() -> Iterator[Listener]:
    made = Listener()
    with made.serving():
        yield made


@pytest.fixture
def pubsub(google: Mapping[str, str]) -> Iterator[PubSub]:
    made = PubSub(google["PUBSUB_EMULATOR_HOST"], f"test-{uuid.uuid4().hex[:20]}")
    made.make()
    yield made
    for each in SUBSCRIPTIONS:  # or the emulator goes on with them for its other users
        made.subscriber.delete_subscription(subscription=made.subscription(each.name))
    made.close()


@pytest.fixture
def router(pubsub: PubSub, listener: Listener) -> Iterator[Router]:
    urls = {each.name: f"{listener.url}/{each.name}" for each in FUNCTIONS}
    made = Router(pubsub, urls, token=lambda audience: f"token-for-{audience}")
    made.start()
    yield made
    made.close()


def message(topic: str, data: bytes = b"{}", key: str = "", **attributes: str) -> Message:
    return Message(topic, data, attributes, key)


def test_all_of_the_topology_is_there(pubsub: PubSub) -> None:
    pubsub.make()  # once more changes nothing
    topics = {topic.name for topic in pubsub.publisher.list_topics(project=f"projects/{pubsub.project}")}
    assert topics == {pubsub.topic(name) for name in TOPICS}
    found = {each.name: each for each in pubsub.subscriber.list_subscriptions(project=f"projects/{pubsub.project}")}
    assert set(found) == {pubsub.subscription(each.name) for each in SUBSCRIPTIONS} | {
        pubsub.subscription(DEAD_LETTERS_SUBSCRIPTION)
    }
    for each in SUBSCRIPTIONS:
        made = found[pubsub.subscription(each.name)]
        assert (made.topic, made.filter, made.enable_message_ordering, made.ack_deadline_seconds) == (
            pubsub.topic(each.topic),
            each.filter,
            each.ordered,
            each.ack_deadline,
        )


def test_a_push_is_as_google_makes_it(pubsub: PubSub, router: Router, listener: Listener) -> None:
    sent = pubsub.publish(message(EVENTS_TOPIC, b'{"a": 1}', "hello-1", build_id="hello-1", kind="CleanedUp"))
    [heard] = listener.wait_for(1)
    assert heard.path == f"advance_build/projects/{pubsub.project}/topics/{EVENTS_TOPIC}"
    assert heard.headers["Authorization"] == f"Bearer token-for-{listener.url}/advance_build"
    assert heard.headers["Content-Type"] == "application/json"
    body = heard.json
    assert set(body) == {"message", "subscription", "deliveryAttempt"}
    assert body["subscription"] == pubsub.subscription("events")
    assert body["deliveryAttempt"] == 1
    assert base64.b64decode(body["message"]["data"]) == b'{"a": 1}'
    assert body["message"]["attributes"] == {"build_id": "hello-1", "kind": "CleanedUp"}
    assert body["message"]["orderingKey"] == "hello-1"
    assert body["message"]["messageId"] == body["message"]["message_id"] == sent
    assert body["message"]["publishTime"].endswith("Z")


def test_what_is_empty_is_left_out(pubsub: PubSub, router: Router, listener: Listener) -> None:
    pubsub.publish(message("build-requests", b"", spec="x"))
    [heard] = listener.wait_for(1)
    assert set(heard.json["message"]) == {"attributes", "messageId", "message_id", "publishTime", "publish_time"}


def test_each_topic_goes_to_its_functions_and_each_order_to_its_worker(
    pubsub: PubSub, router: Router, listener: Listener
) -> None:
    for kind in ORDER_KINDS:
        pubsub.publish(message(WORKER_TOPIC, order=kind))
    for topic in ("build-requests", REPORTS_TOPIC, EVENTS_TOPIC, FINISHED_TOPIC):
        pubsub.publish(message(topic))
    expected = sorted([*(kind for kind in ORDER_KINDS if kind != "announce"), "start_build", *["advance_build"] * 2])
    listener.wait_for(len(expected))
    pubsub.publish(message(EVENTS_TOPIC, b"last"))
    heard = listener.wait_for(len(expected) + 1)
    assert sorted(each.path.split("/")[0] for each in heard) == sorted([*expected, "advance_build"])


def test_what_is_not_acknowledged_comes_again_in_its_order(pubsub: PubSub, router: Router, listener: Listener) -> None:
    listener.answer = lambda heard: 503 if heard.json["deliveryAttempt"] == 1 else 200
    for number in range(3):
        pubsub.publish(message(EVENTS_TOPIC, str(number).encode(), "hello-1"))
    heard = listener.wait_for(6)
    told = [(base64.b64decode(each.json["message"]["data"]), each.json["deliveryAttempt"]) for each in heard]
    assert told == [(b"0", 1), (b"0", 2), (b"1", 1), (b"1", 2), (b"2", 1), (b"2", 2)]


def test_orders_of_one_build_do_not_wait_for_each_other(pubsub: PubSub, router: Router, listener: Listener) -> None:
    both = threading.Barrier(2)

    def together(_heard: Heard) -> int:
        both.wait(SECONDS)
        return 200

    listener.answer = together
    for _ in range(2):
        pubsub.publish(message(WORKER_TOPIC, key="hello-1", order="clean_up"))
    listener.wait_for(2)


def test_acknowledged_message_is_gone(pubsub: PubSub, router: Router, listener: Listener) -> None:
    pubsub.publish(message(EVENTS_TOPIC, b"done"))
    listener.wait_for(1)
    wait_until_idle(router)
    router.close()
    pubsub.publish(message(EVENTS_TOPIC, b"later"))
    assert [found.data for found in pulled(pubsub, "events")] == [b"later"]


def test_the_last_attempt_ends_in_dead_letters(pubsub: PubSub, listener: Listener) -> None:
    listener.answer = lambda _heard: 500
    events = next(each for each in SUBSCRIPTIONS if each.name == "events")
    urls = {events.function: listener.url}
    made = Router(pubsub, urls, token=str, subscriptions=[replace(events, max_delivery_attempts=2)])
    made.start()
    pubsub.publish(message(EVENTS_TOPIC, b"bad", "hello-1", build_id="hello-1"))
    [dead] = pulled(pubsub, DEAD_LETTERS_SUBSCRIPTION)
    wait_until_idle(made)
    made.close()
    assert len(listener.heard) == 2
    assert dead.data == b"bad"
    assert dead.attributes["build_id"] == "hello-1"
    assert dead.attributes["CloudPubSubDeadLetterSourceDeliveryCount"] == "2"
    assert dead.attributes["CloudPubSubDeadLetterSourceSubscription"] == "events"
    assert dead.attributes["CloudPubSubDeadLetterSourceSubscriptionProject"] == pubsub.project


def wait_until_idle(router: Router) -> None:
    end = time.monotonic() + SECONDS
    while router.courier.pending:
        assert time.monotonic() < end
        time.sleep(0.02)


def pulled(pubsub: PubSub, subscription: str) -> list[PubsubMessage]:
    answer = pubsub.subscriber.pull(subscription=pubsub.subscription(subscription), max_messages=10, timeout=SECONDS)
    return [received.message for received in answer.received_messages]


class TestUpload:
    RESOURCE: Mapping[str, str] = {
        "kind": "storage#object",
        "bucket": "my-bucket",
        "name": "specs/hällo.yaml",
        "generation": "1795176000000001",
        "size": "10",
    }

    def test_is_a_cloud_event_in_binary_mode(self, router: Router, listener: Listener) -> None:
        router.finalized(self.RESOURCE)
        [heard] = listener.wait_for(1)
        assert heard.path == "start_build/"
        assert heard.json == self.RESOURCE
        assert heard.headers["Ce-Type"] == "google.cloud.storage.object.v1.finalized"
        assert heard.headers["Ce-Source"] == "//storage.googleapis.com/projects/_/buckets/my-bucket"
        assert heard.headers["Ce-Subject"].encode("latin-1").decode() == "objects/specs/hällo.yaml"
        assert heard.headers["Ce-Specversion"] == "1.0"
        assert heard.headers["Ce-Time"].endswith("Z")
        assert heard.headers["Authorization"] == f"Bearer token-for-{listener.url}/start_build"

    def test_copies_have_one_id(self, router: Router, listener: Listener) -> None:
        router.break_things(Faults(copies=2))
        router.finalized(self.RESOURCE)
        first, second = listener.wait_for(2)
        assert first.headers["Ce-Id"] == second.headers["Ce-Id"]
        router.finalized(self.RESOURCE)
        assert listener.wait_for(4)[2].headers["Ce-Id"] != first.headers["Ce-Id"]
