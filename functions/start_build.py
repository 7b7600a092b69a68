"""start_build: an uploaded spec, or a request of another pipeline or a schedule, becomes a build.

So does what has waited for a build of the same workflow that has finished.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import functions_framework

from shared.errors import NotFound, PoisonMessage
from shared.orders import FINISHED_TOPIC
from shared.ports import Message
from shared.submission import is_spec

from . import log
from .handling import MESSAGE_PUBLISHED, CloudEvent, handle, message_of

if TYPE_CHECKING:
    from shared.build import Build
    from shared.factory import CloudFactory
    from shared.intake import Intake

LOG = logging.getLogger(__name__)

FINALIZED = "google.cloud.storage.object.v1.finalized"


@functions_framework.cloud_event
def start_build(event: CloudEvent) -> None:
    """Take an event of the bucket, where any object may have been written, of build-requests or of builds-finished."""
    handle(event, _start)


def _start(event: CloudEvent, factory: CloudFactory) -> None:
    if event["type"] == MESSAGE_PUBLISHED:
        message, message_id = message_of(event)
        builds = _taken(message, message_id, factory)
    else:
        name, generation = _object(event, factory.settings.bucket)
        if not is_spec(name):
            return
        builds = _intake(factory).uploaded(name, generation)
    for build in builds:
        log.set_build(build.id)
        LOG.info("build %s is %s%s", build.id, build.state, f": {build.reason}" if build.reason else "")


def _taken(message: Message, message_id: str, factory: CloudFactory) -> tuple[Build, ...]:
    """Take a request, or the word that a build has finished, of which the store alone says how."""
    if message.topic != FINISHED_TOPIC:
        return _intake(factory).published(message.data, message_id)
    try:
        return _intake(factory).finished(message.attributes.get("build_id", ""))
    except NotFound as error:
        raise PoisonMessage(f"a finished build that there is not: {error}") from error


def _object(event: CloudEvent, bucket: str) -> tuple[str, str]:
    """Give an object's name and generation. PoisonMessage."""
    data = event.get_data()
    if event["type"] != FINALIZED or not isinstance(data, dict):
        raise PoisonMessage(f"an event of type {event['type']} that tells of no object")
    found, name, generation = (data.get(key) for key in ("bucket", "name", "generation"))
    if found != bucket or not isinstance(name, str) or not str(generation).isdecimal():
        raise PoisonMessage(f"an event of bucket {found}, and this deployment's is {bucket}")
    return name, str(generation)


def _intake(factory: CloudFactory) -> Intake:
    """Give what takes requests: its imports take longer than those of all else, and nine functions need none of it."""
    from shared.intake import Intake

    return Intake(factory, factory.objects, factory.settings)
