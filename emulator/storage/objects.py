"""The JSON API's objects, but for their bytes: metadata, listing, deletion."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from flask import Blueprint, Response, jsonify, request

from .kept.preconditions import number, preconditions
from .kept.stored_object import patched, settings_of, without_nulls
from .rest.failures import invalid
from .rest.request_body import json_body
from .service import Service, resource

_MOST_RESULTS = 1000  # a page, as Google's
_UNSUPPORTED = ("matchGlob", "softDeleted", "filter")


def objects(service: Service) -> Blueprint:
    """Return the routes of objects."""
    routes = Blueprint("objects", __name__)
    store = service.store

    @routes.get("/storage/v1/b/<name:bucket>/o")
    def list_objects(bucket: str) -> Response:
        return jsonify(_page(service, bucket, request.args))

    @routes.patch("/storage/v1/b/<name:bucket>/o/<name:key>")
    def patch_object(bucket: str, key: str) -> Response:
        patch = settings_of(json_body(request))
        demands = preconditions(request.args)
        generation = number(request.args, "generation")
        changed = store.update(bucket, key, lambda old: patched(old, patch), generation, demands)
        return jsonify(resource(changed))

    @routes.put("/storage/v1/b/<name:bucket>/o/<name:key>")
    def update_object(bucket: str, key: str) -> Response:
        settings = without_nulls(settings_of(json_body(request)))
        demands = preconditions(request.args)
        generation = number(request.args, "generation")
        return jsonify(resource(store.update(bucket, key, lambda _: settings, generation, demands)))

    @routes.delete("/storage/v1/b/<name:bucket>/o/<name:key>")
    def delete_object(bucket: str, key: str) -> Response:
        store.delete(bucket, key, number(request.args, "generation"), preconditions(request.args))
        return Response(status=204)

    return routes


def _page(service: Service, bucket: str, query: Mapping[str, str]) -> dict[str, Any]:
    """Return one page of a listing: names that share a prefix up to the delimiter are, and count as, one entry."""
    for parameter in _UNSUPPORTED:
        if parameter in query:
            raise invalid(f"{parameter} is not served by the emulator.")
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    most = min(number(query, "maxResults") or _MOST_RESULTS, _MOST_RESULTS)
    start, end, after = query.get("startOffset", ""), query.get("endOffset"), _position(query.get("pageToken", ""))
    items: list[dict[str, Any]] = []
    prefixes: list[str] = []
    last = after
    for one in service.store.list(bucket, prefix):
        if one.name < start or (end is not None and one.name >= end):
            continue
        stop = one.name.find(delimiter, len(prefix)) if delimiter else -1
        entry = one.name if stop < 0 else one.name[: stop + len(delimiter)]
        if entry <= after or (prefixes and entry == prefixes[-1]):
            continue
        if len(items) + len(prefixes) == most:
            return _answer(items, prefixes) | {"nextPageToken": _token(last)}
        if stop >= 0:
            prefixes.append(entry)
        if stop < 0 or (query.get("includeTrailingDelimiter", "").lower() == "true" and entry == one.name):
            items.append(resource(one))
        last = entry
    return _answer(items, prefixes)


def _answer(items: list[dict[str, Any]], prefixes: list[str]) -> dict[str, Any]:
    answer: dict[str, Any] = {"kind": "storage#objects"}
    if items:
        answer["items"] = items
    if prefixes:
        answer["prefixes"] = prefixes
    return answer


def _token(entry: str) -> str:
    return base64.urlsafe_b64encode(entry.encode()).decode("ascii")


def _position(token: str) -> str:
    try:
        return base64.urlsafe_b64decode(token.encode("ascii")).decode()
    except (binascii.Error, UnicodeError) as error:
        raise invalid("Invalid value for pageToken") from error
