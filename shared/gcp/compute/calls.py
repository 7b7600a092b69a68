"""Calls of Compute Engine: explicit time limits and retries, deterministic request ids, bounded waits.

google-cloud-compute retries only 503, waits for operations at the real endpoint whatever its own is, and never sets a
requestId. So all of that is done here: `insert_unary` and the like give an operation, which finish() waits for, and
raises Transient when it takes longer than one delivery of an order may. The redelivered order then waits on.

    operation = calls.start("machine gs-...", client.insert_unary, request)
    calls.finish("machine gs-...", operation, project, until)
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import Any, TypeVar

import google.auth
import requests
from google.api_core import exceptions, retry
from google.auth.credentials import AnonymousCredentials, Credentials
from google.cloud import compute_v1

from ...errors import NotFound, Transient
from ...ports import Clock
from ..errors import classify, mapped
from ..settings import Settings

API = "https://www.googleapis.com/compute/v1/"  # how resources name each other, whatever the endpoint

BUDGET = 240.0  # seconds that one call of the port may wait; a function has 540 for all that it does
REPEATS = 60.0  # seconds within which the same request is the same to Compute Engine, its failure included

_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_READS = 60.0  # seconds for an answer
_WAITS = 150.0  # the same of a request that Compute Engine answers after two minutes at the latest
_NAMESPACE = uuid.UUID("6d6f6c64-736d-5974-a868-676f6c64736d")  # any fixed one would do
_PASSING = (
    exceptions.BadGateway,
    exceptions.GatewayTimeout,
    exceptions.InternalServerError,
    exceptions.ServiceUnavailable,
    exceptions.TooManyRequests,
    requests.ConnectionError,
)
_RETRY = retry.Retry(predicate=retry.if_exception_type(*_PASSING), initial=0.2, maximum=5.0)

Method = Callable[..., compute_v1.Operation]

Client = TypeVar("Client")
Answer = TypeVar("Answer")


class Calls:
    """One process's connections to Compute Engine; each is made when it is first needed.

    `patience` is how long, in seconds, a request that fails for a passing reason is sent again before it is Transient.
    """

    def __init__(self, settings: Settings, clock: Clock, *, patience: float = 20.0) -> None:
        self._endpoint = settings.compute_endpoint
        self._clock = clock
        self._retry = _RETRY.with_timeout(patience)
        self._clients: dict[type[Any], Any] = {}

    def client(self, kind: type[Client]) -> Client:
        """Return the client of that class."""
        if kind not in self._clients:
            options = {"api_endpoint": self._endpoint} if self._endpoint else None
            with mapped("Compute Engine"):
                self._clients[kind] = kind(credentials=self._credentials, client_options=options)  # type: ignore[call-arg]  # all of Google's clients take them
        client: Client = self._clients[kind]
        return client

    def start(self, what: str, method: Callable[..., Answer], request: object) -> Answer:
        """Call a method. Safe to do again after a broken connection: the request is a read, or has its id."""
        with mapped(what):
            return self.call(method, request, _READS)

    def look(self, what: str, method: Callable[..., Answer], request: object) -> Answer | None:
        """Call a method that reads one resource; None when there is no such."""
        try:
            return self.start(what, method, request)
        except NotFound:
            return None

    def pages(self, what: str, method: Callable[..., Iterable[Answer]], request: object) -> Iterator[Answer]:
        """Call a method that lists; each page is asked for when it is reached."""
        with mapped(what):
            yield from self.call(method, request, _READS)

    def whole_pages(self, what: str, method: Callable[..., Any], request: object) -> Iterator[Any]:
        """Call a method that lists, and yield its answers as they came, with their warnings."""
        with mapped(what):
            yield from self.call(method, request, _READS).pages

    def call(self, method: Callable[..., Answer], request: object, seconds: float) -> Answer:
        """Send one request: the one place that every call comes through. Raises what Google's clients do."""
        return method(request=request, retry=self._retry, timeout=seconds)

    def until(self, seconds: float = BUDGET) -> float:
        """Return the time at which a call of the port that begins now stops waiting."""
        return self._clock.now() + seconds

    def request_id(self, *what: str) -> str:
        """Return the id of a request: the same within REPEATS, since a failure must not be repeated for an hour.

        `what` tells apart all that may differ: a name may be another resource's by now, so its numeric id is part of a
        deletion's, or the second one would be taken for the first. Two requests to make one VM differ in their signed
        URLs; Compute Engine ignores the second, and either URL will do.
        """
        return str(uuid.uuid5(_NAMESPACE, "/".join([*what, str(int(self._clock.now() // REPEATS))])))

    def finish(self, what: str, operation: compute_v1.Operation, project: str, until: float) -> None:
        """Wait for an operation. Transient when it is not over in time; else what its failure means."""
        while operation.status != compute_v1.Operation.Status.DONE:
            if self._clock.now() >= until:
                raise Transient(f"{what}: Compute Engine is still working on it; it is waited for again")
            operation = self._wait(what, operation, project)
        failures = operation.error.errors
        if failures:
            raise classify(
                what,
                "; ".join(failure.message for failure in failures),
                status=operation.http_error_status_code,
                reasons=tuple(failure.code for failure in failures),
                details=str(operation.error),
            )

    def poll(self, what: str, until: float, seconds: float) -> None:
        """Pause between two looks. Transient when the time is up."""
        if self._clock.now() >= until:
            raise Transient(f"{what}: Compute Engine is still working on it; it is waited for again")
        self._clock.pause(seconds)

    def _wait(self, what: str, operation: compute_v1.Operation, project: str) -> compute_v1.Operation:
        """Wait up to two minutes; an operation that is no longer known is over, and its resource tells how."""
        if operation.zone:
            method: Method = self.client(compute_v1.ZoneOperationsClient).wait
            request: object = compute_v1.WaitZoneOperationRequest(
                project=project, zone=last(operation.zone), operation=operation.name
            )
        else:
            method = self.client(compute_v1.GlobalOperationsClient).wait
            request = compute_v1.WaitGlobalOperationRequest(project=project, operation=operation.name)
        try:
            with mapped(what):
                return self.call(method, request, _WAITS)
        except NotFound as error:
            raise Transient(f"{what}: its operation is no longer known; it is looked at again") from error

    @cached_property
    def _credentials(self) -> Credentials:
        """Application Default Credentials, found once for all clients; the emulator's endpoint wants none."""
        if self._endpoint:
            return AnonymousCredentials()
        with mapped("Compute Engine"):
            found: Credentials = google.auth.default(scopes=[_SCOPE])[0]
            return found


def last(url: str) -> str:
    """Return the name at the end of a resource's URL."""
    return url.rsplit("/", 1)[-1]
