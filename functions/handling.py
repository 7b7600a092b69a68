"""What all functions share: the factory of this instance, and what becomes of an event.

An event whose handler returns is acknowledged; one that raises is answered with 500 and delivered again, later and
later, until it is a dead letter. So what can never be handled (PoisonMessage) is logged and acknowledged, what may pass
(Transient, Conflict) is raised, and so is what nobody has foreseen: a repaired function takes it up again.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from shared.errors import PoisonMessage, WrongSignature
from shared.factory import cloud
from shared.ports import Message

from . import log

if TYPE_CHECKING:
    from shared.factory import CloudFactory

LOG = logging.getLogger(__name__)

MESSAGE_PUBLISHED = "google.cloud.pubsub.topic.v1.messagePublished"
BUILD_ID_LENGTH = 45  # what a message says is its build may be anything


class CloudEvent(Protocol):
    """What the functions framework hands over: attributes by index, and the data, which may be anything."""

    def __getitem__(self, key: str) -> Any:
        """Give an attribute: type, source, id ..."""
        ...

    def get_data(self) -> Any:
        """Give what JSON there is, or bytes that are none."""
        ...


class HttpRequest(Protocol):
    """What the functions framework hands over: Flask's request."""

    @property
    def method(self) -> str:
        """GET, POST ..."""
        ...

    @property
    def path(self) -> str:
        """Give the path below the function's address."""
        ...

    @property
    def args(self) -> Mapping[str, str]:
        """Give what stands after the question mark."""
        ...


HttpAnswer: TypeAlias = tuple[str, int, dict[str, str]]
"""Body, status, headers."""


class Instance:
    """What lives as long as a function's instance: the factory, made for the first event."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._factory: CloudFactory | None = None

    def factory(self) -> CloudFactory:
        """Give the factory. EnvironmentFault when the function's environment is wrong."""
        with self._lock:
            if self._factory is None:
                log.set_up()
                self._factory = cloud(os.environ)
            return self._factory

    @contextmanager
    def using(self, factory: CloudFactory) -> Iterator[None]:
        """Work with another factory than Google Cloud's, for a test."""
        before, self._factory = self._factory, factory
        try:
            yield
        finally:
            self._factory = before


INSTANCE = Instance()


def handle(event: CloudEvent, work: Callable[[CloudEvent, CloudFactory], None]) -> None:
    """Do the work of an event, and drop it where no redelivery could help."""
    log.set_build("")
    factory = INSTANCE.factory()
    try:
        work(event, factory)
    except PoisonMessage as error:
        metric = "wrong_signature" if isinstance(error, WrongSignature) else "poison_message"
        LOG.warning("dropped event %s of %s: %s", event["id"], event["source"], error, extra={"metric": metric})


def message_of(event: CloudEvent) -> tuple[Message, str]:
    """Give the Pub/Sub message that an event carries, and its id. PoisonMessage."""
    data = event.get_data()
    message = data.get("message") if isinstance(data, dict) else None
    if event["type"] != MESSAGE_PUBLISHED or not isinstance(message, dict):
        raise PoisonMessage(f"an event of type {event['type']} that holds no Pub/Sub message")
    attributes = message.get("attributes") or {}
    try:
        decoded = base64.b64decode(message.get("data") or "", validate=True)
        attributes = {str(name): str(value) for name, value in attributes.items()}
    except (binascii.Error, TypeError, AttributeError, ValueError) as error:
        raise PoisonMessage(f"no Pub/Sub message: {error}") from error
    log.set_build(attributes.get("build_id", "")[:BUILD_ID_LENGTH])
    topic = str(event["source"]).rpartition("/")[2]
    return Message(topic, decoded, attributes, str(message.get("orderingKey", ""))), str(event["id"])


def json_answer(document: Mapping[str, Any], status: int = 200) -> HttpAnswer:
    """Give a document as an answer that nobody keeps."""
    headers = {"Content-Type": "application/json", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    return json.dumps(document) + "\n", status, headers


def refuse_method(request: HttpRequest, allowed: str) -> HttpAnswer:
    """Say which methods there are."""
    body, status, headers = json_answer({"error": f"{request.method} is not possible here; use {allowed}"}, 405)
    return body, status, {**headers, "Allow": allowed}
