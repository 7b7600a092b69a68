"""Take what a person asks for: it is checked here, by who has the right to do it, and not where it was asked.

Who publishes it has proved the person's mail address, and nothing else. A request is recorded with what came of it, in
words, also one that is refused. Timeline of one that is delivered twice:

    A   none ── accepted ── acts ── done                 each arrow is a conditional write; acts can be repeated
    B          none ── refused: accepted ── acts ── done there already
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace

from ..backend import Backend
from ..build.image.people import person_of
from ..errors import GoldsmithError, Passing, PoisonMessage, Transient
from ..person_requests import PersonRequest, PersonRequestKind
from .targets import seen_now

LOG = logging.getLogger(__name__)

Act = Callable[[PersonRequest, Backend], str]
"""Does what is asked for, and returns what has come of it, in words. GoldsmithError where it cannot be."""

_CHANGED = "it is not any more as it was shown; look again, and ask again if you still want it"
_TRIES = 20  # of a conditional write


def why_not(kind: PersonRequestKind, by: str, channel: str, backend: Backend) -> str:
    """Return why a person may not ask for something; "" for one who may."""
    if backend.identities is None:
        return ""  # a person who reaches the dashboard of one machine can run its commands
    if not by:
        return "nothing proves who you are, so nothing can be changed here"
    if kind in ("approve", "refuse"):
        found = backend.channels().get(channel)
        if found is None or by not in found.approvers:
            return f"{by} is no approver of the channel {channel}"
        return ""
    person = backend.people().get(person_of(by, backend.people()))
    return "" if person is not None and person.operator else f"{by} is no operator of this deployment"


def take_person_request(asked: PersonRequest, acts: Mapping[PersonRequestKind, Act], backend: Backend) -> PersonRequest:
    """Do what a person asks for, or refuse it; return it as it is recorded. PoisonMessage; Passing, to be repeated."""
    act = acts.get(asked.kind)
    if act is None:
        raise PoisonMessage(f"a person's request to {asked.kind} does not belong here")
    for _ in range(_TRIES):
        known = backend.store.person_request(asked.id)
        if known is not None and not _is_same(known, asked):
            raise PoisonMessage(f"request {asked.id} is of another person, or about something else")
        if known is not None and known.has_ended:
            return known
        if known is not None:
            return _done(known, act, backend)
        why = _refusal(asked, backend)
        wanted = asked.after("refused", why, backend.clock.now()) if why else replace(asked, state="accepted")
        if not backend.store.save_person_request(wanted, None):
            continue
        _tell(wanted)
        return wanted if why else _done(wanted, act, backend)
    raise Transient(f"request {asked.id} is being taken by others")


def _is_same(known: PersonRequest, asked: PersonRequest) -> bool:
    return (known.by, known.kind, known.target, known.channel) == (asked.by, asked.kind, asked.target, asked.channel)


def _refusal(asked: PersonRequest, backend: Backend) -> str:
    """Return why a request is refused; "" for one that is not."""
    if why := why_not(asked.kind, asked.by, asked.channel, backend):
        return why
    if not asked.reason.strip() or not asked.reason.isprintable():
        return "a reason is needed, in one line: it is recorded"
    try:
        now = seen_now(asked.kind, asked.target, asked.channel, backend)
    except Passing:
        raise
    except GoldsmithError as error:
        return str(error)
    return "" if now == asked.seen else _CHANGED


def _done(accepted: PersonRequest, act: Act, backend: Backend) -> PersonRequest:
    """Do what was accepted, and record what has come of it."""
    try:
        ended = accepted.after("done", act(accepted, backend), backend.clock.now())
    except Passing:
        raise
    except GoldsmithError as error:
        ended = accepted.after("failed", str(error), backend.clock.now())
    if not backend.store.save_person_request(ended, accepted):
        return backend.store.person_request(accepted.id) or ended  # by another delivery
    _tell(ended)
    return ended


def _tell(asked: PersonRequest) -> None:
    where = f" to {asked.channel}" if asked.channel else ""
    LOG.info(
        "%s asks to %s %s%s (%s): %s%s",
        asked.by,
        asked.kind,
        asked.target,
        where,
        asked.reason,
        asked.state,
        f": {asked.told}" if asked.told else "",
    )
