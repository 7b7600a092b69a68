"""Topics and subscriptions of shared/topology.py, made in Google's Pub/Sub emulator; and clients of it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import grpc
from google.api_core.exceptions import AlreadyExists
from google.pubsub_v1.services.publisher import PublisherClient
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber import SubscriberClient
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport
from google.pubsub_v1.types import (
    DeadLetterPolicy,
    ExpirationPolicy,
    PubsubMessage,
    PullRequest,
    ReceivedMessage,
    RetryPolicy,
)
from google.pubsub_v1.types import Subscription as PulledSubscription

from shared.ports import Message
from shared.topology import DEAD_LETTERS_SUBSCRIPTION, DEAD_LETTERS_TOPIC, SUBSCRIPTIONS, TOPICS, Subscription

RETAINED = 7 * 24 * 3600  # seconds: Pub/Sub's most
MOST_PULLED = 1000  # messages at a time
PATIENCE = 10.0  # seconds


class PubSub:
    """The emulator at HOST:PORT, for one project. Thread-safe."""

    def __init__(self, host: str, project: str) -> None:
        self.project = project
        self._channel = grpc.insecure_channel(host)
        self.publisher = PublisherClient(transport=PublisherGrpcTransport(channel=self._channel))
        self.subscriber = SubscriberClient(transport=SubscriberGrpcTransport(channel=self._channel))

    def close(self) -> None:
        """End all calls."""
        self._channel.close()

    def topic(self, name: str) -> str:
        """Return a topic's path."""
        return f"projects/{self.project}/topics/{name}"

    def subscription(self, name: str) -> str:
        """Return a subscription's path."""
        return f"projects/{self.project}/subscriptions/{name}"

    def make(self) -> None:
        """Make all that topology.py names, where it is not there yet. Pushes are made by the router."""
        for topic in TOPICS:
            try:
                self.publisher.create_topic(name=self.topic(topic))
            except AlreadyExists:
                continue
        pulled = PulledSubscription(
            name=self.subscription(DEAD_LETTERS_SUBSCRIPTION), topic=self.topic(DEAD_LETTERS_TOPIC)
        )
        for wanted in (*(self._pulled(each) for each in SUBSCRIPTIONS), pulled):
            try:
                self.subscriber.create_subscription(request=wanted)
            except AlreadyExists:
                continue

    def publish(self, message: Message) -> str:
        """Publish; return the message's id."""
        sent = PubsubMessage(data=message.data, attributes=dict(message.attributes), ordering_key=message.ordering_key)
        answer = self.publisher.publish(topic=self.topic(message.topic), messages=[sent])
        return str(answer.message_ids[0])

    def waiting(self, subscription: str) -> list[float] | None:
        """Return since when each message of a subscription waits, in Unix seconds; None where there is no such.

        Each is pulled, and let go of at once.
        """
        path, found, held = self.subscription(subscription), [], []
        try:
            while pulled := self._pull(path):
                found += [each.message.publish_time.timestamp() for each in pulled]
                held += [each.ack_id for each in pulled]
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return None
            raise
        for begin in range(0, len(held), MOST_PULLED):
            ids = held[begin : begin + MOST_PULLED]
            self.subscriber.modify_ack_deadline(subscription=path, ack_ids=ids, ack_deadline_seconds=0)
        return found

    def _pull(self, path: str) -> list[ReceivedMessage]:
        request = PullRequest(subscription=path, max_messages=MOST_PULLED, return_immediately=True)
        call: Any = self.subscriber.transport.pull  # the client itself warns of return_immediately
        return list(call(request, timeout=PATIENCE).received_messages)

    def _pulled(self, wanted: Subscription) -> PulledSubscription:
        return PulledSubscription(
            name=self.subscription(wanted.name),
            topic=self.topic(wanted.topic),
            ack_deadline_seconds=max(10, wanted.ack_deadline),
            filter=wanted.filter,
            enable_message_ordering=wanted.ordered,
            message_retention_duration=timedelta(seconds=RETAINED),
            expiration_policy=ExpirationPolicy(),
            retry_policy=RetryPolicy(
                minimum_backoff=timedelta(seconds=wanted.min_backoff),
                maximum_backoff=timedelta(seconds=wanted.max_backoff),
            ),
            dead_letter_policy=DeadLetterPolicy(
                dead_letter_topic=self.topic(DEAD_LETTERS_TOPIC),
                max_delivery_attempts=wanted.max_delivery_attempts,
            ),
        )
