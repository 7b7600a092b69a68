"""The Cloud Storage endpoint: one store, served over plain HTTP and, for gsutil, over TLS."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from flask import Flask, Request, Response, request
from werkzeug.exceptions import HTTPException

from shared.host.private_folder import private_folder

from ..web.http_server import HOME_OPTION, HttpServer, loopback_certificate
from ..web.identity import Identity, InvalidToken
from .buckets import buckets
from .copies import copies
from .downloads import downloads
from .kept.store import Store
from .kept.stored_object import StoredObject
from .objects import objects
from .rest.batch import batch
from .rest.failures import ApiError
from .rest.faults import Faults
from .rest.raw_paths import Name, RawPaths, Rest
from .service import Service
from .signed_urls import signed_urls
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

# Configuration of gsutil.
_BOTO = """\
[Boto]
is_secure = True
https_validate_certificates = True

[Credentials]
gs_host = {host}
gs_port = {port}
gs_json_host = {host}
gs_json_port = {port}

[GSUtil]
prefer_api = json
json_api_version = v1
default_project_id = {project}
state_dir = {state}
software_update_check_period = 0
"""

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

    def client_environment(self, home: Path, *, project: str) -> dict[str, str]:
        """Write a configuration of gsutil, `gcloud storage` and Google's clients; return the variables that select it.

        With these variables the clients use this endpoint alone, ask for no credentials, and keep configuration, state
        and caches below `home`: they neither read nor write the user's own.
        """
        state = home / "gsutil"
        configuration = home / "gcloud"
        for folder in (state, configuration):
            folder.mkdir(parents=True, exist_ok=True)
        boto = home / "boto"
        tls = urlsplit(self.tls_url)
        boto.write_text(_BOTO.format(host=tls.hostname, port=tls.port, project=project, state=state), encoding="utf-8")
        return {
            "BOTO_CONFIG": str(boto),
            "CLOUDSDK_CONFIG": str(configuration),
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE": f"{self.url}/storage/v1/",
            "CLOUDSDK_AUTH_DISABLE_CREDENTIALS": "true",
            "CLOUDSDK_CORE_CHECK_GCE_METADATA": "false",
            "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE": str(self.ca_file),
            "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
            "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "true",
            "CLOUDSDK_CORE_PROJECT": project,
            "CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK": "true",
            "GCE_METADATA_ROOT": urlsplit(self.url).netloc,  # gcloud asks it whether it is on a VM; the answer is no
            "GOOGLE_CLOUD_PROJECT": project,
            "NO_GCE_CHECK": "true",  # and so does google-auth
            "STORAGE_EMULATOR_HOST": self.url,
        }

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
    """Return the name of the caller, in Google's words. ApiError 401 for a token that is not of this emulator."""
    header = request.headers.get("Authorization")
    if header is None:
        return "Anonymous caller"
    try:
        return identity.verify_access_token(header.removeprefix("Bearer "))
    except InvalidToken as error:
        raise ApiError(401, "authError", f"Invalid Credentials: {error}", location="Authorization") from error
