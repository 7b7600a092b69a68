"""deprecate_images: an order becomes the deprecation of a family's older images."""

from __future__ import annotations

import functions_framework

from .handling import CloudEvent
from .orders import handle_order


@functions_framework.cloud_event
def deprecate_images(event: CloudEvent) -> None:
    """Take an event of build-orders."""
    handle_order(event, "deprecate_images")
