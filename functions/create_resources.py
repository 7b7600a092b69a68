"""create_resources: an order becomes a build VM with its boot disk."""

from __future__ import annotations

import functions_framework

from .handling import HttpAnswer, HttpRequest
from .orders import handle_order


@functions_framework.http
def create_resources(request: HttpRequest) -> HttpAnswer:
    """Take an event of build-orders."""
    return handle_order(request, "create_resources")
