"""Shared by all functions: the backend of this instance, and the handling of an event.

An event whose handler returns is acknowledged; one that raises is answered with 500 and delivered again, later and
later, until it is a dead letter. So what can never be handled (PoisonMessage) is logged and acknowledged, what may pass
(Passing) is raised, and so is what was not foreseen: a repaired function takes it up again.
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
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Protocol, TypeAlias

from shared.errors import PoisonMessage, WrongSignature
from shared.ports import Message
from shared.runtime.opening import cloud

from . import log

if TYPE_CHECKING:
    from shared.runtime.opening import CloudBackend

LOG = logging.getLogger(__name__)

MESSAGE_PUBLISHED = "google.cloud.pubsub.topic.v1.messagePublished"
LARGEST = 2 << 20  # bytes of a request: a list of packages has 0.9 MB, a finished build up to 1.4 MB, in base64
PIECE = 64 << 10
BUILD_ID_LENGTH = 45  # what a message says is its build may be anything


@dataclass(frozen=True)
class CloudEvent:
    """An event of Pub/Sub or Eventarc. `data` is its JSON, or None if its body is not JSON."""

    type: str
    source: str
    id: str
    data: Any


class HttpRequest(Protocol):
    """The request as the functions framework passes it: Flask's."""

    @property
    def method(self) -> str:
        """GET, POST ..."""
        ...

    @property
    def path(self) -> str:
        """Return the path below the function's address."""
        ...

    @property
    def args(self) -> Mapping[str, str]:
        """Return what stands after the question mark."""
        ...

    @property
    def environ(self) -> Mapping[str, Any]:
        """Return what WSGI says of the request: its headers."""
        ...

    @property
    def stream(self) -> IO[bytes]:
        """Return what reads the body."""
        ...


HttpAnswer: TypeAlias = tuple[str, int, dict[str, str]]
"""Body, status, headers."""


class Instance:
    """The backend of a function's instance, made for the first event."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._backend: CloudBackend | None = None

    def backend(self) -> CloudBackend:
        """Return the backend. EnvironmentFault when the function's environment is wrong."""
        with self._lock:
            if self._backend is None:
                log.set_up_logging()
                self._backend = cloud(os.environ)
            return self._backend

    @contextmanager
    def using(self, backend: CloudBackend) -> Iterator[None]:
        """Work with another backend than Google Cloud's, for a test."""
        before, self._backend = self._backend, backend
        try:
            yield
        finally:
            self._backend = before


INSTANCE = Instance()


def handle(request: HttpRequest, work: Callable[[CloudEvent, CloudBackend], None]) -> HttpAnswer:
    """Do the work of the event that a request brings, and drop it where no redelivery could help."""
    if request.method != "POST":
        return refuse_method(request, "POST")
    log.set_build("")
    backend = INSTANCE.backend()
    which = request.path
    try:
        event = event_of(request)
        which = f"{event.id} of {event.source}"
        work(event, backend)
    except PoisonMessage as error:
        metric = "wrong_signature" if isinstance(error, WrongSignature) else "poison_message"
        LOG.warning("dropped event %s: %s", which, error, extra={"metric": metric})
    return "OK", 200, {}


def event_of(request: HttpRequest) -> CloudEvent:
    """Read an event: a message that Pub/Sub pushes, or a CloudEvent in the binary mode of Eventarc. PoisonMessage.

    The functions framework can do so too. It answers with 400 what is no such thing, a message without data among it:
    that would be delivered again until it is a dead letter. It reads any body into memory, too.
    """
    body = _body(request)
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        data = None
    kind, source, number = (request.environ.get(f"HTTP_CE_{name}", "") for name in ("TYPE", "SOURCE", "ID"))
    if kind:
        return CloudEvent(kind, source, number, data)
    if not isinstance(data, dict) or not isinstance(data.get("message"), dict):
        raise PoisonMessage("a request that holds no Pub/Sub message")
    number = data["message"].get("messageId")
    return CloudEvent(MESSAGE_PUBLISHED, request.path, number if isinstance(number, str) else "", data)


def _body(request: HttpRequest) -> bytes:
    """Read a body up to LARGEST bytes; PoisonMessage for more of them, once it has all arrived, piece by piece."""
    pieces: list[bytes] = []
    size = 0
    while piece := request.stream.read(PIECE):
        size += len(piece)
        if size > LARGEST:
            pieces.clear()
        else:
            pieces.append(piece)
    if size > LARGEST:
        raise PoisonMessage(f"a request of {size} bytes; {LARGEST} is the most")
    return b"".join(pieces)


def message_of(event: CloudEvent) -> tuple[Message, str]:
    """Return the Pub/Sub message that an event carries, and its id. PoisonMessage."""
    message = event.data.get("message") if isinstance(event.data, dict) else None
    if event.type != MESSAGE_PUBLISHED or not isinstance(message, dict):
        raise PoisonMessage(f"an event of type {event.type} that holds no Pub/Sub message")
    attributes = message.get("attributes") or {}
    try:
        decoded = base64.b64decode(message.get("data") or "", validate=True)
        attributes = {str(name): str(value) for name, value in attributes.items()}
    except (binascii.Error, TypeError, AttributeError, ValueError) as error:
        raise PoisonMessage(f"no Pub/Sub message: {error}") from error
    log.set_build(attributes.get("build_id", "")[:BUILD_ID_LENGTH])
    topic = event.source.rpartition("/")[2]
    return Message(topic, decoded, attributes, str(message.get("orderingKey", ""))), event.id


def json_answer(document: Mapping[str, Any], status: int = 200) -> HttpAnswer:
    """Return a document as an answer that is not cached."""
    headers = {"Content-Type": "application/json", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    return json.dumps(document) + "\n", status, headers


def refuse_method(request: HttpRequest, allowed: str) -> HttpAnswer:
    """List the allowed methods."""
    body, status, headers = json_answer({"error": f"{request.method} is not possible here; use {allowed}"}, 405)
    return body, status, {**headers, "Allow": allowed}
