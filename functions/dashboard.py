"""dashboard: the pages of shared/dashboard/ for people, and their JSON for programs.

A browser gets pages. Programs that do not ask for HTML get JSON from the same addresses:

GET /builds?limit=50&before=BUILD    newest first; `next` is the address of the following page
GET /builds/BUILD                    one build, whole, with the scripts of elements below their steps
GET /retirement                      what the last run did with old images: which stay and why, which went

A queued build has its place in `wait`. One that failed in a step has in `kept_disk` the disk that is kept, and how to
boot it. A build that cannot be read is listed with the state "damaged"; to ask for it is answered with 500 and why.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import functions_framework

from shared.topology import RETIREMENT_REPORT, UPKEEP_REPORT

from . import log
from .handling import INSTANCE

if TYPE_CHECKING:
    from flask import Flask, Request
    from werkzeug import Response

    from shared.runtime.opening import CloudBackend

POLL, LIST_POLL = 2.0, 15.0  # seconds: each look reads documents, which are paid for
PATIENCE = 10.0  # seconds for which a browser waits for what comes of a request
STREAMS = 8  # live answers at once, of the 32 threads that the instance has
STREAMS_EACH = 3  # of one viewer
HEALTH_SECONDS = 20.0  # for which one answer about health serves all: it is made of up to 5000 documents
STREAM_SECONDS = 50.0  # less than the function's time-out


class _Application:
    """The application of this instance, made for the first request."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: tuple[CloudBackend, Flask] | None = None

    def over(self, backend: CloudBackend) -> Flask:
        """Return the application that serves a backend."""
        from shared.dashboard.app import make_app
        from shared.dashboard.web.desk import Desk
        from shared.dashboard.web.kept_answers import KeptAnswer
        from shared.dashboard.web.served import Served
        from shared.planning.permissions import PREFIX, accounts_of
        from shared.runtime.opening import cloud_desk

        with self._lock:
            if self._made is None or self._made[0] is not backend:
                bucket = backend.settings.bucket
                accounts = accounts_of(backend.settings.project, backend.settings.vm_service_account)
                behind = cloud_desk(backend) if backend.settings.iap_audience else None
                desk = None if behind is None else Desk(behind.who, behind.send, patience=PATIENCE, rebuilds=True)
                served = Served(
                    backend=backend,
                    place=backend.settings.project,
                    project=backend.settings.project,
                    prefix=PREFIX if accounts is None else accounts.prefix,
                    options=f" --project {backend.settings.project} --bucket {bucket}",
                    retirement=f"gs://{bucket}/{RETIREMENT_REPORT}",
                    upkeep=f"gs://{bucket}/{UPKEEP_REPORT}",
                    poll=POLL,
                    list_poll=LIST_POLL,
                    desk=desk,
                    health=KeptAnswer(HEALTH_SECONDS, backend.clock.now),
                    streams=STREAMS,
                    streams_each=STREAMS_EACH,
                    stream_seconds=STREAM_SECONDS,
                )
                self._made = backend, make_app(served)
            return self._made[1]


_APPLICATION = _Application()


@functions_framework.http
def dashboard(request: Request) -> Response:
    """Answer a request by the application that `goldsmith serve` runs too."""
    from werkzeug import Response

    log.set_build("")
    app = _APPLICATION.over(INSTANCE.backend())
    return Response.from_app(app.wsgi_app, request.environ)
