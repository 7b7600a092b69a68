"""goldsmith submit: uploads the packed context, then the spec, and follows the build that Google Cloud makes of it."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from shared.build import Build
from shared.context import pack_context
from shared.errors import EnvironmentFault, InputError, NotFound, Transient
from shared.identity import build_id
from shared.spec import Spec
from shared.spec_file import beside
from shared.submission import CONTEXT_METADATA, PARAMETERS_METADATA, object_request, spec_object
from shared.topology import function

from .build import INTERRUPTED, status
from .console import following
from .places import Place
from .places import client as client_of
from .specs import read
from .text import complain, say
from .view import View, view

if TYPE_CHECKING:
    from shared.factory import CloudClient

POLL = 1.0  # seconds between looks at the build
STARTS_WITHIN = 180.0  # seconds from the upload to the build's first sign; a cold function needs some ten


def submit(
    path: Path, project: str | None, bucket: str | None, parameters: Mapping[str, str], *, detach: bool, as_json: bool
) -> int:
    """Submit; give the exit status. InputError comes before anything is uploaded."""
    spec = read(path, parameters)
    place = Place(project or spec.build.project, bucket)
    if place.project is None:
        raise InputError(f"{path}: which project builds it is said nowhere; add --project ID, or build.project")
    if spec.source.file is not None:
        raise InputError(f"{path}: source.file: a file can only be built from on this machine, with goldsmith build")
    screen = view(as_json)
    with client_of(place.project, place.bucket) as client:
        identity = _upload(spec, path, parameters, client, screen)
        if detach:
            hint = f"build {identity}; follow it with: goldsmith builds logs {identity} --follow{place.options}"
            say(json.dumps({"submitted": identity}) if as_json else hint)
            return 0
        try:
            return status(_follow(identity, client, screen))
        except KeyboardInterrupt:
            complain(f"build {identity} goes on; end it with: goldsmith builds cancel {identity}{place.options}")
            return INTERRUPTED
        except Transient:
            complain(f"build {identity} goes on; see it with: goldsmith builds show {identity}{place.options}")
            raise


def _upload(spec: Spec, path: Path, parameters: Mapping[str, str], client: CloudClient, screen: View) -> str:
    """Upload the context, then the spec, whose upload is the request; give the id of the build it leads to."""
    metadata = {PARAMETERS_METADATA: json.dumps(dict(parameters))} if parameters else {}
    if spec.context is not None:
        metadata[CONTEXT_METADATA] = _upload_context(spec.context, path, client, screen)
    name = spec_object(spec.name)
    screen.progress(f"uploading {path}", 0, 0)
    generation = client.upload_spec(name, path.read_bytes(), metadata)
    return build_id(spec.name, object_request(client.bucket_name, name, generation))


def _upload_context(context: str, path: Path, client: CloudClient, screen: View) -> str:
    if context.startswith("gs://"):
        return context
    with tempfile.TemporaryDirectory(prefix="goldsmith-context-") as folder:
        packed = Path(folder) / "context.tar"
        made = pack_context(beside(path, context), packed)
        screen.progress(f"uploading the context, {made.size / 1e6:,.1f} MB", 0, 0)
        return client.upload_context(packed, made.digest)


def _follow(identity: str, client: CloudClient, screen: View) -> Build:
    """Show every event as it is recorded, until the build is finished."""
    build = _appeared(identity, client, screen)
    seen: set[str] = set()
    with screen, following(client.console(identity), screen.console):
        while True:
            build = client.store.load(identity).build
            for event in client.store.events(identity):
                if event.event_id not in seen:
                    seen.add(event.event_id)
                    screen.event(build, event)
            if build.finished:
                break
            time.sleep(POLL)
    screen.end(build, client.logs_of(identity))
    return build


def _appeared(identity: str, client: CloudClient, screen: View) -> Build:
    screen.progress(f"waiting for build {identity} to begin", 0, 0)
    give_up = time.monotonic() + STARTS_WITHIN
    while time.monotonic() < give_up:
        try:
            return client.store.load(identity).build
        except NotFound:
            time.sleep(POLL)
    raise EnvironmentFault(
        f"build {identity} has not begun within {STARTS_WITHIN:.0f} s of the upload; look at the logs of the function "
        f"{function('start_build').deployed_name}, and whether Goldsmith is deployed in this project"
    )
