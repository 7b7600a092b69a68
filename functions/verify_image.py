"""verify_image: an order becomes a VM booted from the new image."""

from __future__ import annotations

import functions_framework

from .handling import HttpAnswer, HttpRequest
from .orders import handle_order


@functions_framework.http
def verify_image(request: HttpRequest) -> HttpAnswer:
    """Take an event of build-orders."""
    return handle_order(request, "verify_image")
