"""Every error of Google's clients, as one of ours: what it means is decided here, by reason and not by status alone.

A 403 may be a rate limit (wait), a quota (tell) or a missing permission (tell which); a 400 may be a disk that its
machine has not let go of yet (wait). The reasons are those of the JSON APIs (`rateLimitExceeded`), of ErrorInfo
(`RATE_LIMIT_EXCEEDED`) and of Compute Engine's operations (`ZONE_RESOURCE_POOL_EXHAUSTED`), written alike.

    with mapped(f"machine {name} in {zone}"):
        client.insert(...)
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

import google.api_core.exceptions as api
import google.auth.exceptions as auth
import requests

from ..errors import AlreadyExists, Conflict, EnvironmentFault, GoldsmithError, NotFound, Permanent, Transient


class Stockout(Transient):
    """A zone has no machine of this kind left at the moment; another zone may."""


def _alike(*reasons: str) -> frozenset[str]:
    return frozenset(re.sub(r"[^a-z]", "", reason.lower()) for reason in reasons)


_STOCKOUT = _alike("ZONE_RESOURCE_POOL_EXHAUSTED", "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS", "stockout")
_QUOTA = _alike("quotaExceeded", "dailyLimitExceeded", "limitExceeded")
_WAIT = _alike(
    "rateLimitExceeded",
    "userRateLimitExceeded",
    "RESOURCE_OPERATION_RATE_EXCEEDED",
    "backendError",
    "internalError",
    "resourceNotReady",  # still being made
    "resourceInUseByAnotherResource",  # a disk whose machine is still being deleted
)
_ABSENT = _alike("notFound", "resourceNotFound")
_PRESENT = _alike("alreadyExists", "resourceAlreadyExists")
_CONFLICT = _alike("aborted", "conditionNotMet", "fingerprintMismatch")
_FORBIDDEN = _alike("forbidden", "IAM_PERMISSION_DENIED", "PERMISSIONS_ERROR")
_API_OFF = _alike("SERVICE_DISABLED", "accessNotConfigured")

_WAITING_STATUSES = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS, 499}  # 499: gRPC's CANCELLED
_QUOTA_NAME = re.compile(r"[Qq]uota '([^']+)'")
_PERMISSION_NAME = re.compile(r"(?:Permission|Required) '([A-Za-z.]+)'|does not have ([A-Za-z.]+) access")
_REQUEST = re.compile(r"^(?:GET|POST|PUT|PATCH|DELETE) \S+: ")  # which api_core puts before the message

_KMS = "Cloud KMS error when using key"
_CONSTRAINT = re.compile(r"\bconstraints/[A-Za-z]+(?:\.[A-Za-z]+)+|\bcustomConstraints/custom(?:\.[A-Za-z0-9]+)+")
_REFUSED = re.compile(
    r"\b(?:constraint '?constraints/|customConstraints/custom\.|constraints were violated|"
    r"denied by (?:custom )?org polic)",
    re.IGNORECASE,
)
_REFUSING_STATUSES = {HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN, HTTPStatus.PRECONDITION_FAILED}

_REMEDIES: Mapping[str, str] = {
    "compute.requireShieldedVm": (
        "write build.secure_boot: true in the spec, or have the deployer set secure_boot = true for all specs"
    ),
    "compute.vmExternalIpAccess": (
        "leave build.external_ip out of the spec; VMs reach what they need by Cloud NAT or Private Google Access"
    ),
    "compute.trustedImageProjects": (
        "write a source of a project that the policy trusts, or copy the source image into one that it does"
    ),
    "compute.restrictSharedVpcSubnetworks": "write a subnetwork that the policy allows in build.subnet",
    "compute.storageResourceUseRestrictions": "write a source of a project whose images the policy lets others use",
    "gcp.resourceLocations": (
        "write locations that the policy allows: zones in build.zones, and the image's in output.storage_locations"
    ),
}
_ANY_REMEDY = "write what it allows in the spec, or have its administrator make an exception for this project"

_FAULTS = (
    api.GoogleAPIError,
    auth.GoogleAuthError,
    requests.RequestException,
    ConnectionError,
    TimeoutError,
)


@contextmanager
def mapped(what: str) -> Iterator[None]:
    """Raise ours for whatever Google's clients raise within; `what` names the resource, and begins each message."""
    try:
        yield
    except _FAULTS as error:
        raise translated(what, error) from error


def translated(what: str, error: Exception) -> GoldsmithError:
    """Return our exception for one of Google's clients'."""
    if isinstance(error, api.RetryError) and isinstance(error.cause, Exception):
        return translated(what, error.cause)
    if isinstance(error, api.GoogleAPICallError):
        status = HTTPStatus.INTERNAL_SERVER_ERROR if error.code is None else int(error.code)
        return classify(
            what,
            _message(error),
            status=status,
            reasons=_reasons(error),
            permission=_permission(error),
            details=f"{_errors(error)} {error.details}",
        )
    if isinstance(error, auth.DefaultCredentialsError) or (
        isinstance(error, auth.RefreshError) and not error.retryable
    ):
        told = str(error).strip().rstrip(".")  # a remedy follows
        return EnvironmentFault(
            f"{what}: Google takes no credentials of ours: {told}; run `gcloud auth application-default login`, "
            "give the function a service account, or the shell what `make cloud` printed"
        )
    if isinstance(error, requests.RequestException) and isinstance(error, ValueError):  # not even sent
        return Permanent(f"{what}: {error}; correct the address")
    return Transient(f"{what}: Google cannot be reached: {error}; it can be tried again")


