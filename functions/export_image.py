"""export_image: an order becomes an image of the build VM's disk and, where one is asked for, an archive."""

from __future__ import annotations

import functions_framework

from .handling import CloudEvent
from .orders import handle_order


@functions_framework.cloud_event
def export_image(event: CloudEvent) -> None:
    """Take an event of build-orders."""
    handle_order(event, "export_image")
