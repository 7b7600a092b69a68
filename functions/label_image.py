"""label_image: an order becomes a published image: labels, family, the archive's name."""

from __future__ import annotations

import functions_framework

from .handling import HttpAnswer, HttpRequest
from .orders import handle_order


@functions_framework.http
def label_image(request: HttpRequest) -> HttpAnswer:
    """Take an event of build-orders."""
    return handle_order(request, "label_image")
