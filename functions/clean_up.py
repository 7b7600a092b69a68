"""clean_up: an order becomes the deletion of all that a build has made and nobody keeps."""

from __future__ import annotations

import functions_framework

from .handling import CloudEvent
from .orders import handle_order


@functions_framework.cloud_event
def clean_up(event: CloudEvent) -> None:
    """Take an event of build-orders."""
    handle_order(event, "clean_up")
