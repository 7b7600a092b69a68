"""An object's metadata or its bytes, whole or a range of them."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from email.utils import formatdate
from typing import BinaryIO

from flask import Blueprint, Request, Response, jsonify, request

from .kept.preconditions import number, preconditions
from .kept.stored_object import StoredObject
from .rest.failures import ApiError
from .rest.request_body import BLOCK
from .service import Service, resource

_RANGE = re.compile(r"bytes=(?:([0-9]{1,18})-([0-9]{1,18})?|-([0-9]{1,18}))")
_HEADER_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SENT_AS_SET = {
    "contentDisposition": "Content-Disposition",
    "contentLanguage": "Content-Language",
    "cacheControl": "Cache-Control",
}


def downloads(service: Service) -> Blueprint:
    """Return the routes that read an object."""
    routes = Blueprint("downloads", __name__)

    @routes.get("/storage/v1/b/<name:bucket>/o/<name:key>")
    def get_object(bucket: str, key: str) -> Response:
        generation, demands = number(request.args, "generation"), preconditions(request.args)
        if request.args.get("alt") == "media":
            return media(request, *service.store.open(bucket, key, generation, demands))
        return jsonify(resource(service.store.get(bucket, key, generation, demands)))

    @routes.get("/download/storage/v1/b/<name:bucket>/o/<name:key>")
    def download_object(bucket: str, key: str) -> Response:
        generation, demands = number(request.args, "generation"), preconditions(request.args)
        return media(request, *service.store.open(bucket, key, generation, demands))

    return routes


def media(request: Request, one: StoredObject, file: BinaryIO) -> Response:
    """Send an object's bytes, in blocks; the file is closed when they are sent or no longer wanted.

    An object of contentEncoding gzip is unpacked for a client that does not take gzip, and then has no ranges.
    """
    if one.settings.get("contentEncoding") == "gzip" and "gzip" not in request.headers.get("Accept-Encoding", ""):
        answer = Response(_unpacked(file), content_type=_as_header(one.content_type))
        answer.call_on_close(file.close)
        answer.headers["Warning"] = "214 UploadServer gunzipped"
        _describe(answer, one)
        return answer
    wanted = _RANGE.fullmatch(request.headers.get("Range", ""))  # one range; of several, Google sends all of it too
    start, stop = (0, one.size) if wanted is None else _span(wanted, one.size)
    if wanted and start >= stop:
        file.close()
        refusal = ApiError(416, "requestedRangeNotSatisfiable", "Request range not satisfiable").response(plain=True)
        refusal.headers["Content-Range"] = f"bytes */{one.size}"
        return refusal
    file.seek(start)
    answer = Response(_blocks(file, stop - start), 206 if wanted else 200, content_type=_as_header(one.content_type))
    answer.call_on_close(file.close)
    answer.headers["Content-Length"] = str(stop - start)
    answer.headers["Accept-Ranges"] = "bytes"
    if wanted:
        answer.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{one.size}"
    if "contentEncoding" in one.settings:
        answer.headers["Content-Encoding"] = _as_header(one.settings["contentEncoding"])
    _describe(answer, one)
    return answer


def _span(wanted: re.Match[str], size: int) -> tuple[int, int]:
    """Return the first byte and the one after the last; an empty span for a range outside the object."""
    first, last, suffix = wanted.groups()
    if suffix is not None:
        return max(0, size - int(suffix)), size if int(suffix) else 0
    return int(first), min(size, int(last) + 1 if last else size)


def _describe(answer: Response, one: StoredObject) -> None:
    headers = answer.headers
    headers["ETag"] = f'"{one.etag}"'
    headers["Last-Modified"] = formatdate(one.generation / 1_000_000, usegmt=True)
    headers["x-goog-generation"] = str(one.generation)
    headers["x-goog-metageneration"] = str(one.metageneration)
    headers["x-goog-hash"] = one.hashes()
    headers["x-goog-stored-content-length"] = str(one.size)
    headers["x-goog-stored-content-encoding"] = _as_header(one.settings.get("contentEncoding", "identity"))
    headers["x-goog-storage-class"] = _as_header(one.settings.get("storageClass", "STANDARD"))
    for key, header in _SENT_AS_SET.items():
        if key in one.settings:
            headers[header] = _as_header(one.settings[key])
    for key, value in one.settings.get("metadata", {}).items():
        if _HEADER_NAME.fullmatch(key):
            headers[f"x-goog-meta-{key}"] = _as_header(value)


def _as_header(text: str) -> str:
    """Return any text as the value of a header: UTF-8 on the wire, without control characters."""
    return _CONTROL.sub(" ", text).encode("utf-8", "replace").decode("latin-1")


def _blocks(file: BinaryIO, length: int) -> Iterator[bytes]:
    while length and (block := file.read(min(BLOCK, length))):
        yield block
        length -= len(block)


def _unpacked(file: BinaryIO) -> Iterator[bytes]:
    unpacker = zlib.decompressobj(wbits=31)  # gzip's header and trailer
    while block := file.read(BLOCK):
        while block and not unpacker.eof:
            yield unpacker.decompress(block, BLOCK)
            block = unpacker.unconsumed_tail
