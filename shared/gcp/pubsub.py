"""The bus in Pub/Sub: one call per message, by the client below the one that collects batches in a thread.

A function may be frozen as soon as it has answered, with whatever a thread has not sent yet.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import google.api_core.exceptions as api
from google.api_core.retry import Retry, if_exception_type

from ..errors import EnvironmentFault, NotFound, Permanent
from ..ports import Message
from ..topology import REPORTS_TOPIC
from .errors import mapped

if TYPE_CHECKING:
    from google.pubsub_v1.services.publisher import PublisherClient

MESSAGE_LIMIT = 10_000_000  # bytes of one message, all of it: Pub/Sub's own
KEYLESS = (REPORTS_TOPIC,)  # Pub/Sub takes 1 MB/s of one key, and a VM may use any: another build's, too

# Whether a call that ended so has published or not: to publish twice is allowed, and every receiver bears it.
_AGAIN = if_exception_type(
    api.Aborted,
    api.DeadlineExceeded,
    api.InternalServerError,
    api.ResourceExhausted,
    api.ServiceUnavailable,
    api.Unknown,
)


class GoogleBus:
    """The topics of a project, whose last names messages carry. Thread-safe.

    `host` is an emulator's HOST:PORT. `patience` is how long, in seconds, a call that fails for a passing reason is
    tried again before it is Transient.
    """

    def __init__(self, project: str, host: str | None = None, *, patience: float = 20.0) -> None:
        self._project = project
        self._host = host
        self._patience = patience

    @cached_property
    def _client(self) -> PublisherClient:
        import grpc
        from google.pubsub_v1.services.publisher import PublisherClient  # 0.2 s, which not every function has need of
        from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport

        if self._host is None:
            with mapped("Pub/Sub"):
                return PublisherClient()
        return PublisherClient(transport=PublisherGrpcTransport(channel=grpc.insecure_channel(self._host)))

    def publish(self, message: Message) -> None:
        """Publish a message, as send() does."""
        self.send(message)

    def send(self, message: Message) -> str:
        """Publish a message, and return the id that Pub/Sub gives it; it is stored when this returns.

        Transient; Permanent for what it does not take; EnvironmentFault for a topic that is not there: a caller that
        works on a build would take NotFound for the build's.
        """
        topic = f"projects/{self._project}/topics/{message.topic}"
        if (size := _size(message)) > MESSAGE_LIMIT:
            raise Permanent(
                f"topic {topic}: a message of {size} bytes, and Pub/Sub takes {MESSAGE_LIMIT}; say less in it"
            )
        sent: dict[str, Any] = {"data": message.data, "attributes": dict(message.attributes)}
        if message.topic not in KEYLESS:
            sent["ordering_key"] = message.ordering_key
        try:
            with mapped(f"topic {topic}"):
                asked = {"topic": topic, "messages": [sent]}
                [number] = self._client.publish(asked, retry=self._retry(), timeout=self._patience).message_ids
        except NotFound as error:
            raise EnvironmentFault(f"{error}; apply terraform/, which makes all topics") from error
        return str(number)

    def _retry(self) -> Any:
        return Retry(_AGAIN, initial=0.1, maximum=2.0, timeout=self._patience)


def _size(message: Message) -> int:
    texts = (message.ordering_key, *message.attributes.keys(), *message.attributes.values())
    return len(message.data) + sum(len(text.encode()) for text in texts)
