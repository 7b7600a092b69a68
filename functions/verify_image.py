"""verify_image: an order becomes a VM booted from the new image."""

from __future__ import annotations

import functions_framework

from .handling import CloudEvent
from .orders import handle_order


@functions_framework.cloud_event
def verify_image(event: CloudEvent) -> None:
    """Take an event of build-orders."""
    handle_order(event, "verify_image")
