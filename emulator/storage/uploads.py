"""Uploads: the bytes alone (uploadType=media), with metadata (multipart), or in a session (resumable)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from flask import Blueprint, Response, jsonify, request

from .kept.preconditions import preconditions
from .kept.staged_data import Sums, sums_of
from .kept.stored_object import StoredObject, checked_name
from .rest.failures import invalid
from .rest.multipart import MultipartUpload, boundary_of
from .rest.request_body import Body, json_object
from .resumable import Sessions, described
from .service import Service, resource

_PLACES = ("/upload/storage/v1/b/<name:bucket>/o", "/resumable/upload/storage/v1/b/<name:bucket>/o")


def uploads(service: Service) -> Blueprint:
    """Return the routes of uploads."""
    routes = Blueprint("uploads", __name__)
    sessions = Sessions(service)

    def upload_object(bucket: str) -> Response:
        service.store.bucket(bucket)
        kind = request.args.get("uploadType", "")
        if kind == "resumable":
            return sessions.start(request, bucket)
        if kind == "media":
            return jsonify(resource(_media(service, bucket)))
        if kind == "multipart":
            return jsonify(resource(_multipart(service, bucket)))
        raise invalid(f"Invalid value for uploadType: {kind!r} is none of media, multipart, resumable")

    def continue_upload(bucket: str) -> Response:
        return sessions.put(request, bucket)

    def cancel_upload(bucket: str) -> Response:
        return sessions.cancel(request, bucket)

    for place in _PLACES:
        routes.add_url_rule(place, view_func=upload_object, methods=["POST"])
        routes.add_url_rule(place, view_func=continue_upload, methods=["PUT"])
        routes.add_url_rule(place, view_func=cancel_upload, methods=["DELETE"])
    return routes


def _media(service: Service, bucket: str) -> StoredObject:
    name = checked_name(request.args.get("name"))
    settings = {"contentType": request.headers.get("Content-Type", "application/octet-stream")}
    if "contentEncoding" in request.args:
        settings["contentEncoding"] = request.args["contentEncoding"]
    return _store(service, bucket, name, settings, Body(request).blocks(), sums_of({}, request.headers))


def _multipart(service: Service, bucket: str) -> StoredObject:
    body = MultipartUpload(Body(request).blocks(), boundary_of(request.headers.get("Content-Type", "")))
    document = json_object(body.metadata)
    name, settings = described(request, document, body.content_type)
    return _store(service, bucket, name, settings, body.data(), sums_of(document, request.headers))


def _store(
    service: Service, bucket: str, name: str, settings: dict[str, Any], blocks: Iterator[bytes], sums: Sums
) -> StoredObject:
    with service.store.stage() as staged:
        for block in blocks:
            staged.append(block)
        return service.finish(staged, bucket, name, settings, preconditions(request.args), sums)
