"""deprecate_images: an order becomes the deprecation of a family's older images.

What operators ask for images is done here as well: the end of a bad one, and the copy of a good one in a channel, which
its approvers may have to want.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import functions_framework

from shared.topology import IMAGES_TOPIC, PEOPLE_TOPIC

from .handling import CloudEvent, HttpAnswer, HttpRequest, handle, message_of
from .orders import carry_out_message

if TYPE_CHECKING:
    from shared.runtime.opening import CloudBackend

LOG = logging.getLogger(__name__)


@functions_framework.http
def deprecate_images(request: HttpRequest) -> HttpAnswer:
    """Take an event of build-orders, of image-requests or of people-requests."""
    return handle(request, _work)


def _work(event: CloudEvent, backend: CloudBackend) -> None:
    message, message_id = message_of(event)
    if message.topic == PEOPLE_TOPIC:
        _take(message.data, backend)
        return
    if message.topic != IMAGES_TOPIC:
        carry_out_message(message, "deprecate_images", backend)
        return
    from shared.published.image_requests import shown_result, take_image_request

    settings = backend.settings
    users = backend.image_users
    done = take_image_request(message.data, settings.project, backend, settings.limits, message=message_id, users=users)
    LOG.info("%s", shown_result(done))


def _take(data: bytes, backend: CloudBackend) -> None:
    """Take what a person asks for."""
    from shared.people.acts import image_acts
    from shared.people.take import take_person_request
    from shared.person_requests import read_asked
    from shared.published.cascade import ask_for_rebuilds
    from shared.published.image_requests import revoked_with_users
    from shared.published.revocation import RevokedImage

    def with_users(revoked: RevokedImage) -> RevokedImage:
        settings = backend.settings
        return revoked_with_users(revoked, settings.project, settings.limits, backend.image_users, backend)

    take_person_request(read_asked(data), image_acts(with_users, ask_for_rebuilds), backend)