def classify(
    what: str,
    message: str,
    *,
    status: int = 0,
    reasons: frozenset[str] | tuple[str, ...] = (),
    permission: str = "",
    details: str = "",
) -> GoldsmithError:
    """Return our exception for a complaint: of an HTTP or gRPC call, or of a Compute Engine operation that failed.

    `status` is HTTP's (0 where there is none), `reasons` are Google's own words for it, in any of their spellings;
    `permission` is the missing one, where it was told apart from the message, `details` all else that was said.
    """
    known, message = _alike(*reasons), message.strip().rstrip(".")  # a remedy follows
    if _is_policy(status, known, message):
        return Permanent(f"{what}: {_policies(message, details)}")
    if _KMS in message:
        return Permanent(
            f"{what}: {message}; write an existing key in output.kms_key, and grant "
            "roles/cloudkms.cryptoKeyEncrypterDecrypter on it to the Compute Engine service agent of the project"
        )
    if error := _by_reason(what, message, known):
        return error
    if status == HTTPStatus.NOT_FOUND or known & _ABSENT:
        return NotFound(f"{what}: not found: {message}")
    if status == HTTPStatus.CONFLICT or known & _PRESENT:
        return AlreadyExists(f"{what}: it exists already: {message}")
    if status == HTTPStatus.PRECONDITION_FAILED:
        return Conflict(f"{what}: another writer was first: {message}")
    if status == HTTPStatus.FORBIDDEN or known & _FORBIDDEN:
        return _forbidden(what, message, permission)
    if status == HTTPStatus.UNAUTHORIZED:
        return EnvironmentFault(f"{what}: Google does not know who asks: {message}; check the service account")
    if status in _WAITING_STATUSES or (status >= 500 and status != HTTPStatus.NOT_IMPLEMENTED):
        return Transient(f"{what}: {message}; it can be tried again")
    return Permanent(f"{what}: {message}")


def _by_reason(what: str, message: str, reasons: frozenset[str]) -> GoldsmithError | None:
    """Distinguish errors that share a status with something else."""
    if reasons & _STOCKOUT:
        return Stockout(f"{what}: no such machines are left in this zone at the moment: {message}; name more zones")
    if reasons & _WAIT:
        return Transient(f"{what}: {message}; it can be tried again")
    if reasons & _QUOTA:
        named = _QUOTA_NAME.search(message)
        return Permanent(
            f"{what}: {f'quota {named[1]}' if named else 'a quota'} is used up: {message}; "
            "ask for more at https://console.cloud.google.com/iam-admin/quotas, or delete what is not needed"
        )
    if reasons & _API_OFF:
        return Permanent(f"{what}: an API is not enabled in this project: {message}; `gcloud services enable` does it")
    if reasons & _CONFLICT:
        return Conflict(f"{what}: another writer was first: {message}")
    return None


def _is_policy(status: int, reasons: frozenset[str], message: str) -> bool:
    """Return whether an organization policy refuses; lost updates and bad requests have the same status and reason."""
    shared = status in _REFUSING_STATUSES or reasons & (_CONFLICT | _alike("FAILED_PRECONDITION"))
    return bool(shared and _REFUSED.search(message))


def _policies(message: str, details: str) -> str:
    """Name the policies that refuse, and what to do about each; details may name those that the message does not."""
    names = list(dict.fromkeys(_CONSTRAINT.findall(f"{message} {details}")))
    if not names:
        return f"organization policies that Google does not name forbid it: {message}; {_policy_remedy('')}"
    remedies = "; ".join(dict.fromkeys(_policy_remedy(name) for name in names))
    if len(names) == 1:
        return f"the organization policy {names[0]} forbids it: {message}; {remedies}"
    return f"the organization policies {', '.join(names)} forbid it: {message}; {remedies}"


def _policy_remedy(constraint: str) -> str:
    """Return what to do about a constraint: `constraints/compute.requireShieldedVm`, also as `compute.managed.`."""
    return _REMEDIES.get(constraint.removeprefix("constraints/").replace(".managed.", ".", 1), _ANY_REMEDY)


def _forbidden(what: str, message: str, permission: str) -> Permanent:
    found = _PERMISSION_NAME.search(message)
    name = permission or (found[1] or found[2] if found else "")
    missing = f"permission {name} is missing" if name else "a permission is missing"
    return Permanent(f"{what}: {missing}: {message}; grant it to the service account that runs this")


def _message(error: api.GoogleAPICallError) -> str:
    """Return the message alone; an upload's or a download's error has the whole answer in its place."""
    told = _answer(error).get("message") or _REQUEST.sub("", str(error.message or ""))
    return str(told) or f"{type(error).__name__}, without a word"


def _reasons(error: api.GoogleAPICallError) -> tuple[str, ...]:
    """Collect an error's reasons: ErrorInfo's, gRPC's status, and those of each JSON error."""
    told = [error.reason or "", error.grpc_status_code.name if error.grpc_status_code else ""]
    return (*told, *(str(entry.get("reason", "")) for entry in _errors(error)))


def _errors(error: api.GoogleAPICallError) -> list[Mapping[str, Any]]:
    """Collect the JSON errors that an answer consists of."""
    return [entry for entry in error.errors or _answer(error).get("errors") or () if isinstance(entry, dict)]


def _answer(error: api.GoogleAPICallError) -> Mapping[str, Any]:
    """Return the `error` of a JSON API's answer; empty where there is none."""
    if not isinstance(error.response, requests.Response):
        return {}
    try:
        document = error.response.json()
    except ValueError:
        return {}
    found = document.get("error") if isinstance(document, dict) else None
    return found if isinstance(found, dict) else {}


def _permission(error: api.GoogleAPICallError) -> str:
    return str((error.metadata or {}).get("permission", ""))
