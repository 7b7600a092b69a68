"""The JSON API's buckets."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, jsonify, request

from .rest.failures import invalid
from .rest.request_body import json_body
from .service import Service

_SETTABLE = ("location", "storageClass", "labels", "lifecycle", "versioning", "iamConfiguration", "softDeletePolicy")
_PROJECT_NUMBER = "100000000000"


def buckets(service: Service) -> Blueprint:
    """Return the routes of buckets."""
    routes = Blueprint("buckets", __name__)

    @routes.post("/storage/v1/b")
    def create_bucket() -> Response:
        document = json_body(request)
        settings = {key: document[key] for key in _SETTABLE if key in document}
        return jsonify(_resource(service.store.create_bucket(document.get("name"), settings)))

    @routes.get("/storage/v1/b")
    def list_buckets() -> Response:
        prefix = request.args.get("prefix", "")
        found = [_resource(one) for one in service.store.buckets() if one["name"].startswith(prefix)]
        return jsonify({"kind": "storage#buckets", "items": found})

    @routes.get("/storage/v1/b/<name:bucket>")
    def get_bucket(bucket: str) -> Response:
        if not bucket:
            raise invalid("Required parameter: bucket")
        return jsonify(_resource(service.store.bucket(bucket)))

    @routes.delete("/storage/v1/b/<name:bucket>")
    def delete_bucket(bucket: str) -> Response:
        service.store.delete_bucket(bucket)
        return Response(status=204)

    @routes.get("/storage/v1/b/<name:bucket>/storageLayout")
    def get_storage_layout(bucket: str) -> Response:  # `gcloud storage mv` asks whether there are folders
        found = _resource(service.store.bucket(bucket))
        layout = {"kind": "storage#storageLayout", "bucket": bucket, "hierarchicalNamespace": {"enabled": False}}
        return jsonify(layout | {key: found[key] for key in ("location", "locationType")})

    @routes.get("/storage/v1/b/<name:bucket>/managedFolders")
    def list_managed_folders(bucket: str) -> Response:  # `gcloud storage rm -r` asks for them; there are none
        service.store.bucket(bucket)
        return jsonify({"kind": "storage#managedFolders"})

    return routes


def _resource(bucket: dict[str, Any]) -> dict[str, Any]:
    base = request.host_url.rstrip("/")
    uniform = {"uniformBucketLevelAccess": {"enabled": True}, "publicAccessPrevention": "enforced"}
    return {
        "kind": "storage#bucket",
        "id": bucket["name"],
        "selfLink": f"{base}/storage/v1/b/{bucket['name']}",
        "projectNumber": _PROJECT_NUMBER,
        "location": "US-CENTRAL1",
        "locationType": "region",
        "storageClass": "STANDARD",
        "iamConfiguration": uniform,
        "updated": bucket["timeCreated"],
        "etag": "CAE=",
        **bucket,
    }
