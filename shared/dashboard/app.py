"""The application: its areas, what every answer has, and how errors are told.

Pages hold what guests, specs and file names say. Nothing of that is ever markup: templates escape it, and the policy of
each page allows scripts and styles of this application's own files alone.
"""

from __future__ import annotations

import logging

from flask import Flask, Response, request
from jinja2 import StrictUndefined
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from ..errors import DamagedDocument, GoldsmithError, InputError, NotFound, Passing
from .asks import area as asks
from .builds import area as builds
from .health.area import HEALTH
from .images.families import FAMILIES
from .images.image import IMAGES
from .manual.area import MANUAL, manual_html
from .openapi import AREA as OPENAPI
from .pictures.drawn import add_pictures
from .trends.area import TRENDS, dollars_text, trend_charts
from .web.access import Access
from .web.pages import DashboardArea, area_blueprint, html_answer, json_response, wants_html
from .web.served import Served
from .web.streams import StreamSlots, viewer_of
from .web.words import add_words, size_text

LOG = logging.getLogger(__name__)

AREAS: tuple[DashboardArea, ...] = (builds.AREA, FAMILIES, IMAGES, TRENDS, asks.AREA, HEALTH, MANUAL, OPENAPI)
"""In the order of the navigation."""

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)
LARGEST_REQUEST = 64 << 10  # bytes of a body


def make_app(served: Served, access: Access | None = None) -> Flask:
    """Return the WSGI application of a dashboard. With `access` it answers only to those who have its token."""
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = LARGEST_REQUEST
    app.jinja_env.undefined = StrictUndefined
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.extensions["goldsmith"] = AREAS
    app.extensions["goldsmith-streams"] = StreamSlots(served.streams, served.streams_each, viewer_of(served))
    add_words(app, served)
    add_pictures(app, size_text)
    app.jinja_env.globals.update(manual_html=manual_html, trend_charts=trend_charts)
    app.jinja_env.filters["dollars"] = dollars_text
    app.jinja_env.globals["asks_about"] = lambda target: asks.asks_about(served, target)
    if access is not None:
        app.before_request(access.refusal)
    for area in AREAS:
        app.register_blueprint(area_blueprint(area, served))
    app.register_error_handler(GoldsmithError, _told)
    app.register_error_handler(HTTPException, _refused)
    app.after_request(_guarded)
    return app


def _told(error: GoldsmithError) -> Response:
    """Answer what a query raises."""
    known = ((NotFound, 404), (InputError, 400), (DamagedDocument, 500), (Passing, 503))
    status = next((status for kind, status in known if isinstance(error, kind)), 500)
    if status == 500:
        LOG.warning("%s: %s", request.path, error)
    return _error(str(error), status)


def _refused(error: HTTPException) -> Response:
    """Answer what no route takes, and what is not foreseen."""
    if isinstance(error, MethodNotAllowed):
        allowed = ", ".join(sorted({*(error.valid_methods or ())} - {"OPTIONS"}))
        answer = _error(f"{request.method} is not possible here; use {allowed}", 405)
        answer.headers["Allow"] = allowed
        return answer
    status = error.code or 500
    text = f"{request.path} is nothing here; look at /builds" if status == 404 else error.description or ""
    return _error(text, status)


def _error(text: str, status: int) -> Response:
    if wants_html():
        return html_answer("error.html", {"status": status, "text": text}, status)
    return json_response({"error": text}, status)


def _guarded(answer: Response) -> Response:
    answer.headers["Content-Security-Policy"] = POLICY
    answer.headers["X-Content-Type-Options"] = "nosniff"
    answer.headers.setdefault("Referrer-Policy", "no-referrer")
    answer.headers["Cross-Origin-Opener-Policy"] = "same-origin"
    answer.headers["Cross-Origin-Resource-Policy"] = "same-origin"
    answer.headers.setdefault("Vary", "Accept")
    if request.endpoint != "static":
        answer.headers["Cache-Control"] = "no-store"
    return answer
