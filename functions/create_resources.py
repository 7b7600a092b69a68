"""create_resources: an order becomes a build VM with its boot disk."""

from __future__ import annotations

import functions_framework

from .handling import CloudEvent
from .orders import handle_order


@functions_framework.cloud_event
def create_resources(event: CloudEvent) -> None:
    """Take an event of build-orders."""
    handle_order(event, "create_resources")
