"""export_image: an order becomes an image of the build VM's disk and, where one is asked for, an archive."""

from __future__ import annotations

import functions_framework

from .handling import HttpAnswer, HttpRequest
from .orders import handle_order


@functions_framework.http
def export_image(request: HttpRequest) -> HttpAnswer:
    """Take an event of build-orders."""
    return handle_order(request, "export_image")
