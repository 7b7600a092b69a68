"""Specs with `triggers`: registered when they are uploaded, and built when their triggers ask for it."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ..backend import Backend
from ..build.build import ImageRecord, Outcome
from ..build.events import BuildRequested
from ..build.plan import Plan
from ..build.trigger import (
    MOST_TRIGGERS,
    TRIGGER_TEXT_LIMIT,
    Trigger,
    request_of,
    spec_digest,
    trigger_id,
)
from ..errors import InputError, PoisonMessage, Transient
from ..ownership import find_build
from ..planning.triggers import accept, end_trigger, is_older, offer, resume_paused
from ..ports import StoredObject
from ..quantities import format_duration
from ..spec.model import Spec
from ..spec.read import parse
from ..submission import CONTEXT_METADATA, kept_uri, named_digest, names_contexts, result_uri, split_uri
from .request import PUBLISHED, SUFFIX_DIGITS, Request

LOG = logging.getLogger(__name__)

LONGEST_PERIOD = 30 * 86_400.0  # seconds: a build copies its packed context for the month, which is kept 61 days
LARGEST_MESSAGE = 4096  # bytes, of one about triggers
TRIES = 8  # of a conditional write
_PAUSE = 0.2  # seconds
_ID = re.compile("[0-9a-f]{32}")  # of a trigger: what else can name other documents, or none at all


def register(spec: Spec, plan: Plan, request: Request, is_there: Callable[[str], bool], backend: Backend) -> str:
    """Write down what an accepted upload is to be built again for, or that it has no triggers any more.

    It is done before its build begins: an upload that is delivered again after that has nothing left to register.
    `is_there` says whether there is an object of a URI. Returns the id of the build of an earlier upload that this one
    only repeats; "" for one that has to be built.
    InputError for a spec that is too long, or one too many; Transient.
    """
    for tries in range(TRIES):
        known = backend.store.trigger(trigger_id(request.uri))
        if spec.triggers is None and (known is None or not known.is_active):
            return ""
        offered = _offered(spec, request, is_there, plan.author, backend.clock.now())
        if is_older(offered, known):
            LOG.info("%s#%s was replaced by a later upload already; its triggers stay", request.uri, request.generation)
            return ""
        if spec.triggers is not None and (known is None or not known.is_active):
            _refuse_more(backend)
        if known is not None and known.generation == offered.generation and spec.triggers is not None:
            return known.built if known.built != plan.build_id else ""  # delivered again
        after = _after(known, offered, plan.source.id, spec)
        repeated = after.built if after.spec_changed and _is_good(after.built, backend) else ""
        if backend.store.save_trigger(replace(after, built=repeated or plan.build_id), known):
            return repeated
        backend.clock.pause(_PAUSE * (tries + 1))
    raise Transient(f"the triggers of {request.uri} were written by other processes all the time")


def _is_good(build_id: str, backend: Backend) -> bool:
    """Return whether a build has not failed."""
    build = find_build(build_id, backend)
    return build is not None and build.outcome in (None, Outcome.SUCCEEDED, Outcome.UNCHANGED)


def repeats(event: BuildRequested, build_id: str, backend: Backend) -> BuildRequested:
    """Return the request of an upload that repeats the one before: unchanged if that is built, else it waits for it."""
    earlier = find_build(build_id, backend)
    if earlier is None or earlier.outcome is None or earlier.image is None:
        return replace(event, plan=replace(event.plan, rebuild="changed"), queued=True, replaces="", taken_up=None)
    image = backend.compute.image(earlier.image.project, earlier.image.name)
    if image is None or image.id != earlier.image.id or image.is_obsolete:
        return event
    record = ImageRecord(image.project, image.name, image.id)
    return replace(event, unchanged=record, queued=False, replaces="", taken_up=None)


def _after(known: Trigger | None, offered: Trigger, source: str, spec: Spec) -> Trigger:
    after = accept(known, offered, source)
    return after if spec.triggers is not None else end_trigger(after, offered.accepted)


def _offered(spec: Spec, request: Request, is_there: Callable[[str], bool], author: str, now: float) -> Trigger:
    """Return the trigger of an upload. InputError for a text that is too long."""
    triggers, text = spec.triggers, "" if request.inline is None else request.inline.text
    if triggers is not None and len(text) > TRIGGER_TEXT_LIMIT:
        raise InputError(
            f"triggers: the spec has {len(text)} characters, and one with triggers has {TRIGGER_TEXT_LIMIT} at most; "
            "move data into files of the context"
        )
    every = None if triggers is None else triggers.every
    if triggers is not None and _is_kept(request) and (every is None or every > LONGEST_PERIOD):
        longest = format_duration(LONGEST_PERIOD)
        raise InputError(
            f"triggers: a packed context is deleted when it was not used for two months; write every: {longest} or "
            "less, or upload the files beside the spec, which stay"
        )
    return offer(
        spec,
        request.uri,
        text,
        request.checked_parameters(),
        now,
        generation=request.generation,
        digest=spec_digest(text, request.checked_parameters(), renewed(request.packed, request.uri, 0.0)),
        packed=renewed(request.packed, request.uri, now, is_there),
        keep=request.keep,
        author=author,
    )


def _refuse_more(backend: Backend) -> None:
    """Raise InputError where no more specs may have triggers: each minute all of them are looked at."""
    rebuilds = [isinstance(each, Trigger) and each.cascade is not None for each in backend.store.triggers()]
    there = rebuilds.count(False)  # builds that revocations ask for have a limit of their own
    if there >= MOST_TRIGGERS:
        raise InputError(
            f"triggers: {there} specs of this deployment have some, and {MOST_TRIGGERS} may; upload those that are "
            "not used any more without triggers, then delete them"
        )


def request_of_trigger(trigger_key: str, number: int, live: StoredObject | None, backend: Backend) -> Request | None:
    """Return the request for a build that a trigger has written down; None where it is not wanted any more.

    `live` is the spec's object as it is now. Where it is gone, so are its triggers; a build that a revocation asks for
    is rejected then, which its author sees.
    """
    trigger = backend.store.trigger(trigger_key)
    build = None if trigger is None else next((each for each in trigger.asked if each.number == number), None)
    if trigger is None or build is None or not trigger.is_active:
        LOG.info("build %d of trigger %s is not wanted any more", number, trigger_key)
        return None
    if live is None and trigger.cascade is None:
        LOG.info("%s was deleted; its triggers are removed", trigger.spec)
        backend.store.save_trigger(end_trigger(trigger, backend.clock.now()), trigger)
        return None
    bucket, name = split_uri(trigger.spec)
    which = number if trigger.cascade is None else trigger.id[:SUFFIX_DIGITS]
    suffix = f"{build.kind}-{which}{PUBLISHED.removesuffix('.json')}"
    return Request(
        asked=request_of(trigger, build),
        stem=trigger.name,
        result=result_uri(bucket, name, suffix),
        uri=trigger.spec,
        generation="" if trigger.cascade is not None else trigger.generation,
        inline=None if trigger.cascade is not None else parse(trigger.text, trigger.spec),
        parameters=trigger.parameters,
        packed=_packed_now(trigger, live),
        keep=trigger.keep,
        anew=build.kind in ("every", "revoked"),
        author=_author_now(trigger, live),
    )


def _author_now(trigger: Trigger, live: StoredObject | None) -> str:
    """Return the author of what a build is made of: where the spec is read as it is now, of the object then alone."""
    same = live is not None and live.generation == trigger.generation
    return trigger.author if trigger.cascade is None or same else ""


def _packed_now(trigger: Trigger, live: StoredObject | None) -> str | None:
    """Return the packed contexts for a build: where the spec is read as it is now, those that came with it."""
    came = None if live is None else live.metadata.get(CONTEXT_METADATA)
    same = renewed(came, trigger.spec, 0.0) == renewed(trigger.packed, trigger.spec, 0.0)
    return trigger.packed if trigger.cascade is None or came is None or same else came


def renewed(
    packed: str | None, spec: str, now: float, is_there: Callable[[str], bool] = lambda _uri: True
) -> str | None:
    """Return where the packed contexts of an upload lie once a build has begun with them, which copies them.

    What is no such thing stays as it is: the build says so. So does one whose copy is not there: the build may have
    begun in the month before.
    """
    if packed is None or not names_contexts(packed):
        return packed and _kept(packed, spec, now, is_there)
    try:
        named = json.loads(packed)
    except (ValueError, RecursionError):
        return packed
    return json.dumps({name: _kept(uri, spec, now, is_there) for name, uri in named.items()})


def _kept(uri: Any, spec: str, now: float, is_there: Callable[[str], bool]) -> Any:
    own = split_uri(spec)[0]
    name = uri.removeprefix(f"gs://{own}/") if isinstance(uri, str) else ""
    for suffix in (".tar", ".json"):
        if digest := named_digest(name, suffix):
            kept = kept_uri(own, digest, suffix, now)
            return kept if is_there(kept) else uri
    return uri


def _is_kept(request: Request) -> bool:
    """Return whether something that came with an upload is kept by its digest, and for a while."""
    return renewed(request.packed, request.uri, 0.0) != request.packed


def end_cascade(trigger_key: str, backend: Backend) -> None:
    """Remove the document of a build that a revocation has asked for, since that has begun."""
    known = backend.store.trigger(trigger_key)
    if known is not None and known.is_active and known.cascade is not None:
        backend.store.save_trigger(end_trigger(known, backend.clock.now()), known)


def renew(trigger_key: str, is_there: Callable[[str], bool], backend: Backend) -> None:
    """Write down where the packed contexts of a trigger lie after a build of it has begun."""
    known = backend.store.trigger(trigger_key)
    if known is not None and known.packed is not None:
        packed = renewed(known.packed, known.spec, backend.clock.now(), is_there)
        if packed != known.packed:
            backend.store.save_trigger(replace(known, packed=packed), known)


def resume_named(data: bytes, backend: Backend) -> bool:
    """Resume the triggers of a spec where a message asks for that; return whether it does. PoisonMessage, Transient."""
    document = _small_document(data)
    if set(document) != {"resume"}:
        return False
    spec = document["resume"]
    for tries in range(TRIES):
        known = backend.store.trigger(trigger_id(spec)) if isinstance(spec, str) else None
        if known is None or not known.is_active:
            raise PoisonMessage(f"a request to resume the triggers of {spec!r:.200}, which has none")
        if not known.paused or backend.store.save_trigger(resume_paused(known), known):
            LOG.info("the triggers of %s are resumed", known.spec)
            return True
        backend.clock.pause(_PAUSE * (tries + 1))
    raise Transient(f"the triggers of {spec} were written by other processes all the time")


def named_trigger(data: bytes) -> tuple[str, int] | None:
    """Return which trigger and build a message asks for; None for any other, also if that can be no trigger's id."""
    document = _small_document(data)
    if set(document) != {"trigger", "number"}:
        return None
    key, number = document["trigger"], document["number"]
    return (key, number) if isinstance(key, str) and _ID.fullmatch(key) and type(number) is int else None


def _small_document(data: bytes) -> dict[str, Any]:
    """Return the JSON object that a message about triggers is; {} for any other message."""
    try:
        document = json.loads(data) if len(data) <= LARGEST_MESSAGE else None
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}
