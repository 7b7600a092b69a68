"""Pages as data: an address, the query that reads what it shows, its template, and the schema of its JSON.

A query returns a plain document. The page renders it as HTML, and below /api it is the answer as it is. Each area has
one blueprint, with its pages and with operations, which are answered in another way.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from flask import Blueprint, Response, current_app, render_template, request

from .served import Served

API_PATH = "/api"

PageDocument = dict[str, Any]
Query = Callable[..., PageDocument]
"""Called with what is served, the arguments of the address, and by name what its path holds."""

Schema = Mapping[str, Any]


@dataclass(frozen=True)
class Parameter:
    """A parameter of an address, with its JSON Schema."""

    name: str
    meaning: str
    schema: Schema
    place: Literal["query", "path"] = "query"


@dataclass(frozen=True, kw_only=True)
class Page:
    """A page, and the same below /api as JSON."""

    path: str  # as Flask's rules have it: /builds/<build_id>
    summary: str
    query: Query
    template: str
    schema: Schema  # of the document
    parameters: tuple[Parameter, ...] = ()
    also: tuple[str, ...] = ()  # further addresses of the page
    plain: Query | None = None  # what the page's own address answers to programs; None: the document


@dataclass(frozen=True, kw_only=True)
class Operation:
    """What is answered neither as a page nor by its document: a download, a live answer, a change."""

    path: str
    summary: str
    view: Callable[..., Response]  # called with what is served, and by name what the path holds
    answers: Mapping[int, tuple[str, Schema]]  # by status: media type and schema
    method: Literal["GET", "POST"] = "GET"
    parameters: tuple[Parameter, ...] = ()
    body: tuple[str, Schema] | None = None  # of a request: media type and schema


@dataclass(frozen=True, kw_only=True)
class DashboardArea:
    """A part of the dashboard: one entry of the navigation, and one blueprint."""

    name: str
    title: str  # in the navigation; "" for none
    pages: tuple[Page, ...]
    operations: tuple[Operation, ...] = ()

    @property
    def path(self) -> str:
        """Return the address of its first page."""
        return self.pages[0].path


def area_blueprint(area: DashboardArea, served: Served) -> Blueprint:
    """Return the blueprint that answers an area's addresses."""
    blueprint = Blueprint(area.name, __name__)
    for number, page in enumerate(area.pages):
        for other, path in enumerate((page.path, *page.also)):
            _add(blueprint, path, f"page{number}_{other}", partial(_page, page, served))
        _add(blueprint, API_PATH + page.path, f"json{number}", partial(_document, page.query, served))
    for number, operation in enumerate(area.operations):
        view = partial(operation.view, served)
        _add(blueprint, operation.path, f"operation{number}", view, operation.method)
    return blueprint


def _add(blueprint: Blueprint, path: str, endpoint: str, view: Callable[..., Response], method: str = "GET") -> None:
    blueprint.add_url_rule(
        path, endpoint, view, methods=[method], strict_slashes=False, provide_automatic_options=False
    )


def _page(page: Page, served: Served, **values: str) -> Response:
    if not wants_html():
        return _document(page.plain or page.query, served, **values)
    return html_answer(page.template, page.query(served, request.args, **values))


def _document(query: Query, served: Served, **values: str) -> Response:
    return json_response(query(served, request.args, **values))


def wants_html() -> bool:
    """Return whether the request is a browser's: programs such as curl accept anything, and get JSON."""
    if request.path == API_PATH or request.path.startswith(API_PATH + "/"):
        return False
    accepted = request.accept_mimetypes
    asked = [quality for kind, quality in accepted if kind in ("text/html", "application/xhtml+xml")]
    return bool(asked) and max(asked) >= max(
        [quality for kind, quality in accepted if kind == "application/json"], default=0
    )


def html_answer(template: str, document: Mapping[str, Any], status: int = 200) -> Response:
    """Return a document as a page."""
    return Response(render_template(template, document=document, **document), status, mimetype="text/html")


def json_response(document: Mapping[str, Any], status: int = 200) -> Response:
    """Return a document as JSON."""
    return Response(json.dumps(document) + "\n", status, mimetype="application/json")


def areas_here() -> Sequence[DashboardArea]:
    """Return the areas of the application that answers."""
    found: Sequence[DashboardArea] = current_app.extensions["goldsmith"]
    return found
