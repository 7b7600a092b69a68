"""deprecate_images: an order becomes the deprecation of a family's older images."""

from __future__ import annotations

import functions_framework

from .handling import HttpAnswer, HttpRequest
from .orders import handle_order


@functions_framework.http
def deprecate_images(request: HttpRequest) -> HttpAnswer:
    """Take an event of build-orders."""
    return handle_order(request, "deprecate_images")
