"""Google's error document of APIs that speak gRPC inside: a status of HTTP, and the code of gRPC by its name."""

from __future__ import annotations

from flask import Response, jsonify


class Refusal(Exception):
    """An answer other than success."""

    def __init__(self, code: int, status: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.message = message

    def response(self) -> Response:
        """Return the whole answer."""
        answer = jsonify({"error": {"code": self.code, "message": self.message, "status": self.status}})
        answer.status_code = self.code
        return answer


def invalid(message: str) -> Refusal:
    """Return the refusal of a request that is wrong in itself."""
    return Refusal(400, "INVALID_ARGUMENT", message)


def failed_precondition(message: str) -> Refusal:
    """Return the refusal of what the state of a resource does not allow."""
    return Refusal(400, "FAILED_PRECONDITION", message)


def unauthenticated() -> Refusal:
    """Return the refusal of a token that is not the emulator's."""
    return Refusal(
        401,
        "UNAUTHENTICATED",
        "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid "
        "authentication credential.",
    )


def denied(permission: str, resource: str) -> Refusal:
    """Return the refusal of a caller without a permission."""
    text = f"Permission '{permission}' denied on resource '{resource}' (or it may not exist)."
    return Refusal(403, "PERMISSION_DENIED", text)


def not_found(message: str) -> Refusal:
    """Return the refusal for what does not exist."""
    return Refusal(404, "NOT_FOUND", message)


def already_exists(message: str) -> Refusal:
    """Return the refusal for a name that is taken."""
    return Refusal(409, "ALREADY_EXISTS", message)


def unimplemented(message: str) -> Refusal:
    """Return the refusal of what Google has and this emulator has not."""
    return Refusal(501, "UNIMPLEMENTED", message)
