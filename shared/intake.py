"""From what somebody has uploaded or published to a build: one that runs, or one that says what is wrong.

    specs/team/hello.yaml#1795176000  ─┐
    {"spec": "gs://...", "parameters"} ├─► text ─► spec ─► context, source ─► plan ─► BuildRequested
    {"spec": {"name": ...}}           ─┘      └──────── wrong anywhere ───────────► BuildRejected

What cannot be built still becomes a build, which fails with the text that `goldsmith validate` prints, since a person
with nothing but gsutil sees only what a build leaves. What may pass (Transient, Conflict) is raised: asked again, the
same request is the same build.
"""

from __future__ import annotations

import json
import logging
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from .build import Build
from .bundle import provisioner_version
from .engine import Engine
from .errors import Conflict, GoldsmithError, InputError, NotFound, PoisonMessage, Transient
from .events import BuildRejected, BuildRequested
from .factory import Factory
from .identity import build_id, request_digest
from .names import LOCAL, quoted
from .plan import Plan
from .ports import Objects, StoredObject
from .requests import request_build
from .sources import resolve
from .spec import SPEC_NAME_LENGTH
from .spec_document import Problem, read_document
from .spec_file import decoded, refuse_long
from .spec_parameters import substitute
from .spec_text import read_spec
from .submission import CONTEXT_METADATA, PARAMETERS_METADATA, object_request, result_uri
from .topology import SPECS
from .uploads import UploadedContext, refuse_hidden, split_uri

LOG = logging.getLogger(__name__)

SUFFIX_DIGITS = 12  # in a result's name, for keys that cannot stand there
KEYS = ("spec", "parameters", "idempotency_key")  # of a published request

_NAME = re.compile(rf"[a-z]([-a-z0-9]{{0,{SPEC_NAME_LENGTH - 2}}}[a-z0-9])?")
_PLAIN = re.compile(r"[A-Za-z0-9][-A-Za-z0-9_.]{0,62}")


class Deployment(Protocol):
    """What plans take from where they are made, unless the spec says otherwise."""

    @property
    def project(self) -> str:
        """The project of builds and images."""
        ...

    @property
    def bucket(self) -> str:
        """The one bucket."""
        ...

    @property
    def zones(self) -> tuple[str, ...]:
        """Zones, in the order in which they are tried."""
        ...

    @property
    def vm_service_account(self) -> str:
        """The account of build VMs."""
        ...


@dataclass(frozen=True)
class Request:
    """What asks for a build. `text` reads the spec's text; it raises InputError, NotFound."""

    asked: str  # its digest is in the build id
    place: str  # what the spec's problems begin with
    stem: str  # where a spec has no name that can be read, its build's
    result: str  # URI of the object that says how it ended
    text: Callable[[], str]
    spec_uri: str = ""  # "" for a spec that lies nowhere
    parameters: Any = field(default_factory=dict)  # should be texts by name
    packed: str | None = None  # URI of the context that the uploader has packed


