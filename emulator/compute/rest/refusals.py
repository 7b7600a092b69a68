"""What Compute Engine says when it does not do something: at once (Refusal), or at an operation's end (Failure)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

from shared.errors import GoldsmithError

Document = dict[str, Any]
"""A JSON object as Google's API writes it: camelCase, 64-bit integers as strings."""

_STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ALREADY_EXISTS",
    412: "FAILED_PRECONDITION",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}
_REASONS = {
    401: "authError",
    403: "rateLimitExceeded",
    404: "notFound",
    409: "alreadyExists",
    429: "rateLimitExceeded",
    500: "internalError",
    503: "backendError",
}


class Refusal(Exception):
    """A request is refused with a status of HTTP; clients tell refusals apart by `reason`."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message

    @classmethod
    def of_status(cls, status: int, reason: str = "") -> Refusal:
        """Refuse as a service in trouble does; `reason` is the usual one of the status unless given."""
        return cls(status, reason or _REASONS.get(status, "backendError"), HTTPStatus(status).phrase)

    def document(self) -> Document:
        """Return the body of the answer."""
        entry = {"message": self.message, "domain": "global", "reason": self.reason}
        error: Document = {"code": self.status, "message": self.message, "errors": [entry]}
        if self.status in _STATUS:
            error["status"] = _STATUS[self.status]
        return {"error": error}


class Failure(Exception):
    """An operation that was begun fails; `code` is that of its error."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status


@contextmanager
def failing() -> Iterator[None]:
    """Turn what this machine says into an operation's failure."""
    try:
        yield
    except GoldsmithError as error:
        raise Failure("INTERNAL_ERROR", str(error), 500) from error


def not_found(path: str) -> Refusal:
    """Return the refusal for a resource that does not exist."""
    return Refusal(404, "notFound", f"The resource '{path}' was not found")


def already_exists(path: str) -> Refusal:
    """Return the refusal for a resource that exists already."""
    return Refusal(409, "alreadyExists", f"The resource '{path}' already exists")


def invalid(field: str, value: object, why: str) -> Refusal:
    """Return the refusal of a field's value."""
    return Refusal(400, "invalid", f"Invalid value for field '{field}': '{value}'. {why}")


def in_use(disk: str, user: str) -> Refusal:
    """Return the refusal for a disk that is attached to an instance."""
    message = f"The disk resource '{disk}' is already being used by '{user}'"
    return Refusal(400, "resourceInUseByAnotherResource", message)


def forbidden(permission: str, path: str) -> Refusal:
    """Return the refusal for a caller without a permission."""
    return Refusal(403, "forbidden", f"Required '{permission}' permission for '{path}'")
