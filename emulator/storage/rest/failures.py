"""Cloud Storage's refusals: Google's error document, by status and reason."""

from __future__ import annotations

from flask import Response, jsonify


class ApiError(Exception):
    """An answer other than success; clients distinguish them by `reason`."""

    def __init__(self, status: int, reason: str, message: str, *, location: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message
        self.location = location  # the header that the message is about

    def document(self) -> dict[str, object]:
        """Return `{"error": {...}}`, as the JSON API has it."""
        detail = {"message": self.message, "domain": "global", "reason": self.reason}
        if self.location:
            detail |= {"locationType": "header", "location": self.location}
        return {"error": {"code": self.status, "message": self.message, "errors": [detail]}}

    def response(self, *, plain: bool) -> Response:
        """Return the whole answer; media downloads have the message alone, as text."""
        if self.status == 304:
            return Response(status=304)
        if plain:
            return Response(self.message, self.status, content_type="text/html; charset=UTF-8")
        answer = jsonify(self.document())
        answer.status_code = self.status
        return answer


def invalid(message: str) -> ApiError:
    """Return the refusal of a request that is wrong in itself."""
    return ApiError(400, "invalid", message)


def not_found(what: str) -> ApiError:
    """Return the refusal for a bucket or object that does not exist."""
    return ApiError(404, "notFound", what)


def no_object(bucket: str, name: str) -> ApiError:
    """Return the refusal for an object, or a generation of it, that does not exist."""
    return not_found(f"No such object: {bucket}/{name}")


def precondition_failed() -> ApiError:
    """Return the refusal of a request whose preconditions do not hold."""
    return ApiError(
        412,
        "conditionNotMet",
        "At least one of the pre-conditions you specified did not hold.",
        location="If-Match",
    )
