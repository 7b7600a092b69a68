"""Calls the functions as Google Cloud does: what is published, by push; what is uploaded is published, too.

    the bucket ──notification──┐
    Pub/Sub's emulator ────────┴─StreamingPull──► filter ──► Courier ──push──► FUNCTION/projects/P/topics/T

Google's emulator can push by itself, but without filters, ordering, tokens and delivery attempts, and only two
messages at a time. So messages are pulled, and stay leased while they are delivered or wait for their next attempt.
"""

from __future__ import annotations

import base64
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from queue import SimpleQueue
from typing import Any

import google.api_core.exceptions as api
from google.pubsub_v1.types import ReceivedMessage, StreamingPullRequest

from shared.ports import Message
from shared.topology import DEAD_LETTERS_TOPIC, FINALIZED, NOTIFICATIONS, SUBSCRIPTIONS, Subscription

from .courier import Courier, Delivery, Faults, Policy
from .message_filter import message_filter
from .topics import PubSub

LOG = logging.getLogger(__name__)

LEASE = 600  # seconds: the longest there is
RENEWAL = 120.0  # seconds between renewals
QUIET = 1.0  # seconds: what is published is pulled within a few milliseconds
AGAIN = 0.1  # seconds until a broken stream is opened again
PARTING = 5.0  # seconds in which Pub/Sub ends a stream whose requests have ended

Token = Callable[[str], str]
"""Returns an ID token for an audience."""


class Router:
    """Routes from start() to close(). `urls` has each function's address; `token` signs for Pub/Sub."""

    def __init__(
        self,
        pubsub: PubSub,
        urls: Mapping[str, str],
        token: Token,
        subscriptions: Sequence[Subscription] = SUBSCRIPTIONS,
    ) -> None:
        self._pubsub = pubsub
        self._urls = urls
        self._token = token
        self._courier = Courier()
        self._pulls = [Pull(pubsub, each, self._take) for each in subscriptions]

    def start(self) -> None:
        """Begin to pull; the subscriptions exist."""
        for pull in self._pulls:
            pull.start()

    @property
    def courier(self) -> Courier:
        """What delivers, and remembers what it has delivered."""
        return self._courier

    @property
    def deliveries(self) -> int:
        """How many attempts there have been."""
        return self._courier.attempts

    def wait_until_idle(self, seconds: float = 60.0) -> None:
        """Wait until nothing is under way, nor has been for a moment. TimeoutError."""
        end = time.monotonic() + seconds
        seen, since = -1, time.monotonic()
        while time.monotonic() - since < QUIET:
            if time.monotonic() > end:
                raise TimeoutError(f"{self._courier.pending} deliveries are under way after {seconds:g} s")
            time.sleep(QUIET / 20)
            if self._courier.pending or seen != self.deliveries:
                seen, since = self.deliveries, time.monotonic()

    @contextmanager
    def duplicating(self, copies: int = 2) -> Iterator[None]:
        """Deliver everything so many times."""
        self.break_things(Faults(copies=copies))
        try:
            yield
        finally:
            self.break_things(Faults())

    def break_things(self, faults: Faults) -> None:
        """Let things go wrong from now on; Faults() ends it."""
        self._courier.break_things(faults)

    def finalized(self, resource: Mapping[str, Any]) -> None:
        """Publish that an object was written, as Cloud Storage does; `resource` is its JSON."""
        for wanted in NOTIFICATIONS:
            if str(resource["name"]).startswith(wanted.prefix):
                self._pubsub.publish(notification(wanted.topic, resource))

    def close(self) -> None:
        """Begin no more deliveries; those under way end with their functions."""
        for pull in self._pulls:
            pull.stop()
        self._courier.close()
        for pull in self._pulls:
            pull.join()

    def _take(self, pull: Pull, received: ReceivedMessage) -> None:
        """Send one message on its way."""
        wanted, message = pull.subscription, received.message
        url = self._urls[wanted.function]

        def request(attempt: int) -> tuple[Mapping[str, str], bytes]:
            path = self._pubsub.subscription(wanted.name)
            return self._headers(url, {"From": "noreply@google.com"}), push_body(received, path, attempt)

        def dead(attempts: int) -> None:
            self._pubsub.publish(dead_letter(received, wanted, self._pubsub.project, attempts))
            pull.acknowledge(received)

        delivery = Delivery(
            name=wanted.name,
            id=message.message_id,
            function=wanted.function,
            url=f"{url}/{self._pubsub.topic(wanted.topic)}",
            request=request,
            policy=Policy(wanted.ack_deadline, wanted.min_backoff, wanted.max_backoff, wanted.max_delivery_attempts),
            key=message.ordering_key if wanted.ordered else "",
            on_done=lambda _attempts: pull.acknowledge(received),
            on_dead=dead,
        )
        self._courier.send(delivery)

    def _headers(self, url: str, more: Mapping[str, str]) -> Mapping[str, str]:
        return {"Content-Type": "application/json", "Authorization": f"Bearer {self._token(url)}", **more}


