"""goldsmith submit: uploads the packed context, then the spec, and follows the build that Google Cloud makes of it."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from shared import factory
from shared.build import Build, Sibling, WorkflowPart
from shared.context import pack_context
from shared.damage import Damaged
from shared.dialects.builtin_substitutions import builtin_substitutions
from shared.errors import EnvironmentFault, InputError, NotFound, Transient
from shared.names import LOCAL
from shared.spec_file import beside, read_text
from shared.spec_text import WorkflowBuild, read_specs
from shared.submission import (
    CONTEXT_METADATA,
    LIST,
    PARAMETERS_METADATA,
    context_metadata,
    object_request,
    result_uri,
    spec_object,
)
from shared.topology import function
from shared.workflow import wanted

from .build import status
from .console import following
from .exit_status import INTERRUPTED
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
    """Submit; give the exit status, of several builds that of the first failure. InputError comes before any upload."""
    builds = read(path, parameters, f"goldsmith submit {path}", project or LOCAL)
    place = Place(project or _named_project(builds), bucket)
    if place.project is None:
        raise InputError(f"{path}: which project builds it is said nowhere; add --project ID, or build.project")
    if any(build.spec.source.file is not None for build in builds):
        raise InputError(f"{path}: source.file: a file can only be built from on this machine, with goldsmith build")
    screen = view(as_json)
    with client_of(place.project, place.bucket) as client:
        name = spec_object(builds[0].spec.name)
        text = read_text(path)  # once: what is uploaded is what names the builds, whoever saves the file meanwhile
        generation = _upload(builds, path, text, parameters, client, screen)
        begun = identities(text, client.bucket_name, name, generation, parameters, place.project)
        if detach:
            for identity in begun:
                hint = f"build {identity}; follow it with: goldsmith builds logs {identity} --follow{place.options}"
                say(json.dumps({"submitted": identity}) if as_json else hint)
            return 0
        try:
            ended = [_to_the_end(identity, client, place, view(as_json)) for identity in begun]
        except KeyboardInterrupt:
            return INTERRUPTED
    return next((one for one in ended if one), 0)


def _named_project(builds: tuple[WorkflowBuild, ...]) -> str | None:
    """Give the project that a spec, or the first build of a workflow, names by itself."""
    named = builds[0].spec.build.project
    return None if named == LOCAL else named


def _upload(
    builds: tuple[WorkflowBuild, ...],
    path: Path,
    text: str,
    parameters: Mapping[str, str],
    client: CloudClient,
    screen: View,
) -> str:
    """Upload the files that the builds name, then the spec, whose upload is the request; give its generation."""
    metadata = {PARAMETERS_METADATA: json.dumps(dict(parameters))} if parameters else {}
    contexts = dict.fromkeys(build.spec.context for build in builds if build.spec.context is not None)
    packed = {context: _upload_context(context, path, client, screen) for context in contexts}
    lists = {build.spec.output.sbom.input or "" for build in builds if build.spec.output.sbom is not None}
    packed |= {LIST + one: _upload_list(one, path, client) for one in sorted(lists) if one and not _is_object(one)}
    if packed:
        metadata[CONTEXT_METADATA] = context_metadata(packed)
    screen.progress(f"uploading {path}", 0, 0)
    return client.upload_spec(spec_object(builds[0].spec.name), text.encode(), metadata)


def identities(
    text: str, bucket: str, name: str, generation: str, parameters: Mapping[str, str], project: str
) -> list[str]:
    """Give the ids of the builds that an upload leads to: read again, as names may hold what only the upload tells."""
    uri, asked = f"gs://{bucket}/{name}", object_request(bucket, name, generation)
    builds = read_specs(text, uri, parameters, builtin=builtin_substitutions(project, asked))
    siblings = tuple(Sibling(build.spec.name, build.after) for build in builds)
    part = WorkflowPart(uri, generation, asked, result_uri(bucket, name, generation), 0, siblings)
    return [wanted(part, index).id for index in range(len(builds))]


def _is_object(place: str) -> bool:
    return place.startswith("gs://")


def _upload_list(place: str, path: Path, client: CloudClient) -> str:
    with factory.temporary_folder() as folder:
        copy = folder / "list.json"
        shutil.copyfile(beside(path, place), copy)  # so that its name is its digest, whoever saves the file meanwhile
        return client.upload_list(copy, hashlib.sha256(copy.read_bytes()).hexdigest())


def _upload_context(context: str, path: Path, client: CloudClient, screen: View) -> str:
    if _is_object(context):
        return context
    with factory.temporary_folder() as folder:
        packed = folder / "context.tar"
        made = pack_context(beside(path, context), packed)
        screen.progress(f"uploading the context, {made.size / 1e6:,.1f} MB", 0, 0)
        return client.upload_context(packed, made.digest)


def _to_the_end(identity: str, client: CloudClient, place: Place, screen: View) -> int:
    """Follow a build; give its exit status."""
    try:
        return status(_follow(identity, client, screen))
    except KeyboardInterrupt:
        complain(f"build {identity} goes on; end it with: goldsmith builds cancel {identity}{place.options}")
        raise
    except Transient:
        complain(f"build {identity} goes on; see it with: goldsmith builds show {identity}{place.options}")
        raise


def _follow(identity: str, client: CloudClient, screen: View) -> Build:
    """Show every event as it is recorded, until the build is finished."""
    build = _appeared(identity, client, screen)
    seen: set[str] = set()
    with screen, following(client.console(identity), screen.console):
        while True:
            build = client.store.load(identity).build
            for event in client.store.events(identity):
                if isinstance(event, Damaged):
                    _complain_once(event, seen)
                elif event.event_id not in seen:
                    seen.add(event.event_id)
                    screen.event(build, event)
            if build.finished:
                break
            time.sleep(POLL)
    screen.end(build, client.logs_of(identity))
    return build


def _complain_once(event: Damaged, seen: set[str]) -> None:
    if event.id not in seen:
        seen.add(event.id)
        complain(event.why)


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
