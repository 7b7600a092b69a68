"""Calls the functions as Google Cloud does: what is published, by push; what is uploaded, by Eventarc.

    Pub/Sub's emulator ──StreamingPull──► filter ──► Courier ──push──► FUNCTION/projects/P/topics/T
    the bucket ──finalized──────────────────────────► Courier ──CloudEvent──► FUNCTION/

Google's emulator can push by itself, but without filters, ordering, tokens and delivery attempts, and only two
messages at a time. So messages are pulled, and stay leased while they are delivered or wait for their next attempt.
"""

from __future__ import annotations

import base64
import json
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from queue import SimpleQueue
from typing import Any

import google.api_core.exceptions as api
from google.pubsub_v1.types import ReceivedMessage, StreamingPullRequest

from shared.ports import Message
from shared.topology import DEAD_LETTERS_TOPIC, SUBSCRIPTIONS, TRIGGERS, Subscription, Trigger, function

from .courier import Courier, Delivery, Faults, Policy
from .message_filter import message_filter
from .topics import PubSub

LOG = logging.getLogger(__name__)

LEASE = 600  # seconds: the longest there is
RENEWAL = 120.0  # seconds between renewals
QUIET = 1.0  # seconds: what is published is pulled within a few milliseconds
AGAIN = 0.1  # seconds until a broken stream is opened again

Token = Callable[[str], str]
"""Gives the ID token for an audience."""


class Router:
    """Routes from start() to close(). `urls` has each function's address; `token` signs for Pub/Sub and Eventarc."""

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
        """Tell the functions of an object that was written; `resource` is its JSON."""
        for trigger in TRIGGERS:  # whatever the prefix: Eventarc knows only the bucket
            self._courier.send(self._event(trigger, resource))

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

    def _event(self, trigger: Trigger, resource: Mapping[str, Any]) -> Delivery:
        url = self._urls[trigger.function]
        event_id = uuid.uuid4().hex
        attributes = {
            "ce-id": event_id,
            "ce-specversion": "1.0",
            "ce-type": "google.cloud.storage.object.v1.finalized",
            "ce-source": f"//storage.googleapis.com/projects/_/buckets/{resource['bucket']}",
            "ce-subject": f"objects/{resource['name']}".encode().decode("latin-1"),  # as http.client encodes headers
            "ce-time": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        }
        body = json.dumps(resource).encode()
        return Delivery(
            name=f"finalized-{trigger.function}",
            id=event_id,
            function=trigger.function,
            url=f"{url}/",
            request=lambda _attempt: (self._headers(url, attributes), body),
            policy=Policy(timeout=function(trigger.function).timeout),
        )

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
        self._cancel: Callable[[], object] = lambda: None  # of the open stream
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
        """Take no more messages."""
        self._stopped.set()
        self._cancel()

    def join(self) -> None:
        """Wait for the end of what stop() has ended."""
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def acknowledge(self, received: ReceivedMessage) -> None:
        """Say that a message has been dealt with."""
        with self._lock:
            self._leased.pop(received.ack_id, None)
        if not self._stopped.is_set():
            self._call(lambda: self._pubsub.subscriber.acknowledge(subscription=self._path, ack_ids=[received.ack_id]))

    def _receive(self) -> None:
        while not self._stopped.is_set():
            end: SimpleQueue[None] = SimpleQueue()  # of this stream's requests
            try:
                stream: Any = self._pubsub.subscriber.streaming_pull(requests=self._ask(end))
                self._cancel = stream.cancel
                if self._stopped.is_set():
                    stream.cancel()
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
        """Give the one request of a stream, which stays open for as long as there may be more of them."""
        yield StreamingPullRequest(subscription=self._path, stream_ack_deadline_seconds=LEASE)
        end.get()

    def _received(self, received: ReceivedMessage) -> None:
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
                self._call(
                    lambda held=held: self._pubsub.subscriber.modify_ack_deadline(  # type: ignore[misc]  # bound early
                        subscription=self._path, ack_ids=held, ack_deadline_seconds=LEASE
                    )
                )

    def _call(self, call: Callable[[], None]) -> None:
        try:
            call()
        except api.GoogleAPICallError as error:  # it is delivered once more, which everybody has to bear
            LOG.info("subscription %s: %s", self.subscription.name, error)


def push_body(received: ReceivedMessage, subscription: str, attempt: int) -> bytes:
    """Give what Pub/Sub POSTs: proto3's JSON, so what is empty is left out."""
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
    """Give the message that goes to dead-letters: the same, and where it could not be handled."""
    message = received.message
    prefix = "CloudPubSubDeadLetterSource"
    why = {
        f"{prefix}DeliveryCount": str(attempts),
        f"{prefix}Subscription": subscription.name,
        f"{prefix}SubscriptionProject": project,
        f"{prefix}TopicPublishTime": message.publish_time.isoformat(),
    }
    return Message(DEAD_LETTERS_TOPIC, message.data, {**message.attributes, **why}, message.ordering_key)