class Pull:
    """One subscription's messages, by a stream that is opened again when it breaks."""

    def __init__(
        self, pubsub: PubSub, subscription: Subscription, take: Callable[[Pull, ReceivedMessage], None]
    ) -> None:
        self.subscription = subscription
        self._pubsub = pubsub
        self._path = pubsub.subscription(subscription.name)
        self._matches = message_filter(subscription.filter)
        self._take = take
        self._leased: dict[str, None] = {}
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._end: SimpleQueue[None] = SimpleQueue()  # of the open stream's requests
        self._cancel: Callable[[], object] = lambda: None  # the open stream
        name = subscription.name
        self._threads = [
            threading.Thread(target=self._receive, name=f"pull-{name}", daemon=True),
            threading.Thread(target=self._renew, name=f"lease-{name}", daemon=True),
        ]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Take no more messages. Pub/Sub ends the stream: one that is cancelled would get messages for a moment yet."""
        self._stopped.set()
        self._end.put(None)

    def join(self) -> None:
        """Wait for the end of what stop() has ended."""
        end = time.monotonic() + PARTING
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(0.0, end - time.monotonic()))
                if thread.is_alive():
                    self._cancel()
                    thread.join()

    def acknowledge(self, received: ReceivedMessage) -> None:
        """Acknowledge a message that has been handled."""
        with self._lock:
            self._leased.pop(received.ack_id, None)
        if not self._stopped.is_set():
            self._call(lambda: self._pubsub.subscriber.acknowledge(subscription=self._path, ack_ids=[received.ack_id]))

    def _receive(self) -> None:
        while not self._stopped.is_set():
            end = self._end = SimpleQueue()
            if self._stopped.is_set():  # stop() may have ended the one before
                return
            try:
                stream: Any = self._pubsub.subscriber.streaming_pull(requests=self._ask(end))
                self._cancel = stream.cancel
                for answer in stream:
                    for received in answer.received_messages:
                        self._received(received)
            except api.GoogleAPICallError as error:
                if not self._stopped.is_set():
                    LOG.info("subscription %s is pulled anew: %s", self.subscription.name, error)
            finally:
                end.put(None)
            self._stopped.wait(AGAIN)

    def _ask(self, end: SimpleQueue[None]) -> Iterator[StreamingPullRequest]:
        """Yield the one request of a stream, then wait: the end of the requests would end the stream."""
        yield StreamingPullRequest(subscription=self._path, stream_ack_deadline_seconds=LEASE)
        end.get()

    def _received(self, received: ReceivedMessage) -> None:
        if self._stopped.is_set():
            self._call(lambda: self._set_deadline([received.ack_id], 0))
            return
        if not self._matches(received.message.attributes):
            self.acknowledge(received)
            return
        with self._lock:
            self._leased[received.ack_id] = None
        self._take(self, received)

    def _renew(self) -> None:
        while not self._stopped.wait(RENEWAL):
            with self._lock:
                held = list(self._leased)
            if held:
                self._call(lambda held=held: self._set_deadline(held, LEASE))  # type: ignore[misc]  # bound early

    def _set_deadline(self, ack_ids: list[str], seconds: int) -> None:
        self._pubsub.subscriber.modify_ack_deadline(
            subscription=self._path, ack_ids=ack_ids, ack_deadline_seconds=seconds
        )

    def _call(self, call: Callable[[], None]) -> None:
        try:
            call()
        except api.GoogleAPICallError as error:  # the message is delivered again, which subscribers must tolerate
            LOG.info("subscription %s: %s", self.subscription.name, error)


def notification(topic: str, resource: Mapping[str, Any]) -> Message:
    """Return the message of a bucket's notification in format JSON_API_V1."""
    now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    attributes = {
        "notificationConfig": f"projects/_/buckets/{resource['bucket']}/notificationConfigs/1",
        "eventType": FINALIZED,
        "payloadFormat": "JSON_API_V1",
        "bucketId": str(resource["bucket"]),
        "objectId": str(resource["name"]),
        "objectGeneration": str(resource["generation"]),
        "eventTime": now,
    }
    return Message(topic, json.dumps(resource).encode(), attributes)


def push_body(received: ReceivedMessage, subscription: str, attempt: int) -> bytes:
    """Return the body of a push, as proto3's JSON: empty fields are left out."""
    message = received.message
    published = message.publish_time.isoformat().replace("+00:00", "Z")
    document: dict[str, Any] = {
        "messageId": message.message_id,
        "message_id": message.message_id,
        "publishTime": published,
        "publish_time": published,
    }
    if message.data:
        document["data"] = base64.b64encode(message.data).decode()
    if message.attributes:
        document["attributes"] = dict(message.attributes)
    if message.ordering_key:
        document["orderingKey"] = message.ordering_key
    return json.dumps({"message": document, "subscription": subscription, "deliveryAttempt": attempt}).encode()


def dead_letter(received: ReceivedMessage, subscription: Subscription, project: str, attempts: int) -> Message:
    """Return the dead letter of a message: the same message, with the subscription that could not deliver it."""
    message = received.message
    prefix = "CloudPubSubDeadLetterSource"
    why = {
        f"{prefix}DeliveryCount": str(attempts),
        f"{prefix}Subscription": subscription.name,
        f"{prefix}SubscriptionProject": project,
        f"{prefix}TopicPublishTime": message.publish_time.isoformat(),
    }
    return Message(DEAD_LETTERS_TOPIC, message.data, {**message.attributes, **why}, message.ordering_key)
