"""start_build: an uploaded spec, or a request of another pipeline or a schedule, becomes a build.

So does what has waited for a build of the same workflow that has finished.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

import functions_framework

from shared.errors import InputError, NotFound, PoisonMessage
from shared.ports import Message
from shared.submission import is_spec
from shared.topology import FINALIZED, FINISHED_TOPIC, PEOPLE_TOPIC, UPLOADS_TOPIC

from . import log
from .handling import MESSAGE_PUBLISHED, CloudEvent, HttpAnswer, HttpRequest, handle, message_of

if TYPE_CHECKING:
    from shared.backend import Backend
    from shared.build.build import Build
    from shared.intake.intake import Intake
    from shared.runtime.opening import CloudBackend

LOG = logging.getLogger(__name__)

TRACEPARENT = "traceparent"  # attribute of a request
EVENTARC = "google.cloud.storage.object.v1.finalized"


@functions_framework.http
def start_build(request: HttpRequest) -> HttpAnswer:
    """Take a message of specs-uploaded, build-requests, people-requests or builds-finished, or an event of Eventarc."""
    return handle(request, _start)


def _start(event: CloudEvent, backend: CloudBackend) -> None:
    if event.type == MESSAGE_PUBLISHED:
        message, message_id = message_of(event)
        builds = _taken(message, message_id, backend)
    else:
        builds = _uploaded(_object_of_event(event), backend)
    for build in builds:
        log.set_build(build.id)
        LOG.info("build %s is %s%s", build.id, build.state, f": {build.reason}" if build.reason else "")


def _taken(message: Message, message_id: str, backend: CloudBackend) -> tuple[Build, ...]:
    """Take an upload, a request, or the word that a build has finished, of which the store alone says how."""
    if message.topic == UPLOADS_TOPIC:
        return _uploaded(_object_of_notification(message.attributes), backend)
    if message.topic == PEOPLE_TOPIC:
        return _retried(message.data, backend)
    if message.topic != FINISHED_TOPIC:
        return _intake(backend).published(message.data, message_id, message.attributes.get(TRACEPARENT, ""))
    try:
        return _intake(backend).finished(message.attributes.get("build_id", ""))
    except NotFound as error:
        raise PoisonMessage(f"a finished build that there is not: {error}") from error


def _retried(data: bytes, backend: CloudBackend) -> tuple[Build, ...]:
    """Retry a build for a person who asks for that."""
    from shared.people.take import take_person_request
    from shared.person_requests import PersonRequest, read_asked

    begun: list[Build] = []

    def retry(asked: PersonRequest, _backend: Backend) -> str:
        begun.extend(_intake(backend).published(json.dumps({"retry": asked.target}).encode(), f"person {asked.id}"))
        [build] = begun
        if build.retry_of != asked.target:
            raise InputError(build.reason)
        return f"build {build.id} goes on with it"

    take_person_request(read_asked(data), {"retry": retry}, backend)
    return tuple(begun)


def _uploaded(found: tuple[str, str, str], backend: CloudBackend) -> tuple[Build, ...]:
    """Take an object by bucket, name and generation. PoisonMessage for another bucket's."""
    bucket, name, generation = found
    if bucket != backend.settings.bucket:
        raise PoisonMessage(f"an object of bucket {bucket}, and this deployment's is {backend.settings.bucket}")
    return _intake(backend).uploaded(name, generation) if is_spec(name) else ()


def _object_of_notification(attributes: Mapping[str, str]) -> tuple[str, str, str]:
    """Read which object Cloud Storage tells of; what the message carries besides counts for nothing. PoisonMessage."""
    bucket, name, generation = (attributes.get(key, "") for key in ("bucketId", "objectId", "objectGeneration"))
    if attributes.get("eventType") != FINALIZED or not _is_generation(generation):
        raise PoisonMessage(f"a notification of {attributes.get('eventType')} that tells of no object that was written")
    return bucket, name, generation


def _object_of_event(event: CloudEvent) -> tuple[str, str, str]:
    """Read the same of an event of Eventarc, which calls until the release before has been upgraded. PoisonMessage."""
    data = event.data
    if event.type != EVENTARC or not isinstance(data, dict):
        raise PoisonMessage(f"an event of type {event.type} that tells of no object")
    bucket, name, generation = (data.get(key) for key in ("bucket", "name", "generation"))
    if not isinstance(bucket, str) or not isinstance(name, str) or not _is_generation(str(generation)):
        raise PoisonMessage(f"an event of type {event.type} that names no object")
    return bucket, name, str(generation)


def _is_generation(text: str) -> bool:
    return text.isascii() and text.isdecimal()


def _intake(backend: CloudBackend) -> Intake:
    """Return the intake, whose imports take longer than all others; other functions need none of them."""
    from shared.intake.intake import Intake

    return Intake(backend, backend.objects, backend.settings)
