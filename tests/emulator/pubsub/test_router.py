"""From Google's Pub/Sub emulator and the bucket to the functions."""

from __future__ import annotations

import base64
import json
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime

import pytest
from google.pubsub_v1.types import PubsubMessage

from emulator.pubsub.courier import Faults
from emulator.pubsub.router import Router
from emulator.pubsub.topics import PubSub
from emulator.web.http_server import HttpServer
from shared.build.orders import ORDER_KINDS
from shared.ports import Message
from shared.topology import (
    DEAD_LETTERS_SUBSCRIPTION,
    EVENTS_TOPIC,
    FINISHED_TOPIC,
    FUNCTIONS,
    REPORTS_TOPIC,
    SUBSCRIPTIONS,
    TOPICS,
    UPLOADS_TOPIC,
    WORKER_TOPIC,
)
from tests.emulator.listener import SECONDS, Heard, Listener
from tests.functions.deployed import Deployment
from tests.shared.gcp.conftest import google

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
    facts = ["events", "vm-reports", "reports"]
    orders = [kind for kind in ORDER_KINDS if kind != "announce"]
    expected = [*orders, "start_build", "call_webhooks", "send_spans", *["advance_build" for _ in facts]]
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


def test_a_vm_cannot_fill_the_line_of_another_build(pubsub: PubSub, listener: Listener) -> None:
    """Whatever keys it uses, and though nothing that it sends is acknowledged: the other's report is heard."""

    def text(heard: Heard) -> bytes:
        return base64.b64decode(heard.json["message"]["data"])

    listener.answer = lambda heard: 500 if text(heard) == b"flood" else 200
    reports = next(each for each in SUBSCRIPTIONS if each.name == "vm-reports")
    urls = {reports.function: listener.url}
    made = Router(pubsub, urls, token=str, subscriptions=[replace(reports, max_delivery_attempts=3)])
    made.start()
    for _ in range(10):
        pubsub.publish(message(REPORTS_TOPIC, b"flood", "victim-1", build_id="attacker-1"))
    pubsub.publish(message(REPORTS_TOPIC, b"honest", "victim-1", build_id="victim-1"))
    listener.wait_until(lambda heard: any(text(each) == b"honest" for each in heard))
    wait_until_idle(made)
    made.close()


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


def test_what_is_no_message_of_ours_is_acknowledged_by_a_function(pubsub: PubSub) -> None:
    """Attributes alone, nonsense, and more than a function reads: each is delivered once, and is no dead letter."""
    deployment = Deployment()
    told = [each for each in SUBSCRIPTIONS if each.function == "advance_build"]
    subscriptions = [each for each in told if each.topic in (REPORTS_TOPIC, EVENTS_TOPIC)]
    with deployment.application("advance_build") as application, HttpServer(application) as server:
        made = Router(pubsub, {"advance_build": server.url}, token=str, subscriptions=subscriptions)
        made.start()
        for topic in (REPORTS_TOPIC, EVENTS_TOPIC):
            for data in (b"", b"nonsense", b"x" * 3_000_000):
                pubsub.publish(message(topic, data, build_id="hello-1"))
        made.wait_until_idle()
        made.close()
        assert len(made.courier.history) == 3 * len(subscriptions)
        assert {(attempt.number, attempt.status) for attempt in made.courier.history} == {(1, 200)}


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

    def test_is_a_notification_of_the_bucket(self, pubsub: PubSub, router: Router, listener: Listener) -> None:
        router.finalized(self.RESOURCE)
        [heard] = listener.wait_for(1)
        assert heard.path == f"start_build/projects/{pubsub.project}/topics/{UPLOADS_TOPIC}"
        assert heard.headers["Authorization"] == f"Bearer token-for-{listener.url}/start_build"
        sent = heard.json["message"]
        assert json.loads(base64.b64decode(sent["data"])) == self.RESOURCE
        time = sent["attributes"].pop("eventTime")
        assert datetime.fromisoformat(time).tzinfo is not None
        assert sent["attributes"] == {
            "notificationConfig": "projects/_/buckets/my-bucket/notificationConfigs/1",
            "eventType": "OBJECT_FINALIZE",
            "payloadFormat": "JSON_API_V1",
            "bucketId": "my-bucket",
            "objectId": "specs/hällo.yaml",
            "objectGeneration": "1795176000000001",
        }

    def test_of_another_object_calls_nothing(self, router: Router, listener: Listener) -> None:
        for name in ("results/hello-1.json", "logs/hello-0123456789ab/vm.log", "contexts/sha256", "xspecs/a.yaml"):
            router.finalized({**self.RESOURCE, "name": name})
        router.finalized(self.RESOURCE)
        [heard] = listener.wait_for(1)
        assert heard.json["message"]["attributes"]["objectId"] == self.RESOURCE["name"]

    def test_that_is_deleted_calls_nothing(self, pubsub: PubSub, router: Router, listener: Listener) -> None:
        pubsub.publish(message(UPLOADS_TOPIC, eventType="OBJECT_DELETE", objectId="specs/a.yaml"))
        router.finalized(self.RESOURCE)
        [heard] = listener.wait_for(1)
        assert heard.json["message"]["attributes"]["eventType"] == "OBJECT_FINALIZE"

    def test_copies_have_one_id(self, router: Router, listener: Listener) -> None:
        router.break_things(Faults(copies=2))
        router.finalized(self.RESOURCE)
        first, second = listener.wait_for(2)
        assert first.json["message"]["messageId"] == second.json["message"]["messageId"]
