"""Objects made of other objects: compose, copyTo, rewriteTo."""

from __future__ import annotations

from typing import Any, BinaryIO

from flask import Blueprint, Response, jsonify, request

from .kept.preconditions import Preconditions, number, preconditions
from .kept.stored_object import StoredObject, checked_name, settings_of, without_nulls
from .rest.failures import invalid
from .rest.request_body import BLOCK, json_body
from .service import Service, resource

_MOST_SOURCES = 32  # of one compose
_OBJECT = "/storage/v1/b/<name:bucket>/o/<name:key>"
_TARGET = "/b/<name:to_bucket>/o/<name:to_key>"


def copies(service: Service) -> Blueprint:
    """Return the routes that make objects of objects."""
    routes = Blueprint("copies", __name__)

    @routes.post(f"{_OBJECT}/compose")
    def compose_object(bucket: str, key: str) -> Response:
        return jsonify(resource(_compose(service, bucket, key)))

    @routes.post(f"{_OBJECT}/copyTo{_TARGET}")
    def copy_object(bucket: str, key: str, to_bucket: str, to_key: str) -> Response:
        return jsonify(resource(_copy(service, (bucket, key), (to_bucket, to_key))))

    @routes.post(f"{_OBJECT}/rewriteTo{_TARGET}")
    def rewrite_object(bucket: str, key: str, to_bucket: str, to_key: str) -> Response:
        copied = _copy(service, (bucket, key), (to_bucket, to_key))
        return jsonify(
            {
                "kind": "storage#rewriteResponse",
                "totalBytesRewritten": str(copied.size),
                "objectSize": str(copied.size),
                "done": True,  # at once, as Google's is within one location and storage class
                "resource": resource(copied),
            }
        )

    return routes


def _copy(service: Service, source: tuple[str, str], target: tuple[str, str]) -> StoredObject:
    settings = without_nulls(settings_of(json_body(request)))
    bucket, name = target[0], checked_name(target[1])
    generation = number(request.args, "sourceGeneration")
    found = service.store.get(*source, generation, preconditions(request.args, "ifSource"))
    copied = service.store.copy(found, bucket, name, settings or found.settings, preconditions(request.args))
    service.announce(copied)
    return copied


def _compose(service: Service, bucket: str, name: str) -> StoredObject:
    document = json_body(request)
    wanted = document.get("sourceObjects")
    if not isinstance(wanted, list) or not 0 < len(wanted) <= _MOST_SOURCES:
        raise invalid(f"The number of source components provided must be from 1 to {_MOST_SOURCES}.")
    destination = document.get("destination") or {}
    if not isinstance(destination, dict):
        raise invalid("destination: an object is needed")
    settings = without_nulls(settings_of(destination))
    components = 0
    with service.store.stage() as staged:
        for source in wanted:
            found, file = _open(service, bucket, source)
            components += max(1, found.component_count)
            with file:
                while block := file.read(BLOCK):
                    staged.append(block)
        composed = service.store.commit(
            staged, bucket, checked_name(name), settings, preconditions(request.args), component_count=components
        )
    service.announce(composed)
    return composed


def _open(service: Service, bucket: str, source: Any) -> tuple[StoredObject, BinaryIO]:
    if not isinstance(source, dict) or not isinstance(source.get("name"), str):
        raise invalid("sourceObjects[]: an object with a name is needed")
    generation = source.get("generation")
    demanded = source.get("objectPreconditions") or {}
    if not isinstance(demanded, dict):
        raise invalid("sourceObjects[].objectPreconditions: an object is needed")
    match = demanded.get("ifGenerationMatch")
    return service.store.open(
        bucket,
        source["name"],
        number({"generation": str(generation)}, "generation") if generation is not None else None,
        Preconditions(generation_match=number({"match": str(match)}, "match") if match is not None else None),
    )
