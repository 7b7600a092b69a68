"""Requests to retry a build: {"retry": "BUILD", "from": "verify"}. They name a build and a phase, and nothing else.

What the retry does is what the first build's spec has asked for: its plan is that build's, held to the limits of the
deployment as they are now. So it is of no matter who asks.

    message 1   ask_for_retry ── create(retry, if the image is still the first build's) ──► result of message 1
    message 2   ask_for_retry ── the retry is there, and its result is another's ──► rejected, in words
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from ..backend import Backend
from ..build.build import Build
from ..build.events import BuildRequested
from ..build.identity import is_build_id, request_digest
from ..build.limits import check_limits
from ..build.plan import Plan
from ..errors import InputError, NotFound, PoisonMessage
from ..names import quoted
from ..ownership import find_build
from ..planning.retries import ask_for_retry, retry_id
from ..ports import Objects
from ..submission import result_uri
from .places import Deployment, kept_as_deployed
from .request import PUBLISHED, SUFFIX_DIGITS
from .workflow import Wanted

RETRY, FROM = "retry", "from"
NAME = "retry"  # of a rejected request that names no build that there is
LARGEST_MESSAGE = 4096  # bytes


@dataclass(frozen=True)
class RetryRequest:
    """A message that asks for a retry. The values are unchecked."""

    first: str
    start: Any  # should be a phase; None: the one that failed
    unknown: str  # a key that such a request cannot have
    wanted: Wanted  # what becomes of it where it is rejected; its result is that of the retry, too


def named_retry(data: bytes, message_id: str, bucket: str, backend: Backend) -> RetryRequest | None:
    """Return the retry that a message asks for; None for any other message. PoisonMessage where it names no build."""
    try:
        document = json.loads(data) if len(data) <= LARGEST_MESSAGE else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or RETRY not in document:
        return None
    first = document[RETRY]
    if not isinstance(first, str) or not first:
        raise PoisonMessage('a request to retry that names no build; write {"retry": "BUILD", "from": "verify"}')
    unknown = next(iter(sorted(set(document) - {RETRY, FROM})), "")
    found = find_build(first, backend) if is_build_id(first) else None
    return RetryRequest(first, document.get(FROM), unknown, wanted_retry(first, found, message_id, bucket))


def wanted_retry(first: str, found: Build | None, message_id: str, bucket: str) -> Wanted:
    """Return what becomes of a request that is rejected. A person's command finds it by the id of the message."""
    name = found.name if found is not None else NAME
    asked = f"message {message_id}"
    place = f"{NAME}-of-{found.id}" if found is not None else NAME
    digest = request_digest(f"{RETRY} {first} {asked}")[:SUFFIX_DIGITS]
    return Wanted(name, asked, result_uri(bucket, place, f"{digest}{PUBLISHED.removesuffix('.json')}"))


def begun_retry(request: RetryRequest, backend: Backend) -> Build | None:
    """Return the retry that another delivery of the same message has begun. DamagedDocument."""
    first = _find(request.first, backend)
    begun = _find(retry_id(first), backend) if first is not None else None
    asked = None if begun is None else (begun.retry_of, begun.result)
    return begun if asked == (request.first, request.wanted.result) else None


def planned_retry(request: RetryRequest, backend: Backend, objects: Objects, here: Deployment) -> BuildRequested:
    """Return the event that asks for the retry. InputError.

    Also EnvironmentFault where the deployment is busy, and whatever keeps the first build from being read.
    """
    if request.unknown:
        raise InputError(f"{quoted(request.unknown)} is no key of a request to retry; write {RETRY} and {FROM}")
    if request.start is not None and not isinstance(request.start, str):
        raise InputError(f"{FROM}: is no text; leave it out, or name an earlier phase than the one that failed")
    first = _find(request.first, backend)
    if first is None:
        raise InputError(f"there is no build {quoted(request.first)}; name one by its whole id")
    if first.plan is not None:
        first = replace(first, plan=_as_deployed(first.plan, here))
    event = ask_for_retry(first, request.start, backend)
    _refuse_without_context(event, objects)
    return replace(event, result=request.wanted.result)


def refuse_second(request: RetryRequest, begun: Build) -> None:
    """Raise InputError where another request has begun the retry since we have looked."""
    if begun.result != request.wanted.result:
        raise InputError(f"build {request.first} was retried already, at another request, by build {begun.id}")


def _as_deployed(plan: Plan, here: Deployment) -> Plan:
    """Return a plan within what the deployment wants as it is now. InputError."""
    machine = replace(plan.machine, secure_boot=plan.machine.secure_boot or here.secure_boot)
    plan = kept_as_deployed(replace(plan, machine=machine), here.limits)
    check_limits(plan, here.limits)
    return plan


def _refuse_without_context(event: BuildRequested, objects: Objects) -> None:
    """Raise InputError where the verifying VM could not get the files of the context."""
    context = event.plan.context if event.verify_again and event.plan.verify_steps is not None else None
    if context is not None and objects.stat(context.uri) is None:
        raise InputError(
            f"the context of build {event.retry_of} is gone, and its verify steps need it: {context.uri}; build its "
            "spec again"
        )


def _find(build_id: str, backend: Backend) -> Build | None:
    """Return a build by its whole id. DamagedDocument."""
    if not is_build_id(build_id):
        return None
    try:
        return backend.store.load(build_id).build
    except NotFound:
        return None
