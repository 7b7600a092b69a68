"""Decide what specs with `triggers` are to be built for. Pure: time, the source image and ends of builds are values.

    accept()   a spec with triggers was uploaded or added
    advance_trigger()  strike builds that have ended, then ask for the next one if there is a new cause

Each build has a cause that the trigger remembers, so that it is asked for once: the source image's id, or the number of
the period. Periods that have passed unnoticed are made up for by one build. Two causes at once ask for one build, which
is made anew if a period is over.

A document with a `cascade` asks for one build, and is removed when that has begun.

After too many failures in a row it is paused. What happens meanwhile is one cause once it is resumed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from ..build.build import LOST, Build, Outcome, State
from ..build.limits import FAILURES, OVER_BUDGET
from ..build.plan import Plan
from ..build.trigger import Cascade, CauseKind, Trigger, TriggeredBuild, next_build, spec_digest, trigger_id

if TYPE_CHECKING:  # a tenth of a second of pydantic
    from ..spec.model import Source, Spec

_Listed = TypeVar("_Listed")

BAD = (Outcome.FAILED, Outcome.TIMED_OUT)
MOST_OPEN = 20  # builds of one trigger that have not ended; no more are asked for
UNBEGUN_SECONDS = 7 * 86_400.0  # seconds after which a build that was asked for and has not begun counts as ended
AHEAD = 30 * 86_400.0  # seconds by which a clock must have been ahead for its periods to count for nothing
STRIDE = 61  # a prime: triggers by which the first one of a minute is further on
EAGER = 3600.0  # seconds for which such a build is asked for each minute; then it is each tenth minute


def offer(spec: Spec, place: str, text: str, parameters: Mapping[str, str], now: float, **request: Any) -> Trigger:
    """Return the trigger of a spec, by its URI or path. `request` has what else is kept of an upload."""
    triggers = spec.triggers
    request.setdefault("digest", spec_digest(text, parameters, None))
    return Trigger(
        id=trigger_id(place),
        spec=place,
        name=spec.name,
        text=text,
        accepted=now,
        parameters=dict(parameters),
        source=source_keys(spec.source),
        source_changed=triggers is not None and triggers.source_changed,
        every=0.0 if triggers is None else triggers.every or 0.0,
        spec_changed=triggers is not None and triggers.spec_changed,
        **request,
    )


def source_keys(source: Source) -> dict[str, Any]:
    """Return the keys of a source that say which image it is; {} for one that is made from nothing."""
    names = ("project", "image", "family", "milestone", "arch")
    return {name: value for name in names if (value := getattr(source, name)) is not None}


def end_trigger(trigger: Trigger, now: float) -> Trigger:
    """Return a trigger that asks for nothing any more."""
    return replace(trigger, removed=now, asked=())


def accept(known: Trigger | None, offered: Trigger, source: str) -> Trigger:
    """Return a trigger after its spec was accepted, to be built from the image `source`, as `offered` has it.

    The upload itself asks for a build of it, so that what was asked for and has not begun is not wanted any more.
    Periods go on as before where they are as long.
    """
    if known is None:
        return replace(offered, since=offered.accepted, seen_source=source, seen_digest=offered.digest)
    same = known.is_active and known.digest == offered.digest
    same_period = known.is_active and known.every == offered.every
    return replace(
        offered,
        since=known.since if same_period else offered.accepted,
        period=known.period if same_period else 0,
        seen_source=source,
        seen_digest=offered.digest,
        number=known.number,
        pauses=known.pauses,
        built=known.built if same else "",
        failures=known.failures if same else 0,
        paused=known.paused if same else 0.0,
    )


def edit(known: Trigger, offered: Trigger, formerly: str = "") -> Trigger:
    """Return a trigger of one machine once its file has been read again; no build is asked for by that.

    `formerly` is the digest that the release before would have kept, which did not look at the context.
    """
    if known.digest == offered.digest:
        return known
    if known.digest == formerly:
        seen = offered.digest if known.seen_digest == formerly else known.seen_digest
        return replace(known, digest=offered.digest, seen_digest=seen)
    after = accept(known, offered, known.seen_source if known.source == offered.source else "")
    return replace(
        after, seen_digest=known.seen_digest, asked=known.asked if known.name == offered.name else (), built=known.built
    )


def resume_paused(trigger: Trigger) -> Trigger:
    """Return a trigger that asks for builds again."""
    return replace(trigger, paused=0.0, failures=0)


def is_older(offered: Trigger, known: Trigger | None) -> bool:
    """Return whether a later upload than the offered one was accepted already."""
    if known is None or not (known.generation.isdecimal() and offered.generation.isdecimal()):
        return False
    return int(offered.generation) < int(known.generation)


def advance_trigger(
    trigger: Trigger, builds: Mapping[str, Build | None], source: str, now: float, most_failures: int = FAILURES
) -> Trigger:
    """Return a trigger after a look at the builds that it has asked for, and at its source's id; "": not known."""
    if trigger.cascade is not None:
        return _advance_cascade(trigger, trigger.cascade, builds, source, now)
    after, lost = _strike(trigger, builds, now, most_failures)
    return _ask(_ask_again(after, lost, now), builds, source, now)


