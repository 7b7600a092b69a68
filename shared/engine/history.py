"""Read a build's recorded events a page at a time.

A guest may have thousands of them recorded, with 64 KiB in each. A caller that needs some of them asks for their kinds,
and never holds more than a page at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..build.build import Build
from ..build.damage import Damaged, tell_damaged
from ..build.events import BuildRequested, Event, TurnCame
from ..ports import PAGE, Store

AGAIN = 30  # looks at a build of which nothing new is recorded, before it is read all the same


def each_event(store: Store, build_id: str, kinds: Sequence[str] = ()) -> Iterator[Event]:
    """Read a build's events that can be read, in their order; each of the others is logged, and counted."""
    for event in each_record(store, build_id, kinds):
        if isinstance(event, Damaged):
            tell_damaged(event)
        else:
            yield event


def maker_of(build: Build, store: Store) -> str:
    """Return the id of the build whose VM has made what an image was made of; it has that VM's reports.

    A build that has taken over an image, or a disk, has had no such VM.
    """
    maker, wanted = build.id, bool(build.taken_up or build.retry_of)
    while wanted:
        begun = each_event(store, maker, kinds=("BuildRequested", "TurnCame"))
        taken = (event.replaces for event in begun if isinstance(event, BuildRequested | TurnCame) and _takes(event))
        earlier = next(taken, "")
        maker, wanted = earlier or maker, bool(earlier)
    return maker


def _takes(event: BuildRequested | TurnCame) -> bool:
    return event.taken_up is not None or (isinstance(event, BuildRequested) and event.disk is not None)


def each_record(store: Store, build_id: str, kinds: Sequence[str] = (), after: str = "") -> Iterator[Event | Damaged]:
    """Read a build's events that follow `after`, in their order, those that cannot be read too."""
    while page := store.events(build_id, kinds=kinds, after=after):
        yield from page
        if len(page) < PAGE:
            return
        after = record_id(page[-1])


def record_id(event: Event | Damaged) -> str:
    """Return the id of an event, of one that cannot be read too."""
    return event.id if isinstance(event, Damaged) else event.event_id


class Followed:
    """A build as it was when its newest event was recorded: whatever changes a build is recorded with it.

    A look at which nothing is new costs one read in Firestore, where each document that is read is paid for.
    """

    def __init__(self, store: Store, build_id: str, after: str = "") -> None:
        """Read the build; the first look begins behind the event `after`. NotFound, DamagedDocument."""
        self.build: Build = store.load(build_id).build
        self._store = store
        self._after = after
        self._quiet = 0  # looks that have found nothing

    def look(self) -> Sequence[Event | Damaged]:
        """Read the next events, at most a page of them, and the build if there are any. NotFound, DamagedDocument.

        Once in a while the build is read anyway: one that was set aside has no more events.
        """
        page = self._store.events(self.build.id, after=self._after)
        quiet = 0 if page else self._quiet + 1
        if page or quiet % AGAIN == 0:
            self.build = self._store.load(self.build.id).build
        self._after, self._quiet = record_id(page[-1]) if page else self._after, quiet  # not before all is read
        return page


def followed_from_now(store: Store, build_id: str) -> Followed:
    """Follow a build from its newest event on. NotFound, DamagedDocument."""
    newest = store.newest_events(build_id, limit=1)
    return Followed(store, build_id, record_id(newest[0]) if newest else "")
