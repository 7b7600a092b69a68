"""Ask for the builds of specs with `triggers`, each minute.

    look at the builds asked for, and at the source ── decide ── write down, if still as it was ── ask by a message
                                                                       └─ or another process has done so: nothing

Each message names a build that is written down, so that it may come any number of times. What has no build a minute
later is asked for again.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..backend import Backend
from ..build.build import Build
from ..build.damage import Damaged
from ..build.events import BuildRejected
from ..build.identity import build_id, request_digest
from ..build.plan import SourceImage
from ..build.trigger import Trigger, TriggeredBuild, pause_request
from ..engine.engine import Engine
from ..errors import DamagedDocument, GoldsmithError, NotFound
from ..ownership import is_built_from
from ..planning.triggers import advance_trigger, in_turn, unanswered
from ..ports import Message
from ..topology import REQUESTS_TOPIC

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class LookedAt:
    """One trigger after a look, and the builds that have to be asked for."""

    trigger: Trigger
    wanted: tuple[TriggeredBuild, ...]


class SourceLooks:
    """Source images, each looked up once: many specs start from one family."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._found: dict[str, SourceImage | None] = {}

    def image_of(self, source: Mapping[str, Any]) -> SourceImage | None:
        """Return the image that the keys of `source` name; None where that cannot be told now."""
        key = json.dumps(source, sort_keys=True)
        if key not in self._found:
            self._found[key] = self._look_up(source)
        return self._found[key]

    def _look_up(self, source: Mapping[str, Any]) -> SourceImage | None:
        from ..planning.sources import named_source  # and all of pydantic, where a spec has such a trigger

        try:
            return named_source(source, self._backend.compute)
        except (GoldsmithError, ValueError) as error:
            LOG.warning("the source of a trigger cannot be looked up: %s", error)
            return None


def pull_triggers(backend: Backend, end: float) -> list[str]:
    """Ask for all builds that are due; return their ids. No fault of one trigger keeps the others waiting."""
    looks, asked = SourceLooks(backend), []
    for trigger in in_turn(backend.store.triggers(), backend.clock.now()):
        if backend.clock.now() >= end:
            LOG.warning("no time is left for some triggers; they are looked at in the next minute")
            break
        if isinstance(trigger, Damaged):
            LOG.warning("%s", trigger.why, extra={"metric": "damaged_document"})
            continue
        try:
            asked += _pull(trigger, looks, backend)
        except GoldsmithError as error:
            LOG.warning("trigger of %s: %s", trigger.spec, error)
    return asked


def _pull(trigger: Trigger, looks: SourceLooks, backend: Backend) -> list[str]:
    source = looks.image_of(trigger.source) if trigger.source_changed else None
    cascade = trigger.cascade
    if source is not None and cascade is not None and is_built_from(source, cascade.bad, backend):
        source = None  # by a build that was under way when the image was revoked
    looked = look_at(trigger, "" if source is None else source.id, backend)
    if cascade is not None and not looked.trigger.is_active and not trigger.asked:
        text = "%s is not built again for the revocation of %s: its source has led to no good image for so long"
        LOG.warning(text, trigger.spec, cascade.image)
    if looked.trigger.paused and (announcement := pause_announcement(looked.trigger, backend)) is not None:
        LOG.warning("%s", announcement.reason, extra={"metric": "trigger_paused"})
        Engine(backend.store, backend.bus, backend.clock).request(announcement)
    for build in looked.wanted:
        LOG.info("build %s is asked for by the trigger of %s: %s %s", build.id, trigger.spec, build.kind, build.cause)
        backend.bus.publish(trigger_message(trigger, build))
    return [build.id for build in looked.wanted]


def look_at(trigger: Trigger, source: str, backend: Backend, *, each_minute: bool = True) -> LookedAt:
    """Decide what a trigger asks for, and write it down. Nothing is wanted where another process was faster.

    Who does not look each minute wants all that has not begun, however long ago it was asked for.
    """
    builds = {each.id: _known(each.id, backend) for each in trigger.asked}
    now = backend.clock.now()
    after = advance_trigger(trigger, builds, source, now, backend.trigger_failures)
    if after != trigger and not backend.store.save_trigger(after, trigger):
        return LookedAt(trigger, ())
    return LookedAt(after, unanswered(after, builds, now, each_minute=each_minute))


def pause_announcement(trigger: Trigger, backend: Backend) -> BuildRejected | None:
    """Return the failed build that says that a trigger is paused, to all that hear of builds; None if there is one."""
    request = pause_request(trigger)
    identity = build_id(trigger.name, request)
    if _known(identity, backend) is not None:
        return None
    how = "publish a request to resume it" if "://" in trigger.spec else f"goldsmith triggers resume {trigger.spec}"
    reason = (
        f"the triggers of {trigger.spec} are paused, since {trigger.failures} builds in a row have failed; correct the "
        f"cause, then upload a changed spec, or: {how}"
    )
    return BuildRejected(
        build_id=identity,
        event_id="request",
        time=backend.clock.now(),
        name=trigger.name,
        request=request_digest(request),
        reason=reason,
    )


def trigger_message(trigger: Trigger, build: TriggeredBuild) -> Message:
    """Return the message that asks for a build of a trigger."""
    return Message(REQUESTS_TOPIC, json.dumps({"trigger": trigger.id, "number": build.number}).encode(), {})


def _known(build_id: str, backend: Backend) -> Build | None:
    try:
        return backend.store.load(build_id).build
    except (NotFound, DamagedDocument):
        return None