def _advance_cascade(
    trigger: Trigger, cascade: Cascade, builds: Mapping[str, Build | None], source: str, now: float
) -> Trigger:
    """Return the document of a build that a revocation asks for, once its source leads to a good image."""
    if trigger.asked:
        [asked] = trigger.asked
        begun = builds.get(asked.id) is not None or now - asked.time >= UNBEGUN_SECONDS
        return end_trigger(trigger, now) if begun else trigger
    if now >= cascade.until:
        return end_trigger(trigger, now)
    if source in ("", *cascade.bad):
        return trigger
    build = next_build(trigger, "revoked", f"{cascade.image} {trigger.id}", now)
    return replace(trigger, number=build.number, asked=(build,), seen_source=source)


def unanswered(
    trigger: Trigger, builds: Mapping[str, Build | None], now: float, *, each_minute: bool = True
) -> tuple[TriggeredBuild, ...]:
    """Return the builds to ask for again, since they have not begun; not always all, if that is each minute."""
    waiting = (each for each in trigger.asked if builds.get(each.id) is None)
    return tuple(each for each in waiting if not each_minute or _is_its_minute(now - each.time))


def in_turn(triggers: Sequence[_Listed], now: float) -> Sequence[_Listed]:
    """Return triggers in another order each minute: the last ones of each are those that there may be no time for."""
    number = max(1, len(triggers))
    first = int(now // 60) * (STRIDE if number % STRIDE else 1) % number
    return (*triggers[first:], *triggers[:first])


def _is_its_minute(waited: float) -> bool:
    return waited < EAGER or int(waited // 60) % 10 == 0


def anew(plan: Plan) -> Plan:
    """Return a plan that is carried out even if nothing has changed, without earlier results of other hosts."""
    return replace(plan, rebuild="always", cache=replace(plan.cache, max_age=0.0))


def _strike(
    trigger: Trigger, builds: Mapping[str, Build | None], now: float, most_failures: int
) -> tuple[Trigger, Sequence[TriggeredBuild]]:
    """Strike the builds that have ended, and pause the trigger where too many have failed in a row.

    Returned are the document, and the builds whose process was killed, since their cause still needs a build. They
    count as failed, or a build that takes its machine down would do so for ever.
    """
    left, lost, failures = [], [], trigger.failures
    for each in trigger.asked:
        build = builds.get(each.id)
        if not _has_ended(each, build, now):
            left.append(each)
        elif build is not None and build.plan is None and build.reason.startswith(OVER_BUDGET):
            continue  # nothing is wrong with the spec: a pause would outlast the budget's lack of room
        elif build is None or build.outcome in BAD:
            failures += 1
        elif build.outcome is Outcome.CANCELLED and build.reason == LOST:
            lost.append(each)
            failures += 1
        elif build.outcome is not Outcome.CANCELLED:
            failures = 0
    if len(left) == len(trigger.asked):
        return trigger, ()
    after = replace(trigger, asked=tuple(left), failures=failures)
    if failures >= most_failures and not trigger.paused:
        after = replace(after, paused=now, pauses=trigger.pauses + 1)
    return after, lost


def _has_ended(asked: TriggeredBuild, build: Build | None, now: float) -> bool:
    return now - asked.time >= UNBEGUN_SECONDS if build is None else build.ended


def _ask_again(trigger: Trigger, lost: Sequence[TriggeredBuild], now: float) -> Trigger:
    """Ask for the last of the builds that were lost once more, under a new number."""
    if not lost or not trigger.is_active or trigger.paused:
        return trigger
    build = next_build(trigger, lost[-1].kind, lost[-1].cause, now)
    return replace(trigger, number=build.number, asked=(*trigger.asked, build))


def _ask(trigger: Trigger, builds: Mapping[str, Build | None], source: str, now: float) -> Trigger:
    """Ask for the next build if there is a new cause.

    One for a period waits until the one before has left the queue: it would supersede that, and stand behind all
    others, so that where queues are longer than periods none would ever begin.
    """
    if not trigger.is_active or trigger.paused or len(trigger.asked) >= MOST_OPEN:
        return trigger
    period = int((now - trigger.since) // trigger.every) if trigger.every else 0
    if now >= trigger.since and (trigger.period - period) * trigger.every > AHEAD:
        return replace(trigger, period=period)
    is_over = period > trigger.period and not any(_is_queued(each, builds) for each in trigger.asked)
    is_new = trigger.source_changed and source not in ("", trigger.seen_source)
    is_changed = trigger.spec_changed and trigger.seen_digest not in ("", trigger.digest)
    kind: CauseKind
    if is_over:
        kind, cause = "every", f"{trigger.since:.0f}+{period}*{trigger.every:.0f}"
    elif is_changed:
        kind, cause = "spec", trigger.digest
    elif is_new:
        kind, cause = "source", source
    else:
        return trigger
    build = next_build(trigger, kind, cause, now)
    return replace(
        trigger,
        seen_source=source or trigger.seen_source,
        seen_digest=trigger.digest,
        period=period if is_over else trigger.period,
        number=build.number,
        asked=(*trigger.asked, build),
    )


def _is_queued(asked: TriggeredBuild, builds: Mapping[str, Build | None]) -> bool:
    build = builds.get(asked.id)
    return asked.kind == "every" and build is not None and build.state is State.QUEUED
