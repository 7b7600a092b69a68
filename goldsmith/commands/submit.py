"""goldsmith submit: uploads the packed context, then the spec, and follows the build that Google Cloud makes of it.

A retry of such a build is asked for as any pipeline can, and followed likewise.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from shared.build.build import Build, Sibling, State, WorkflowPart
from shared.build.damage import Damaged
from shared.build.export_formats import NO_EXPORT, refused_in_cloud
from shared.build.identity import known_traceparent
from shared.build.image.approval import audience_of
from shared.context.outside import context_name, outside
from shared.context.packing import pack_context
from shared.engine.history import Followed
from shared.errors import EnvironmentFault, InputError, NotFound, Transient
from shared.intake.retry import FROM, RETRY, wanted_retry
from shared.intake.workflow import wanted_build
from shared.names import LOCAL
from shared.planning.line import waits_of
from shared.planning.origins import check_origin
from shared.planning.retries import check_retry, retry_id
from shared.planning.sources import is_from_nothing, only_here
from shared.runtime import opening
from shared.spec.cloudbuild.substitutions import builtin_substitutions
from shared.spec.read import ParsedSpec, SpecBuild, SpecFile, read_specs
from shared.spec.rules import ONLY_LOCAL
from shared.submission import (
    AUTHOR_METADATA,
    CONTEXT_METADATA,
    KEEP_METADATA,
    LIST,
    PARAMETERS_METADATA,
    TRACEPARENT_METADATA,
    context_metadata,
    keep_seconds,
    object_request,
    result_uri,
    spec_object,
    submission_purpose,
)
from shared.topology import function

from ..exit_status import INTERRUPTED
from ..places import Place
from ..places import open_client_of as client_of
from ..screen.console import following
from ..screen.text import complain, say
from ..screen.view import View, quiet_view, view
from .build import status
from .builds import find_by_id
from .published.mail_proof import MailProof, identity_token
from .specs import read_builds

if TYPE_CHECKING:
    from shared.build.events import Event
    from shared.runtime.opening import CloudClient
    from shared.spec.model import Spec

T = TypeVar("T")

POLL = 2.0  # seconds between looks at the build
SELDOM = 30  # looks at a build that is queued for one at all others that are not finished; more, of a long queue
STARTS_WITHIN = 180.0  # seconds from the upload to the build's first sign; a cold function needs some ten
LOST_FOR = 900.0  # seconds without an answer, after which a build is not followed any more
LONGEST_PAUSE = 30.0  # seconds between tries while there is no answer


@dataclass(frozen=True)
class SubmitFlags:
    """The options of the command line that change how a build is asked for and shown."""

    detach: bool = False  # whether the command ends once the build is asked for
    kept: str | None = None  # for how long the disk of a failed step is kept, as a person writes it
    proof: MailProof | None = None  # proves that the person is the builds' author; None: that is not said
    show: Callable[[bool], View] = view  # makes what shows a build, as JSON or for people


FOLLOWED = SubmitFlags()


def submit(
    path: Path,
    project: str | None,
    bucket: str | None,
    parameters: Mapping[str, str],
    source: Path | None,
    flags: SubmitFlags = FOLLOWED,
    *,
    as_json: bool,
) -> int:
    """Submit; give the exit status, of several builds that of the first failure. InputError comes before any upload."""
    kept, proof = flags.kept, flags.proof
    if kept is not None:
        keep_seconds("--keep-on-failure", kept)
    file = read_builds(path, parameters, f"goldsmith submit {path}", source, project or LOCAL)
    builds = file.builds  # read once: what is uploaded is what names the builds
    place = Place(project or _named_project(builds), bucket)
    if place.project is None:
        raise InputError(f"{path}: which project builds it is said nowhere; add --project ID, or build.project")
    _refuse_elsewhere(file, path)
    if proof is not None:
        _refuse_others_context(file, path)
    client = client_of(place.project, place.bucket)
    name = spec_object(builds[0].spec.name)
    screen = flags.show(as_json)
    with screen:
        screen.progress(f"uploading {path}", 0, 0)
        generation = _upload(file, parameters, kept, client, screen, proof)
    begun = identities(file.parsed, client.bucket_name, name, generation, parameters, place.project)
    if flags.detach:
        for identity in begun:
            hint = f"build {identity}; follow it with: goldsmith builds logs {identity} --follow{place.options}"
            told = identity if flags.show is quiet_view else hint
            say(json.dumps({"submitted": identity}) if as_json else told)
        return 0
    try:
        ended = [to_the_end(begun[0], client, place, screen)]
        ended += [to_the_end(identity, client, place, flags.show(as_json)) for identity in begun[1:]]
    except KeyboardInterrupt:
        return INTERRUPTED
    return next((one for one in ended if one), 0)


def _refuse_elsewhere(file: SpecFile, path: Path) -> None:
    """Refuse what Google Cloud cannot build. InputError."""
    builds = file.builds
    for build in builds:
        if any(getattr(build.spec.source, key) is not None for key in ONLY_LOCAL):
            raise InputError(f"{path}: {only_here(build.spec.source)}")
        if is_from_nothing(build.spec.source):
            _check_origin(build.spec, path)
    for build in builds:
        output = build.spec.output
        refused = refused_in_cloud(output.formats) if output.export is not None else NO_EXPORT
        if output.formats and refused:
            place_of = file.parsed.document.position(("output", "formats"))
            raise InputError(f"{path}:{place_of.line}:{place_of.column}: output.formats: {refused}")
    if any(build.spec.output.reproducible for build in builds):
        place_of = file.parsed.document.position(("output", "reproducible"))
        what = "only one machine gives the same bytes each time, in its chroot engine; leave the key out"
        raise InputError(f"{path}:{place_of.line}:{place_of.column}: output.reproducible: {what}")


def _refuse_others_context(file: SpecFile, path: Path) -> None:
    """Refuse a context that others can change, where the author of all is to be proved. InputError."""
    for build in file.builds:
        if build.spec.context is not None and _is_object(build.spec.context):
            raise InputError(
                f"{path}: context: {build.spec.context} can be changed by others, so no token proves its author; name "
                "a folder beside the spec, or submit without a proof"
            )


def _check_origin(spec: Spec, path: Path) -> None:
    """Refuse a source from nothing that no build VM can make. InputError."""
    try:
        check_origin(spec)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _named_project(builds: tuple[SpecBuild, ...]) -> str | None:
    """Return the project that a spec, or the first build of a workflow, names by itself."""
    named = builds[0].spec.build.project
    return None if named == LOCAL else named


def _upload(
    file: SpecFile,
    parameters: Mapping[str, str],
    kept: str | None,
    client: CloudClient,
    screen: View,
    proof: MailProof | None,
) -> str:
    """Upload the files that the builds name, then the spec, whose upload is the request; give its generation."""
    metadata = {PARAMETERS_METADATA: json.dumps(dict(parameters))} if parameters else {}
    metadata |= {} if kept is None else {KEEP_METADATA: kept}
    if parent := known_traceparent(os.environ.get("TRACEPARENT", "")):
        metadata[TRACEPARENT_METADATA] = parent
    builds, folder = file.builds, file.folder
    contexts = dict.fromkeys(
        (build.spec.context, outside(build.spec.steps)) for build in builds if build.spec.context is not None
    )
    packed = {context_name(*each): _upload_context(*each, folder, client, screen) for each in contexts}
    lists = {build.spec.output.sbom.input or "" for build in builds if build.spec.output.sbom is not None}
    packed |= {LIST + one: _upload_list(one, folder, client) for one in sorted(lists) if one and not _is_object(one)}
    if packed:
        metadata[CONTEXT_METADATA] = context_metadata(packed)
    name = spec_object(builds[0].spec.name)
    if proof is not None:
        metadata[AUTHOR_METADATA] = _author_token(name, file.parsed.text, metadata, proof, client)
    return client.upload_spec(name, file.parsed.text.encode(), metadata)


def _author_token(name: str, text: str, metadata: Mapping[str, str], proof: MailProof, client: CloudClient) -> str:
    """Return a token that proves who has written what is uploaded. InputError, EnvironmentFault, Transient."""
    purpose = submission_purpose(f"gs://{client.bucket_name}/{name}", text, metadata)
    token = identity_token(audience_of(client.project, purpose), proof)
    client.identities.mail_of(token, purpose)
    return token


def identities(
    parsed: ParsedSpec, bucket: str, name: str, generation: str, parameters: Mapping[str, str], project: str
) -> list[str]:
    """Return the ids of the builds that an upload leads to, reading it again: names may hold what only it tells."""
    uri, asked = f"gs://{bucket}/{name}", object_request(bucket, name, generation)
    builds = read_specs(replace(parsed, filename=uri), parameters, builtin_substitutions(project, asked))
    siblings = tuple(Sibling(build.spec.name, build.after) for build in builds)
    part = WorkflowPart(uri, generation, asked, result_uri(bucket, name, generation), 0, siblings)
    return [wanted_build(part, index).id for index in range(len(builds))]


def _is_object(place: str) -> bool:
    return place.startswith("gs://")


def _upload_list(place: str, folder: Path, client: CloudClient) -> str:
    with opening.temporary_folder() as own:
        copy = own / "list.json"
        shutil.copyfile(folder / place, copy)  # so that its name is its digest, even if the file is saved meanwhile
        return client.upload_list(copy, hashlib.sha256(copy.read_bytes()).hexdigest())


def _upload_context(context: str, others: tuple[str, ...], folder: Path, client: CloudClient, screen: View) -> str:
    if _is_object(context):
        return context
    with opening.temporary_folder() as own:
        packed = own / "context.tar"
        made = pack_context(folder / context, packed, others)
        screen.progress(f"uploading the context, {made.size / 1e6:,.1f} MB", 0, 0)
        return client.upload_context(packed, made.digest)


def to_the_end(identity: str, client: CloudClient, place: Place, screen: View) -> int:
    """Follow a build, which goes on where that is interrupted; give its exit status."""
    try:
        return status(follow(identity, client, screen))
    except KeyboardInterrupt:
        complain(f"build {identity} goes on; end it with: goldsmith builds cancel {identity}{place.options}")
        raise
    except Transient:
        complain(f"build {identity} goes on; see it with: goldsmith builds show {identity}{place.options}")
        raise


def follow(identity: str, client: CloudClient, screen: View, pause: Callable[[float], None] = time.sleep) -> Build:
    """Show every event as it is recorded, until the build is finished; return the build.

    Each document that is read is paid for: at most 70 a minute, with ten events in it or while the build is queued.
    """
    with screen:
        followed = _appeared(identity, client, screen, pause)
        with following(client.console(followed), screen.console):
            rest = 0  # looks until the queue is looked at again: it costs as many reads as it has builds
            while (events := _answered(followed.look, screen, pause)) or not followed.build.ended:
                _show(events, followed.build, screen)
                if events:
                    continue
                if followed.build.state is State.QUEUED:
                    queued = 0 if rest else _answered(lambda: _show_wait(followed.build, client, screen), screen, pause)
                    rest = rest - 1 if rest else max(SELDOM, queued) - 1
                pause(POLL)
    screen.end(followed.build, client.logs_of(identity))
    return followed.build


def _answered(ask: Callable[[], T], screen: View, pause: Callable[[float], None]) -> T:
    """Ask until there is an answer: a connection may be lost for a while, and the build goes on. Transient."""
    waited = 0.0
    while True:
        try:
            answer = ask()
        except Transient as error:
            if waited >= LOST_FOR:
                raise
            screen.progress(f"no answer, trying again: {error}", 0, 0)
            rest = min(max(POLL, waited), LONGEST_PAUSE)
            pause(rest)
            waited += rest
        else:
            if waited:
                screen.progress("there are answers again", 0, 0)
            return answer


def _show(events: Sequence[Event | Damaged], build: Build, screen: View) -> None:
    for event in events:
        if isinstance(event, Damaged):
            complain(event.why)
        else:
            screen.event(build, event)


def _show_wait(build: Build, client: CloudClient, screen: View) -> int:
    """Show what a build waits for; return how many builds are queued."""
    found = waits_of([build], client.store, client.family_concurrency)
    if build.id in found:
        screen.progress(f"queued: {found[build.id]}", 0, 0)
    return len(found)


def _appeared(identity: str, client: CloudClient, screen: View, pause: Callable[[float], None]) -> Followed:
    screen.progress(f"waiting for build {identity} to begin", 0, 0)
    give_up = time.monotonic() + STARTS_WITHIN
    found = _followed(identity, client)  # without an answer to the first question, none was ever there to be lost
    while found is None and time.monotonic() < give_up:
        pause(POLL)
        found = _answered(lambda: _followed(identity, client), screen, pause)
    if found is not None:
        return found
    raise EnvironmentFault(
        f"build {identity} has not begun within {STARTS_WITHIN:.0f} s of the upload; look at the logs of the function "
        f"{function('start_build').deployed_name}, and whether Goldsmith is deployed in this project"
    )


def _followed(identity: str, client: CloudClient) -> Followed | None:
    try:
        return Followed(client.store, identity)
    except NotFound:
        return None


def retry_there(
    build_id: str, start: str | None, place: Place, show: Callable[[bool], View] = view, *, as_json: bool
) -> int:
    """Retry a build of a project; give the exit status. InputError for one that cannot be, before anything is asked."""
    assert place.project is not None
    client = client_of(place.project, place.bucket)
    first = find_by_id(client, build_id, place)
    check_retry(first, start)
    screen = show(as_json)
    screen.progress(f"asking for a retry of build {first.id}", 0, 0)
    message = client.request({RETRY: first.id, **({} if start is None else {FROM: start})})
    return to_the_end(begun(first, message, client), client, place, screen)


def begun(first: Build, message: str, client: CloudClient, pause: Callable[[float], None] = time.sleep) -> str:
    """Wait for what a request for a retry becomes: the retry, or the build that says why there is none; return its id.

    EnvironmentFault where nothing comes of it.
    """
    wanted = wanted_retry(first.id, first, message, client.bucket_name)
    give_up = time.monotonic() + STARTS_WITHIN
    while time.monotonic() < give_up:
        for identity in (wanted.id, retry_id(first)):
            found = _find(identity, client)
            if found is not None and found.result == wanted.result:
                return identity
        pause(POLL)
    raise EnvironmentFault(
        f"nothing has come of the request to retry build {first.id} within {STARTS_WITHIN:.0f} s; look at the logs of "
        f"the function {function('start_build').deployed_name}, and whether gs://{client.bucket_name} is its bucket"
    )


def _find(build_id: str, client: CloudClient) -> Build | None:
    try:
        return client.store.load(build_id).build
    except NotFound:
        return None
