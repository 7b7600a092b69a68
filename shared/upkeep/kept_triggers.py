"""The specs of one machine that are built again by themselves: kept in its store until `goldsmith triggers run`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from ..backend import Backend
from ..build.damage import Damaged
from ..build.events import BuildRejected
from ..build.trigger import Trigger, TriggeredBuild, trigger_id
from ..errors import InputError, Transient
from ..planning.triggers import accept, edit, end_trigger, resume_paused
from .triggers import look_at, pause_announcement

TRIES = 20  # of a conditional write
_PAUSE = 0.1  # seconds


class KeptTriggers:
    """The triggers of a machine, whose specs are called by their paths."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._store = backend.store

    def listed(self) -> Sequence[Trigger | Damaged]:
        """Return all triggers, by the paths of their specs, and then those that cannot be read."""
        found = self._store.triggers()
        return sorted(found, key=lambda each: (isinstance(each, Damaged), getattr(each, "spec", "")))

    def add(self, offered: Trigger) -> Trigger:
        """Keep a spec that has triggers, or keep it with other parameters; the next look builds it."""

        def after(known: Trigger | None) -> Trigger:
            return replace(resume_paused(accept(known, offered, "")), since=offered.accepted, period=-1)

        return self._write(offered.spec, after)

    def remove(self, path: str) -> None:
        """Build a spec no more by itself. InputError for one that has not been added."""
        self._write(path, lambda known: end_trigger(_there(known, path), self._backend.clock.now()))

    def resume(self, path: str) -> None:
        """Let the triggers of a spec ask for builds again. InputError for one that has not been added."""
        self._write(path, lambda known: resume_paused(_there(known, path)))

    def due(self, trigger: Trigger, offered: Trigger, source: str, formerly: str = "") -> tuple[TriggeredBuild, ...]:
        """Write down what has to be built of a spec, as its file is now, from the image of this id; return that.

        `formerly` is as for edit().
        """
        now = edit(trigger, offered, formerly)
        if now != trigger and not self._store.save_trigger(now, trigger):
            return ()
        return look_at(now, source, self._backend, each_minute=False).wanted

    def count(self, trigger: Trigger) -> BuildRejected | None:
        """Count the builds that have ended; return what announces that the trigger is paused, if it was not yet."""
        known = self._store.trigger(trigger.id)
        if known is None or not known.is_active:
            return None
        after = known if known.paused else look_at(known, "", self._backend).trigger
        return pause_announcement(after, self._backend) if after.paused else None

    def _write(self, path: str, change: Callable[[Trigger | None], Trigger]) -> Trigger:
        """Write what a change makes of a trigger; return that. Transient while others write it all the time."""
        for _ in range(TRIES):
            known = self._store.trigger(trigger_id(path))
            made = change(known)
            if self._store.save_trigger(made, known):
                return made
            self._backend.clock.pause(_PAUSE)
        raise Transient(f"the triggers of {path} were written by other processes all the time; try again")


def _there(known: Trigger | None, path: str) -> Trigger:
    if known is None or not known.is_active:
        raise InputError(f"{path} has not been added; see: goldsmith triggers list")
    return known
