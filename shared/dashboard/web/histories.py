"""The events of builds that go on, as far as they were read: a page that is shown live reads those alone that are new.

Events are added behind the others and never changed, so what was read once holds. Each document that is read is paid
for on Google Cloud.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from itertools import islice

from ...build.build import Build
from ...build.damage import Damaged
from ...build.events import Event
from ...engine.history import each_record, record_id
from ...ports import Store

MOST_BUILDS = 4  # a guest can have 64 KiB in each event

History = Sequence[Event | Damaged]


class RecentHistories:
    """The histories of the builds that were looked at last. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._read: OrderedDict[tuple[str, float], History] = OrderedDict()

    def first(self, build: Build, store: Store, most: int) -> History:
        """Return the first events of a build, so many at most, those that cannot be read too."""
        key = (build.id, build.created)  # another build may have the id of one that was set aside
        with self._lock:
            known = self._read.pop(key, ())
        after = record_id(known[-1]) if known else ""
        found = [*known, *islice(each_record(store, build.id, after=after), most - len(known))]
        with self._lock:
            if not build.ended:
                self._read[key] = found
            while len(self._read) > MOST_BUILDS:
                self._read.popitem(last=False)
        return found
