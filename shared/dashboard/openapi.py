"""The OpenAPI document: made of the table of pages and operations that also makes the routes, so that it lacks none."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from flask import Response

from .web.pages import API_PATH, DashboardArea, Operation, Page, Parameter, Schema, areas_here, json_response
from .web.schemas import ANY_OBJECT, TEXT, record
from .web.served import Served

SPECIFICATION = "3.1.0"
DOCUMENT_PATH = f"{API_PATH}/openapi.json"
JSON = "application/json"

_ERROR = record(error=TEXT)
_REFUSALS = {
    "400": "An argument is wrong.",
    "401": "The token is missing: on one machine alone.",
    "404": "There is no such thing.",
    "405": "This is not to be asked so.",
    "421": "Another host is asked: on one machine alone.",
    "500": "A document cannot be read.",
    "503": "It may work later.",
}


def openapi_document(areas: Iterable[DashboardArea]) -> dict[str, Any]:
    """Return what can be asked of the dashboard, in OpenAPI's words."""
    paths: dict[str, dict[str, Any]] = {}
    for area in areas:
        tag = area.title or area.name
        for page in area.pages:
            paths.setdefault(_path(API_PATH + page.path), {})["get"] = _of_page(page, tag)
        for operation in area.operations:
            paths.setdefault(_path(operation.path), {})[operation.method.lower()] = _of_operation(operation, tag)
    return {
        "openapi": SPECIFICATION,
        "info": {"title": "Goldsmith", "version": "1", "description": "What the pages of the dashboard show, as JSON."},
        "paths": paths,
        "components": {"schemas": {"Error": _ERROR}},
    }


def _path(rule: str) -> str:
    """Return the rule of a route as OpenAPI writes it: /builds/{build_id}."""
    return re.sub(r"<(?:[a-z]+:)?([a-z_]+)>", r"{\1}", rule)


def _of_page(page: Page, tag: str) -> dict[str, Any]:
    return _described(page.summary, tag, page.parameters, {200: (JSON, page.schema)})


def _of_operation(operation: Operation, tag: str) -> dict[str, Any]:
    found = _described(operation.summary, tag, operation.parameters, operation.answers)
    if operation.body is not None:
        kind, schema = operation.body
        found["requestBody"] = {"required": True, "content": {kind: {"schema": schema}}}
    return found


def _described(
    summary: str, tag: str, parameters: Iterable[Parameter], answers: Mapping[int, tuple[str, Schema]]
) -> dict[str, Any]:
    responses: dict[str, Any] = {
        status: {"description": text, "content": {JSON: {"schema": {"$ref": "#/components/schemas/Error"}}}}
        for status, text in _REFUSALS.items()
    }
    for status, (kind, schema) in answers.items():
        known = responses.setdefault(str(status), {"description": summary, "content": {}})
        known["content"][kind] = {"schema": schema}
    return {
        "summary": summary,
        "tags": [tag],
        "parameters": [
            {
                "name": each.name,
                "in": each.place,
                "required": each.place == "path",
                "description": each.meaning,
                "schema": each.schema,
            }
            for each in parameters
        ],
        "responses": responses,
    }


def _document(_served: Served) -> Response:
    return json_response(openapi_document(areas_here()))


AREA = DashboardArea(
    name="openapi",
    title="",
    pages=(),
    operations=(
        Operation(
            path=DOCUMENT_PATH,
            summary="This document",
            view=_document,
            answers={200: (JSON, ANY_OBJECT)},
        ),
    ),
)
