"""The Cloud Storage endpoint: one store, served over plain HTTP and, for gsutil, over TLS."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from flask import Flask, Request, Response, request
from werkzeug.exceptions import HTTPException

from shared.local.private_folder import private_folder

from ..certificate import loopback_certificate
from ..http_server import HOME_OPTION, HttpServer
from ..identity import Identity, InvalidToken
from .batch import batch
from .buckets import buckets
from .copies import copies
from .downloads import downloads
from .failures import ApiError
from .faults import Faults
from .objects import objects
from .raw_paths import Name, RawPaths, Rest
from .service import Service
from .signed_urls import signed_urls
from .store import Store
from .stored_object import StoredObject
from .uploads import uploads

# By what names signers may know this endpoint: Google's, and that of Google's APIs as the emulator's VMs reach them.
HOSTS = ("storage.googleapis.com", "169.254.169.253")

# What a caller needs to be allowed for each route, and on what.
_PERMISSIONS = {
    "buckets.create_bucket": ("storage.buckets.create", "project"),
    "buckets.list_buckets": ("storage.buckets.list", "project"),
    "buckets.get_bucket": ("storage.buckets.get", "bucket"),
    "buckets.delete_bucket": ("storage.buckets.delete", "bucket"),
    "objects.list_objects": ("storage.objects.list", "bucket"),
    "objects.patch_object": ("storage.objects.update", "object"),
    "objects.update_object": ("storage.objects.update", "object"),
    "objects.delete_object": ("storage.objects.delete", "object"),
    "downloads.get_object": ("storage.objects.get", "object"),
    "downloads.download_object": ("storage.objects.get", "object"),
    "signed_urls.get_signed": ("storage.objects.get", "object"),
    "uploads.upload_object": ("storage.objects.create", "object"),
    "copies.compose_object": ("storage.objects.create", "object"),
    "copies.copy_object": ("storage.objects.create", "object"),
    "copies.rewrite_object": ("storage.objects.create", "object"),
}

_log = logging.getLogger(__name__)


class StorageEndpoint:
    """Serves what is below `folder` from its making until close(). `faults` makes things go wrong on purpose.

    `on_finalized` gets the JSON resource of every object that was written, after it was, in a thread of its own; what
    it raises is logged. A caller without a token may do everything; a token that is not of the emulator is refused.
    """

    def __init__(
        self,
        folder: Path,
        *,
        identity: Identity,
        on_finalized: Callable[[dict[str, Any]], None] | None = None,
        port: int = 0,
        tls_port: int = 0,
        hosts: Iterable[str] = HOSTS,
    ) -> None:
        self.faults = Faults()
        self._on_finalized = on_finalized
        self._announcers = ThreadPoolExecutor(8, thread_name_prefix="finalized")
        private_folder(folder, HOME_OPTION)
        names = tuple(hosts)
        certificate = loopback_certificate(folder)
        self.ca_file = certificate.ca_file
        application = _application(Service(Store(folder), identity, self.faults, self._announce), names)
        with ExitStack() as opened:
            opened.callback(self._announcers.shutdown)
            plain = opened.enter_context(HttpServer(application, port=port, names=names))
            self.url = plain.url
            context = certificate.server_context()
            tls = opened.enter_context(HttpServer(application, port=tls_port, tls=context, names=names))
            self.tls_url = tls.url
            self._opened = opened.pop_all()

    def close(self) -> None:
        """Serve no more, and wait for the announcements under way."""
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _announce(self, stored: StoredObject) -> None:
        if self._on_finalized:
            self._announcers.submit(self._on_finalized, stored.resource(self.url)).add_done_callback(_note_failure)


def _note_failure(done: Future[None]) -> None:
    if error := done.exception():
        _log.error("an announcement of a finalized object failed", exc_info=error)


def _application(service: Service, hosts: Iterable[str]) -> Flask:
    application = Flask("storage")
    application.url_map.merge_slashes = False
    application.url_map.strict_slashes = True
    application.url_map.converters |= {"name": Name, "rest": Rest}
    application.wsgi_app = RawPaths(application.wsgi_app)  # type: ignore[method-assign] # Flask's own way to wrap it
    parts = (buckets, objects, downloads, copies, uploads)
    for routes in (*(part(service) for part in parts), batch(application), signed_urls(service, hosts)):
        application.register_blueprint(routes)

    @application.before_request
    def admit() -> Response | None:
        who = _caller(service.identity, request)
        permission, what = _PERMISSIONS.get(request.endpoint or "", ("", ""))
        service.faults.check(request, permission, who, what)
        return service.faults.before(request)

    @application.after_request
    def send(answer: Response) -> Response:
        service.faults.after(request)
        return answer

    @application.errorhandler(ApiError)
    def refuse(error: ApiError) -> Response:
        return error.response(plain=request.args.get("alt") == "media" or request.path.startswith("/download/"))

    @application.errorhandler(HTTPException)
    def fail(error: HTTPException) -> Response:
        reason = {404: "notFound", 405: "methodNotAllowed"}.get(error.code or 500, "invalid")
        return ApiError(error.code or 500, reason, error.description or "").response(plain=False)

    return application


def _caller(identity: Identity, request: Request) -> str:
    """Give who calls, in Google's words. ApiError 401 for a token that is not of this emulator."""
    header = request.headers.get("Authorization")
    if header is None:
        return "Anonymous caller"
    try:
        return identity.verify_access_token(header.removeprefix("Bearer "))
    except InvalidToken as error:
        raise ApiError(401, "authError", f"Invalid Credentials: {error}", location="Authorization") from error
