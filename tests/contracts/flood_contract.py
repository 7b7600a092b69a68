"""What a flood of recorded events costs those who read them: a page's memory, never all of it.

A subclass, its name beginning with Test, brings the fixture `flooded`, a store whose build has COUNT reports beside its
first event, and `followed`, the same with FOLLOWED reports.
"""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Self, cast

import pytest

from goldsmith.commands.submit import follow
from provisioner.protocol import HEARTBEAT, STEP_STARTED
from shared.backend import Backend
from shared.build.build import Build, State
from shared.build.events import Event, report_id, to_json
from shared.engine.engine import Engine
from shared.keys import BY_ATTEMPT
from shared.ports import Message, Store
from shared.upkeep.watch import note_life, publish_unheard
from shared.workers.bill_of_materials import BillOfMaterials
from shared.workers.export_image import _told
from tests.world import values
from tests.world.fakes import FakeCompute
from tests.world.world import World

MOST = 24 << 20  # bytes; the events take more than twice as much, as text alone


def flood(count: int, size: int) -> Iterator[Event]:
    """Yield reports of one VM, each of `size` characters and more."""
    for number in range(1, count + 1):
        yield values.reported(kind=STEP_STARTED, sequence=number, step=0, message=f"{number} " + "x" * size)


def text(event: Event) -> str:
    return json.dumps(to_json(event), separators=(",", ":"))


@contextmanager
def little_memory(store: Store) -> Iterator[Backend]:
    """Yield a backend over a store, and see what its use comes to; the build is as before afterwards."""
    stored = store.load(values.BUILD_ID)
    tracemalloc.start()
    try:
        yield replace(World().backend, store=store)
        assert tracemalloc.get_traced_memory()[1] < MOST
    finally:
        tracemalloc.stop()
        store.save(stored.build, store.load(values.BUILD_ID).version)


class FloodContract:
    COUNT: int
    FOLLOWED: int

    @pytest.fixture
    def backend(self, flooded: Store) -> Iterator[Backend]:
        with little_memory(flooded) as backend:
            yield backend

    def test_what_the_vm_has_found_on_itself(self, backend: Backend) -> None:
        assert _told(values.build(), values.plan(), backend) == ([], [])

    def test_the_bill_of_materials(self, backend: Backend) -> None:
        world = World()
        backend = replace(backend, compute=_Opaque(world.clock, world.bucket))
        assert BillOfMaterials(values.build(), values.plan(), backend).packages is None

    def test_the_look_at_the_vm(self, backend: Backend) -> None:
        reports = [
            values.report(kind=STEP_STARTED, sequence=number) for number in range(self.COUNT - 5, self.COUNT + 5)
        ]
        beat = replace(values.report(kind=HEARTBEAT, sequence=0), time=values.NOON + 3)
        said = [(report, Message("t", report_id(report).encode(), {})) for report in (*reports, beat)]
        bus = cast(Any, backend.bus)
        assert publish_unheard(values.build(state=State.PROVISIONING), said, backend)
        assert [message.data for message in bus.published] == [
            f"b1-r{number:06d}".encode() for number in range(self.COUNT + 1, self.COUNT + 5)
        ]
        backend.clock.time = values.NOON + 60  # type: ignore[attr-defined]  # the fake's
        note_life(values.build(state=State.PROVISIONING), said, backend)
        assert backend.store.load(values.BUILD_ID).build.last_seen == values.NOON + 3

    def test_the_commit_of_a_release_before(self, backend: Backend) -> None:
        stored = backend.store.load(values.BUILD_ID)
        publishing = replace(stored.build, state=State.PUBLISHING, keys=BY_ATTEMPT)
        backend.store.save(publishing, stored.version)
        Engine(backend.store, backend.bus, backend.clock).tick(values.BUILD_ID)
        assert not backend.store.load(values.BUILD_ID).build.committed

    def test_following_a_submitted_build(self, followed: Store) -> None:
        screen = _Screen()
        with little_memory(followed) as backend:
            stored = backend.store.load(values.BUILD_ID)
            backend.store.save(replace(stored.build, state=State.FINISHED), stored.version)
            follow(values.BUILD_ID, cast(Any, _Client(backend.store)), cast(Any, screen))
        assert (screen.events, screen.ended) == (self.FOLLOWED + 1, values.BUILD_ID)


class _Opaque(FakeCompute):
    """Compute Engine, which cannot look into images."""

    def packages(self, project: str, name: str) -> None:
        return None


@dataclass
class _Screen:
    """A view that counts."""

    events: int = 0
    ended: str = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def progress(self, what: str, done: int, total: int) -> None:
        pass

    def event(self, _build: Build, _event: Event) -> None:
        self.events += 1

    def console(self, _lines: list[str]) -> None:
        pass

    def end(self, build: Build, _logs: str) -> None:
        self.ended = build.id


@dataclass
class _Console:
    poll: float = 0.01

    def read(self) -> bytes:
        return b""


@dataclass
class _Client:
    store: Store

    def console(self, _build_id: str) -> _Console:
        return _Console()

    def logs_of(self, _build_id: str) -> str:
        return "logs"
