"""grow_disk: an order becomes a larger boot disk of a VM that waits for it."""

from __future__ import annotations

import functions_framework

from .handling import CloudEvent
from .orders import handle_order


@functions_framework.cloud_event
def grow_disk(event: CloudEvent) -> None:
    """Take an event of build-orders."""
    handle_order(event, "grow_disk")
