"""label_image: an order becomes a published image: labels, family, the archive's name."""

from __future__ import annotations

import functions_framework

from .handling import CloudEvent
from .orders import handle_order


@functions_framework.cloud_event
def label_image(event: CloudEvent) -> None:
    """Take an event of build-orders."""
    handle_order(event, "label_image")
