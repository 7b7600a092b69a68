"""Requests to write the files of an image that is published: {"export": {"image": "NAME", "to": "gs://bucket/"}}.

Such a build makes no image and changes none: its VM writes files, and publication gives them their names. What it
writes is held to what a spec's output.export is held to, and its VM is that of the image's own build, within the limits
of the deployment as they are now.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import Any

from ..backend import Backend
from ..build.build import Build, ImageRecord
from ..build.events import BuildRequested
from ..build.identity import request_digest
from ..build.plan import ImagePlan, MachinePlan, Plan
from ..errors import InputError, PoisonMessage, SpecError
from ..names import SPEC_NAME_LENGTH, check_name, project_id
from ..ownership import find_build, find_image
from ..planning.plan import export_place
from ..planning.requests import refuse_revoked
from ..planning.retries import refuse_busy
from ..planning.sources import as_source, resolve_maker
from ..ports import Image
from ..spec.model import Spec
from ..spec.read import parse, read_specs
from ..submission import result_uri
from .places import UploadedPlaces
from .request import PUBLISHED, SUFFIX_DIGITS
from .workflow import Wanted

EXPORT_REQUEST = "export"
KEYS = ("image", "to", "formats")
LARGEST_MESSAGE = 4096  # bytes


@dataclass(frozen=True)
class ExportRequest:
    """A message that asks for files of an image. What it says of them is unchecked."""

    project: str
    image: str
    asked: dict[str, Any]
    wanted: Wanted


def named_export(data: bytes, message_id: str, project: str, bucket: str) -> ExportRequest | None:
    """Return what a message asks for; None for any other message. PoisonMessage where it names no image."""
    try:
        document = json.loads(data) if len(data) <= LARGEST_MESSAGE else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or EXPORT_REQUEST not in document:
        return None
    asked = document[EXPORT_REQUEST]
    text = asked.get("image") if isinstance(asked, dict) and len(document) == 1 else None
    if not isinstance(text, str):
        raise PoisonMessage('a request for files that names no image; write {"export": {"image": "NAME", "to": ...}}')
    owner, slash, name = text.rpartition("/")
    try:
        owner, name = project_id(owner) if slash else project, check_name(name)
    except ValueError as error:
        raise PoisonMessage(f"a request for files of an image: {error}") from error
    return ExportRequest(owner, name, asked, wanted_export(name, message_id, bucket))


def wanted_export(image: str, message_id: str, bucket: str) -> Wanted:
    """Return what becomes of a request. A person's command finds it by the id of the message."""
    asked = f"message {message_id}"
    digest = request_digest(f"{EXPORT_REQUEST} {image} {asked}")[:SUFFIX_DIGITS]
    result = result_uri(bucket, f"{EXPORT_REQUEST}-of-{image}", f"{digest}{PUBLISHED.removesuffix('.json')}")
    return Wanted(image[:SPEC_NAME_LENGTH].rstrip("-"), asked, result)


def planned_export(
    request: ExportRequest, places: UploadedPlaces, maker_image: str, backend: Backend
) -> BuildRequested:
    """Return the event that asks for the build. InputError; EnvironmentFault where the deployment is busy."""
    spec = _spec(request, places)
    image = backend.compute.image(request.project, request.image)
    known = find_image(request.project, request.image, backend)
    if image is None or known is None or known.id != image.id or known.state != "published":
        raise InputError(f"there is no image {request.image} in project {request.project} that Goldsmith has published")
    if image.is_obsolete:
        raise InputError(f"image {image.name} of project {image.project} is OBSOLETE; export another one")
    first = find_build(known.build_id, backend)
    plan = _plan(request, spec, image, first, backend)
    plan = places.placed(replace(plan, exporter=resolve_maker(maker_image, backend.compute)))
    refuse_revoked(plan, backend)
    refuse_busy(plan, backend, boots=True)
    backend.compute.check(plan)
    return BuildRequested(
        build_id=plan.build_id,
        event_id="request",
        time=plan.requested,
        plan=plan,
        taken_up=ImageRecord(image.project, image.name, image.id),
        result=request.wanted.result,
    )


def _spec(request: ExportRequest, places: UploadedPlaces) -> Spec:
    """Return a spec with the request's export, which is read as any other. InputError."""
    unknown = sorted({*request.asked} - {*KEYS})
    if unknown or "to" not in request.asked:
        raise InputError(f"a request for files has the keys {', '.join(KEYS)}, and formats may be left out")
    output: dict[str, Any] = {"export": {"to": request.asked["to"]}}
    if "formats" in request.asked:
        output["formats"] = request.asked["formats"]
    source = {"project": request.project, "image": request.image}
    document = {"name": request.wanted.name, "source": source, "steps": [], "output": output}
    try:
        [read] = read_specs(parse(json.dumps(document), EXPORT_REQUEST), check=places.check)
    except SpecError as error:  # no person has written these lines
        raise InputError("; ".join(re.sub(r"^\w+:\d+:\d+: ", "", each) for each in error.problems)) from error
    return read.spec


def _plan(request: ExportRequest, spec: Spec, image: Image, first: Build | None, backend: Backend) -> Plan:
    """Return the plan, whose VM is like that of the image's own build; where that is gone, as a spec has it by default.

    It runs nothing of an author's, so it gets no account, and no GPU.
    """
    export = spec.output.export
    assert export is not None, "it was read with one"
    digest, now = request_digest(request.wanted.asked), backend.clock.now()
    machine = MachinePlan(image.project) if first is None or first.plan is None else first.plan.machine
    machine = replace(machine, gpu_type=None, service_account=None, spot=False, scratch_gb=0, hold=0.0)
    return Plan(
        build_id=request.wanted.id,
        request=digest,
        name=request.wanted.name,
        requested=now,
        source=as_source(image),
        content_digest=digest,
        image=ImagePlan(
            image.project,
            image.name,
            disk_size_gb=image.disk_size_gb,
            export_to=export_place(export.to, image.name),
            compression=export.compression,
            formats=tuple(spec.output.formats),
            files_only=True,
        ),
        machine=machine,
        steps=(),
        attempts=spec.build.attempts,
        timeout=spec.build.timeout,
        silence=spec.build.silence,
    )
