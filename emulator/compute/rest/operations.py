"""Operations: the work that a request has started, on a thread of its own, and its outcome.

PENDING ──a thread is free──► RUNNING ──► DONE, with or without an error
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from http import HTTPStatus

from .calls import Call, new_id, timestamp
from .links import Links, last
from .listing import list_document, page_of
from .refusals import Document, Failure, not_found

LOG = logging.getLogger(__name__)

SYSTEM = "system"  # the user of operations that Compute Engine begins by itself
_USER = "emulator"
_AT_ONCE = 16
_LONGEST_WAIT = 120.0  # seconds, of one `wait` request, as Google has it


@dataclass
class _Operation:
    path: str
    document: Document
    done: threading.Event = field(default_factory=threading.Event)

    def update(self, **fields: object) -> None:
        self.document = {**self.document, **fields}  # so that readers always see a whole document


class Operations:
    """All operations of the endpoint; they are kept until it is closed, or they are deleted."""

    def __init__(self, links: Links) -> None:
        self._links = links
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="compute-operation")
        self._operations: dict[str, _Operation] = {}
        self._repeats: dict[str, _Operation] = {}

    def close(self) -> None:
        """Wait for what is going on; what has not begun never will."""
        self._pool.shutdown(cancel_futures=True)

    def begin(
        self, call: Call, kind: str, target: str, target_id: str, work: Callable[[], None], user: str = _USER
    ) -> Document:
        """Set `work` going on the resource with the path `target`. It may raise Failure."""
        operation = self._new(call, kind, target, target_id, user)
        if call.request:
            self._repeats[call.request] = operation
        document = operation.document

        def run() -> None:
            operation.update(status="RUNNING", startTime=timestamp())
            work()

        self._pool.submit(run).add_done_callback(lambda future: _finish(operation, future))
        return document

    def note(self, call: Call, kind: str, target: str, target_id: str, message: str) -> None:
        """Note something that Compute Engine has done by itself."""
        operation = self._new(call, kind, target, target_id, SYSTEM)
        operation.update(statusMessage=message, startTime=timestamp())
        _end(operation)

    def repeated(self, request: str) -> Document | None:
        """Return the operation of an earlier request with the same key; None when there was none."""
        operation = self._repeats.get(request)
        return None if operation is None else operation.document

    def get(self, call: Call) -> Document:
        """Return an operation as it is now."""
        return self._find(call).document

    def wait(self, call: Call) -> Document:
        """Return an operation when it is done, or as it is after two minutes."""
        operation = self._find(call)
        operation.done.wait(_LONGEST_WAIT)
        return operation.document

    def list(self, call: Call) -> Document:
        """List the operations of a scope."""
        here = self._below(f"{call.parent}/operations/")
        return list_document("compute#operation", self._links.url(call.path), here, call.query, call.path)

    def aggregated(self, call: Call) -> Document:
        """List the operations of all scopes of a project."""
        page, token = page_of(self._below(f"projects/{call.project}/"), call.query)
        scopes: Document = {}
        for document in page:
            path = str(document["selfLink"]).partition(f"projects/{call.project}/")[2]
            scopes.setdefault(path.rpartition("/operations/")[0], {"operations": []})["operations"].append(document)
        link = self._links.url(f"projects/{call.project}/aggregated/operations")
        found: Document = {"kind": "compute#operationAggregatedList", "id": link, "selfLink": link, "items": scopes}
        return found | ({"nextPageToken": token} if token else {})

    def delete(self, call: Call) -> Document:
        """Forget an operation."""
        del self._operations[self._find(call).path]
        return {}

    def _below(self, prefix: str) -> Sequence[Document]:
        return [entry.document for path, entry in list(self._operations.items()) if path.startswith(prefix)]

    def _find(self, call: Call) -> _Operation:
        found = self._operations.get(call.path)
        if found is None:
            raise not_found(call.path)
        return found

    def _new(self, call: Call, kind: str, target: str, target_id: str, user: str) -> _Operation:
        name = f"operation-{secrets.token_hex(7)}-{secrets.token_hex(6)}-{secrets.token_hex(4)}-{secrets.token_hex(4)}"
        path = f"{call.parent}/operations/{name}"
        now = timestamp()
        document: Document = {
            "kind": "compute#operation",
            "id": new_id(),
            "name": name,
            "operationType": kind,
            "targetLink": self._links.url(target),
            "targetId": target_id,
            "status": "PENDING",
            "user": user,
            "progress": 0,
            "insertTime": now,
            "creationTimestamp": now,
            "selfLink": self._links.url(path),
        }
        if call.scope.startswith("zones/"):
            document["zone"] = self._links.url(call.parent)
        operation = self._operations[path] = _Operation(path, document)
        return operation


def _finish(operation: _Operation, future: Future[None]) -> None:
    if future.cancelled():
        _end(operation, Failure("INTERNAL_ERROR", "The endpoint was closed.", 503))
        return
    error = future.exception()
    if error is None or isinstance(error, Failure):
        _end(operation, error)
    else:
        LOG.error("%s %s", operation.document["operationType"], last(operation.document["targetLink"]), exc_info=error)
        _end(operation, Failure("INTERNAL_ERROR", f"Internal error: {error}", 500))


def _end(operation: _Operation, failure: Failure | None = None) -> None:
    if failure is not None:
        operation.update(
            error={"errors": [{"code": failure.code, "message": failure.message}]},
            httpErrorStatusCode=failure.status,
            httpErrorMessage=HTTPStatus(failure.status).phrase.upper(),
        )
    operation.update(status="DONE", progress=100, endTime=timestamp())
    operation.done.set()
