"""Turn uploads and requests into builds. An invalid request becomes a failed build, so that its author sees why.

    specs/team/hello.yaml#1795176000  ─┐
    {"spec": "gs://...", "parameters"} ├─► text ─► specs ─► context, source ─► plan ─► BuildRequested
    {"spec": {"name": ...}}            │     └──────── wrong anywhere ────────────► BuildRejected
    a finished build of a workflow    ─┘            for each build that waits for nothing, or no longer

The failed build has the text that `goldsmith validate` prints: a person with nothing but gsutil sees only what a build
leaves. A fault that may pass (Passing) is raised: the same request, delivered again, is the same build.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ..backend import Backend
from ..build.build import Build, Sibling, State, WorkflowPart
from ..build.events import BuildRejected, BuildRequested
from ..build.identity import request_digest
from ..build.plan import Context, OriginPlan, SourceImage, SpecPlace
from ..build.trigger import request_key
from ..delivery.bundle import provisioner_version
from ..delivery.maker_bundle import maker_version
from ..engine.engine import Engine
from ..errors import (
    AlreadyExists,
    DamagedDocument,
    GoldsmithError,
    InputError,
    NameTaken,
    NotFound,
    Passing,
    SpecError,
    TooLarge,
    Transient,
)
from ..planning.family_budgets import FamilyBudgets
from ..planning.origins import plan_origin
from ..planning.plan import make_plan
from ..planning.requests import admit
from ..planning.secret_versions import with_numbers
from ..planning.sources import is_from_nothing, resolve_maker, resolve_source
from ..planning.triggers import anew, source_keys
from ..planning.turns import give_turns
from ..ports import Objects, StoredObject
from ..spec.cloudbuild.substitutions import builtin_substitutions
from ..spec.model import Spec
from ..spec.read import ParsedSpec, SpecBuild, decode, parse, read_specs, refuse_long
from ..submission import key_uri
from .authors import Authors
from .exported import ExportRequest, named_export, planned_export
from .places import Deployment, UploadedPlaces
from .request import Request, may_be_spec, name_in, of_message, of_part, of_upload
from .retry import RetryRequest, begun_retry, named_retry, planned_retry, refuse_second
from .triggered import end_cascade, named_trigger, register, renew, renewed, repeats, request_of_trigger, resume_named
from .uploads import UploadedContexts, refuse_hidden
from .workflow import Wanted, awaited, followers, hindrance, may_begin, wanted_build

LOG = logging.getLogger(__name__)

REASON_LIMIT = 50_000  # characters: some 400 problems of a spec
TURNS = 10.0  # seconds after which no more builds are begun along with a request


class Intake:
    """Takes requests into one deployment."""

    def __init__(self, backend: Backend, objects: Objects, deployment: Deployment) -> None:
        self._backend = backend
        self._objects = objects
        self._deployment = deployment
        self._authors = Authors(backend, objects, deployment.bucket)
        self._engine = Engine(backend.store, backend.bus, backend.clock)

    def uploaded(self, name: str, generation: str) -> tuple[Build, ...]:
        """Take what was uploaded to the deployment's bucket; () when it is no spec, is gone again or was replaced."""
        uri = f"gs://{self._deployment.bucket}/{name}"
        found = self._objects.stat(uri, generation)
        if found is None:
            LOG.warning("%s#%s is gone; it is not built", uri, generation)
            return ()
        return self.take(of_upload(found, self._deployment.bucket))

    def published(self, data: bytes, message_id: str, traceparent: str = "") -> tuple[Build, ...]:
        """Take a message of build-requests. PoisonMessage when it does not even name a spec.

        `traceparent` is the publisher's place in a trace.
        """
        if resume_named(data, self._backend):
            return ()
        retry = named_retry(data, message_id, self._deployment.bucket, self._backend)
        if retry is not None:
            return (self._retried(retry),)
        here = self._deployment
        export = named_export(data, message_id, here.project, here.bucket)
        if export is not None:
            return (self._exported(export),)
        named = named_trigger(data)
        if named is not None:
            return self._triggered(*named)
        return self.take(of_message(data, message_id, self._deployment.bucket, traceparent))

    def _retried(self, asked: RetryRequest) -> Build:
        """Begin the retry of a build, or return the one of this request; a rejected request is a failed build."""
        rejected = self._begun(asked.wanted)
        if rejected is not None:
            return self._engine.resend(rejected.id)
        try:
            known = begun_retry(asked, self._backend)
            if known is not None:
                return self._engine.resend(known.id)
            event = planned_retry(asked, self._backend, self._objects, self._deployment)
            self._budgets().spend(event.plan)
            begun = self._engine.request(event)
            refuse_second(asked, begun)
        except Passing:
            raise
        except GoldsmithError as error:
            try:
                known = begun_retry(asked, self._backend)  # by another delivery since: it is in the way of this one
            except DamagedDocument:
                known = None
            return self._reject(asked.wanted, str(error)) if known is None else known
        return begun

    def _exported(self, asked: ExportRequest) -> Build:
        """Begin a build that writes files of an image, or return that of this request; a rejected one has failed."""
        begun = self._begun(asked.wanted)
        if begun is not None:
            return self._engine.resend(begun.id)
        places = UploadedPlaces(self._deployment, self._objects, "", None, now=self._backend.clock.now(), keep=0.0)
        try:
            event = planned_export(asked, places, self._deployment.maker_image, self._backend)
            self._budgets().spend(event.plan)
        except Passing:
            raise
        except GoldsmithError as error:
            return self._reject(asked.wanted, str(error))
        return self._request(event, asked.wanted)

    def _triggered(self, key: str, number: int) -> tuple[Build, ...]:
        """Begin a build that a trigger has written down, of the spec that was accepted last; () if it is not wanted."""
        trigger = self._backend.store.trigger(key)
        live = None if trigger is None else self._objects.stat(trigger.spec)
        request = request_of_trigger(key, number, live, self._backend)
        if request is None:
            return ()
        begun = self.take(request)
        renew(key, self._is_there, self._backend)
        end_cascade(key, self._backend)
        return begun

    def take(self, request: Request) -> tuple[Build, ...]:
        """Begin the builds of a request that wait for nothing, or return those that there are. Passing.

        Returns () for an upload that asks for none.
        """
        single = Wanted(request.stem, request.asked, request.result, traceparent=request.traceparent)
        try:
            parsed, generation = self._read(request)
            request = request.with_text(parsed.text)
            single = replace(single, asked=request.asked, result=request.result)
            parameters = request.checked_parameters()
            request.checked_keep()
            if request.found is not None and not may_be_spec(parsed.document.data):
                LOG.info("%s is no spec, having neither steps nor source: a file of a context", request.uri)
                return ()
            single = replace(single, name=name_in(parsed.document.data, parameters) or request.stem)
            outline = self._outline(parsed, request, parameters) if parsed.is_workflow else ()
            single = replace(single, name=outline[0].spec.name) if len(outline) == 1 else single
            request = self._authors.named(request, parsed.text)
            part = _part(outline, request, generation, parameters)
            known = self._begun_formerly(outline[0].spec.name if outline else single.name, request)
            if known is None:
                self._claim_key(request)
        except Passing:
            raise
        except GoldsmithError as error:  # of any kind: its author has to be told
            return (self._reject(single, str(error)),)
        if known is not None:
            return (self._engine.resend(known.id),)
        if part is None:
            return self._begin({0: single}, parsed, request)
        first = [index for index, sibling in enumerate(part.siblings) if not sibling.after]
        return self._begin({index: wanted_build(part, index) for index in first}, parsed, request)

    def finished(self, build_id: str) -> tuple[Build, ...]:
        """Begin, or reject, the builds of a workflow that have waited for this one. NotFound, Passing."""
        build = self._backend.store.load(build_id).build
        part = build.workflow
        if part is None or not build.ended:
            return ()
        ready, rejected = {}, []
        for index in followers(part):
            before = [self._known(each) for each in awaited(part, index)]
            why = hindrance(before)
            if why is not None:
                rejected.append(self._reject(wanted_build(part, index), why))
            elif may_begin(before):
                ready[index] = wanted_build(part, index)
        return (*rejected, *(self._follow(part, ready) if ready else ()))

    def _follow(self, part: WorkflowPart, ready: Mapping[int, Wanted]) -> tuple[Build, ...]:
        """Begin the builds whose turn it is, from the very text that the first ones were read from."""
        request = of_part(part)
        try:
            parsed, _generation = self._read(request)
            again = _siblings(self._outline(parsed, request, part.parameters))
            if again != part.siblings:
                raise InputError(f"{part.uri} is not understood as it was when it was uploaded; upload it again")
        except Passing:
            raise
        except GoldsmithError as error:
            return tuple(self._reject(each, str(error)) for each in ready.values())
        return self._begin(ready, parsed, request)

    def _begun_formerly(self, name: str, request: Request) -> Build | None:
        """Return the build that the release before has begun for this request, delivered again during an upgrade."""
        return self._begun(Wanted(name, request.formerly, "")) if request.formerly else None

    def _claim_key(self, request: Request) -> None:
        """Write down what a key stands for, once. InputError when it stands for something else."""
        if not request.key:
            return
        with tempfile.NamedTemporaryFile(prefix="goldsmith-key-") as file:
            Path(file.name).write_text(request.asked)
            try:
                self._objects.write_once(key_uri(self._deployment.bucket, request.key), Path(file.name))
            except AlreadyExists as error:
                raise InputError(
                    "idempotency_key: another request was published with this key before, whose spec, its text or "
                    "parameters differ; publish this one with a key of its own"
                ) from error

    def _begin(self, chosen: Mapping[int, Wanted], parsed: ParsedSpec, request: Request) -> tuple[Build, ...]:
        """Begin builds of a text, by index, but those that deliveries before this one have begun."""
        known = [build for each in chosen.values() if (build := self._begun(each)) is not None]
        ids = {build.id for build in known}
        fresh = {index: each for index, each in chosen.items() if each.id not in ids}
        builds = [self._engine.resend(build.id) for build in known]
        if fresh:
            events = self._events(fresh, parsed, request)
            builds += [self._request(event, each) for event, each in zip(events, fresh.values(), strict=True)]
        return tuple(builds)

    def _events(
        self, fresh: Mapping[int, Wanted], parsed: ParsedSpec, request: Request
    ) -> Sequence[BuildRequested | BuildRejected]:
        now = self._backend.clock.now()
        with tempfile.TemporaryDirectory(prefix="goldsmith-intake-") as folder:
            places = UploadedPlaces(
                self._deployment, self._objects, request.uri, request.packed, now=now, keep=request.checked_keep()
            )
            contexts = UploadedContexts(
                self._objects,
                self._deployment.bucket,
                Path(folder),
                spec_uri=request.uri,
                packed=request.packed,
                now=now,
            )
            try:
                specs = read_specs(
                    parsed,
                    request.checked_parameters(),
                    self._builtin(request),
                    lambda data: places.check(data) + contexts.check(data),
                )
            except Passing:
                raise
            except GoldsmithError as error:
                return [self._rejected(each, str(error)) for each in fresh.values()]
            read, budgets = replace(request, inline=parsed), self._budgets()
            return [
                self._planned(specs[index].spec, each, contexts, places, read, budgets) for index, each in fresh.items()
            ]

    def _budgets(self) -> FamilyBudgets:
        return FamilyBudgets(self._deployment.limits.budgets, self._backend.store, self._backend.clock.now())

    def _planned(
        self,
        spec: Spec,
        each: Wanted,
        contexts: UploadedContexts,
        places: UploadedPlaces,
        request: Request,
        budgets: FamilyBudgets,
    ) -> BuildRequested | BuildRejected:
        requested = self._backend.clock.now()
        try:
            if self._backend.secret_versions is not None:
                spec = with_numbers(spec, self._backend.secret_versions)
            context = contexts.pack(spec)
            source, origin = self._source(spec, context, contexts, requested)
            plan = make_plan(
                spec,
                source=source,
                context=context,
                request=each.asked,
                requested=requested,
                provisioner_version=provisioner_version(),
                documents=contexts.documents(spec),
                origin=origin,
            )
            plan = replace(plan, author=self._authors.of(spec, request))
            if plan.image.export_to is not None:
                plan = replace(plan, exporter=resolve_maker(self._deployment.maker_image, self._backend.compute))
            if spec.triggers is not None and request.uri:
                plan = replace(plan, spec=request_key(request.uri, request.checked_parameters()))
            if each.workflow is None and request.uri:
                plan = replace(plan, read_from=self._spec_place(spec, request))
            event = admit(places.placed(anew(plan) if request.anew else plan), self._backend)
            if event.unchanged is None:
                budgets.spend(event.plan)
            repeated = ""
            if request.found is not None:
                repeated = register(spec, event.plan, request, self._is_there, self._backend)
            event = repeats(event, repeated, self._backend) if repeated else event
        except Passing:
            raise
        except GoldsmithError as error:
            return self._rejected(each, str(error))
        return replace(event, result=each.result, workflow=each.workflow, traceparent=each.traceparent)

    def _spec_place(self, spec: Spec, request: Request) -> SpecPlace:
        """Return where a spec lies, with what came with it; its packed contexts are where the build has copied them."""
        packed = renewed(request.packed, request.uri, self._backend.clock.now(), self._is_there)
        return SpecPlace(
            request.uri, dict(request.checked_parameters()), packed, source_keys(spec.source), request.generation
        )

    def _source(
        self, spec: Spec, context: Context | None, contexts: UploadedContexts, requested: float
    ) -> tuple[SourceImage, OriginPlan | None]:
        """Return the image that a spec starts from, and how a build VM makes it, if it does not exist yet."""
        if not is_from_nothing(spec.source):
            return resolve_source(spec.source, self._backend.compute), None
        maker = resolve_maker(self._deployment.maker_image, self._backend.compute)
        source, origin = plan_origin(spec, maker, context, requested, maker_version())
        if origin.place and contexts.lacks(spec, origin.place):
            raise InputError(f"source.{origin.kind}: {origin.place} is not in the context; upload it before the spec")
        return source, origin

    def _request(self, event: BuildRequested | BuildRejected, each: Wanted) -> Build:
        """Begin a build; one that the store refuses, being too large perhaps, is rejected with the store's words."""
        try:
            build = self._engine.request(event)
        except Passing:
            raise
        except NameTaken as error:  # by a build that was asked for at the same moment: planned again, it sees that
            raise Transient(f"{error}; the request is taken again") from error
        except GoldsmithError as error:
            if isinstance(event, BuildRejected):
                raise
            return self._reject(each, str(error))
        if build.state is not State.QUEUED:
            return build
        give_turns(self._backend, self._backend.clock.now() + TURNS)
        return self._backend.store.load(build.id).build

    def _reject(self, each: Wanted, reason: str) -> Build:
        try:
            return self._engine.request(self._rejected(each, reason))
        except TooLarge as error:  # a workflow of very many builds: those that wait for this one are lost with it
            LOG.warning("%s is rejected without its workflow: %s", each.asked, error)
            return self._engine.request(self._rejected(replace(each, workflow=None), reason))

    def _rejected(self, each: Wanted, reason: str) -> BuildRejected:
        LOG.info("%s is rejected: %s", each.asked, reason)
        return BuildRejected(
            build_id=each.id,
            event_id="request",
            time=self._backend.clock.now(),
            name=each.name,
            request=request_digest(each.asked),
            reason=_cut(reason),
            result=each.result,
            workflow=each.workflow,
            traceparent=each.traceparent,
        )

    def _is_there(self, uri: str) -> bool:
        return self._objects.stat(uri) is not None

    def _known(self, build_id: str) -> Build | None:
        try:
            return self._backend.store.load(build_id).build
        except NotFound:
            return None

    def _begun(self, each: Wanted) -> Build | None:
        """Return the build that an earlier delivery has begun; the world may have changed since."""
        build = self._known(each.id)
        return build if build is not None and build.request == request_digest(each.asked) else None

    def _builtin(self, request: Request) -> Mapping[str, str]:
        return builtin_substitutions(self._deployment.project, request.asked)

    def _outline(self, parsed: ParsedSpec, request: Request, parameters: Mapping[str, str]) -> tuple[SpecBuild, ...]:
        """Return the builds of a workflow; () for one that is invalid without a look at the files that it names."""
        try:
            return read_specs(parsed, parameters, self._builtin(request))
        except SpecError:
            return ()

    def _read(self, request: Request) -> tuple[ParsedSpec, str]:
        """Return a spec, and the generation of the object that it was read from. InputError, NotFound."""
        if request.inline is not None:
            refuse_long(len(request.inline.text.encode(errors="replace")), request.inline.filename)
            return request.inline, ""
        refuse_hidden(request.uri, self._deployment.bucket)
        found = request.found or self._objects.stat(request.uri, request.generation)
        if found is None and request.generation:
            raise InputError(f"{request.uri} was replaced or deleted while its builds were under way; upload it again")
        if found is None:
            raise InputError(f"{request.uri} does not exist; upload the spec first")
        return parse(self._text(found), request.uri), found.generation

    def _text(self, found: StoredObject) -> str:
        refuse_long(found.size, found.uri)
        with tempfile.NamedTemporaryFile(prefix="goldsmith-spec-") as file:
            self._objects.download(found, Path(file.name))
            return decode(Path(file.name).read_bytes(), found.uri)


def _cut(reason: str) -> str:
    """Shorten a reason, so that a build which says what is wrong can always be stored."""
    left = len(reason) - REASON_LIMIT
    return reason if left <= 0 else f"{reason[:REASON_LIMIT]}\n... and {left} characters more of the same"


def _siblings(outline: Iterable[SpecBuild]) -> tuple[Sibling, ...]:
    return tuple(Sibling(build.spec.name, build.after) for build in outline)


def _part(
    outline: Sequence[SpecBuild], request: Request, generation: str, parameters: Mapping[str, str]
) -> WorkflowPart | None:
    """Return what the first of several builds has to know of the others; None for a single build. InputError."""
    if len(outline) <= 1:
        return None
    if not request.uri:
        raise InputError("a workflow of several builds is read again for each; upload it, and name the object here")
    return WorkflowPart(
        uri=request.uri,
        generation=generation,
        asked=request.asked,
        result=request.result,
        index=0,
        siblings=_siblings(outline),
        parameters=dict(parameters),
        packed=request.packed,
        keep=request.keep,
        author=request.author or "",
        traceparent=request.traceparent,
    )