class Intake:
    """Takes requests into one deployment."""

    def __init__(self, factory: Factory, objects: Objects, deployment: Deployment) -> None:
        self._factory = factory
        self._objects = objects
        self._deployment = deployment
        self._engine = Engine(factory.store, factory.bus, factory.clock)

    def uploaded(self, name: str, generation: str) -> Build | None:
        """Take a spec that was uploaded to the deployment's bucket; None when it is gone again, or was replaced."""
        bucket = self._deployment.bucket
        uri = f"gs://{bucket}/{name}"
        found = self._objects.stat(uri, generation)
        if found is None:
            LOG.warning("%s#%s is gone; it is not built", uri, generation)
            return None
        request = Request(
            asked=object_request(bucket, name, generation),
            place=uri,
            stem=stem(name),
            result=result_uri(bucket, name, generation),
            text=lambda: self._text(found),
            spec_uri=uri,
            parameters=_metadata_parameters(found.metadata.get(PARAMETERS_METADATA)),
            packed=found.metadata.get(CONTEXT_METADATA),
        )
        return self.take(request)

    def published(self, data: bytes, message_id: str) -> Build:
        """Take a message of build-requests. PoisonMessage when it does not even name a spec."""
        try:
            document = json.loads(data)
            spec = document.get("spec") if isinstance(document, dict) else None
            text = spec if isinstance(spec, str) else json.dumps(spec, indent=2)
        except (ValueError, RecursionError) as error:
            raise PoisonMessage(f"a request that is not JSON: {error}") from error
        if not isinstance(spec, str | dict) or not spec:
            raise PoisonMessage('a request without a spec; write {"spec": "gs://bucket/object"} or the spec itself')
        key = document.get("idempotency_key")
        asked = f"key {key}" if key is not None else f"message {message_id}"
        suffix = str(message_id if key is None else key)
        if not _PLAIN.fullmatch(suffix):
            suffix = request_digest(suffix)[:SUFFIX_DIGITS]
        uri = text if text.startswith("gs:") else ""
        bucket = self._deployment.bucket
        name = _below_specs(uri, bucket) if uri else stem(_name_in(text, {}) or "spec")
        request = Request(
            asked=asked,
            place=uri or "spec",
            stem=stem(name),
            result=result_uri(bucket, name, suffix),
            text=lambda: self._named_text(uri, document) if uri else _inline_text(text, document),
            spec_uri=uri,
            parameters=document.get("parameters", {}),
        )
        return self.take(request)

    def take(self, request: Request) -> Build:
        """Begin the build of a request, or give the one that there is. Transient, Conflict."""
        name = request.stem
        try:
            text = request.text()
            parameters = _checked(request.parameters)
            name = _name_in(text, parameters) or name
            if self._is_known(name, request):
                return self._engine.resend(build_id(name, request.asked))
            event: BuildRequested | BuildRejected = self._plan(text, parameters, request)
        except (Transient, Conflict):
            raise
        except GoldsmithError as error:  # whatever it is, a person has to hear of it
            LOG.info("%s is rejected: %s", request.asked, error)
            event = self._rejected(name, request, str(error))
        return self._engine.request(event)

    def _is_known(self, name: str, request: Request) -> bool:
        """Whether a delivery before this one has begun the build; the world may have changed since."""
        try:
            build = self._factory.store.load(build_id(name, request.asked)).build
        except NotFound:
            return False
        return build.request == request_digest(request.asked)

    def _plan(self, text: str, parameters: Mapping[str, str], request: Request) -> BuildRequested:
        bucket = self._deployment.bucket
        with tempfile.TemporaryDirectory(prefix="goldsmith-intake-") as folder:
            context = UploadedContext(
                self._objects, bucket, Path(folder), spec_uri=request.spec_uri, packed=request.packed
            )
            spec = read_spec(text, request.place, parameters, lambda data: _only_local(data) + context.check(data))
            source = resolve(spec.source, self._factory.compute)
            event = request_build(
                spec,
                self._factory,
                source=source,
                context=context.pack(),
                request=request.asked,
                provisioner_version=provisioner_version(),
                amend=self._placed,
            )
        return replace(event, result=request.result)

    def _placed(self, plan: Plan) -> Plan:
        """Put in what the spec leaves to the deployment."""
        here = self._deployment
        image, machine = plan.image, plan.machine
        machine = replace(
            machine,
            project=here.project if machine.project == LOCAL else machine.project,
            zones=machine.zones or here.zones,
            service_account=machine.service_account or here.vm_service_account,
        )
        return replace(
            plan,
            machine=machine,
            image=replace(image, project=here.project if image.project == LOCAL else image.project),
        )

    def _rejected(self, name: str, request: Request, reason: str) -> BuildRejected:
        return BuildRejected(
            build_id=build_id(name, request.asked),
            event_id="request",
            time=self._factory.clock.now(),
            name=name,
            request=request_digest(request.asked),
            reason=reason,
            result=request.result,
        )

    def _named_text(self, uri: str, document: Mapping[str, Any]) -> str:
        """Read the spec that a message names."""
        _refuse_unknown(document)
        refuse_hidden(uri, self._deployment.bucket)
        found = self._objects.stat(uri)
        if found is None:
            raise InputError(f"{uri} does not exist; upload the spec first")
        return self._text(found)

    def _text(self, found: StoredObject) -> str:
        refuse_long(found.size, found.uri)
        with tempfile.NamedTemporaryFile(prefix="goldsmith-spec-") as file:
            self._objects.download(found, Path(file.name))
            return decoded(Path(file.name).read_bytes(), found.uri)


def stem(name: str) -> str:
    """Make a build's name of an object's: `hello` of `specs/team/Hello.yaml`."""
    words = re.sub(r"[^a-z0-9]+", "-", PurePosixPath(name).stem.lower())
    return re.sub(r"^[^a-z]+", "", words)[:SPEC_NAME_LENGTH].rstrip("-") or "spec"


def _name_in(text: str, parameters: Mapping[str, str]) -> str | None:
    """Read a spec's name, whatever else is wrong with the spec: all deliveries must come to one build id."""
    data = read_document(text).data
    if not isinstance(data, dict):
        return None
    name = substitute(data, parameters)[0].get("name")
    return name if isinstance(name, str) and _NAME.fullmatch(name) else None


def _inline_text(text: str, document: Mapping[str, Any]) -> str:
    _refuse_unknown(document)
    refuse_long(len(text.encode(errors="replace")), "spec")
    return text


def _refuse_unknown(document: Mapping[str, Any]) -> None:
    unknown = sorted(set(document) - set(KEYS))
    if unknown:
        raise InputError(f"{quoted(unknown[0])} is no key of a request; write {', '.join(KEYS)}")


def _below_specs(uri: str, bucket: str) -> str:
    try:
        found, name = split_uri(uri)
    except InputError:
        return "spec"
    return name if found == bucket and name.startswith(SPECS) else PurePosixPath(name).name


def _metadata_parameters(text: str | None) -> Any:
    try:
        return {} if text is None else json.loads(text)
    except (ValueError, RecursionError):
        return text  # no parameters: told with the spec's other faults


def _checked(parameters: Any) -> Mapping[str, str]:
    if not isinstance(parameters, dict) or not all(isinstance(value, str) for value in parameters.values()):
        raise InputError('parameters are not texts by name; write them as {"release": "2"}')
    return parameters


def _only_local(data: Mapping[str, Any]) -> list[Problem]:
    """Give the problems of what only one machine can do."""
    problems = []
    source, output = data.get("source"), data.get("output")
    if isinstance(source, dict) and "file" in source:
        text = "can only be built from on one machine, with goldsmith build; import the image, and name it here"
        problems.append(Problem(("source", "file"), text))
    export = output.get("export") if isinstance(output, dict) else None
    target = export.get("to") if isinstance(export, dict) else None
    if isinstance(target, str) and not target.startswith("gs://"):
        text = f"{quoted(target)} is no object; write gs://bucket/object.tar.gz"
        problems.append(Problem(("output", "export", "to"), text))
    return problems
