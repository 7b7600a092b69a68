"""The engine over this machine's own store: several at once, each with a connection of its own, on one database."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from provisioner.protocol import COMPLETED, STEP_FINISHED
from shared.build.build import Outcome
from shared.build.events import Event
from shared.clock import SystemClock
from shared.engine.engine import Engine
from shared.engine.history import each_event
from shared.local.bus import LocalBus
from shared.local.database import Database
from shared.local.store import LocalStore
from tests.world import values

STEPS = 8


def history() -> list[Event]:
    """A build that succeeds, every event of it twice."""
    done = [
        values.reported(kind=STEP_FINISHED, sequence=index + 2, step=index, tries=1, exit_status=0)
        for index in range(STEPS)
    ]
    facts: list[Event] = [
        values.machine_started(),
        values.reported(),
        *done,
        values.reported(kind=COMPLETED, sequence=STEPS + 2),
        values.image_exported(),
        values.publication_staged(),
        values.image_published(),
    ]
    return facts * 2


def deliver(path: Path, seed: int) -> None:
    """Deliver the history in this order of its own until the build is finished, as a bus would that forgets nothing."""
    draw = random.Random(seed)
    with Database(path) as database:
        store = LocalStore(database)
        engine = Engine(store, LocalBus(database), SystemClock())
        while not store.load(values.BUILD_ID).build.finished:
            for event in draw.sample(history(), 2 * (STEPS + 6)):
                engine.receive(event)
            newest = store.load(values.BUILD_ID).build.cleaning
            engine.receive(values.cleaned_up(event_id=f"o{newest}-CleanedUp"))


def test_hazard_2_every_event_twice_shuffled_and_by_four_engines_at_once(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    steps = tuple(replace(values.plan().steps[0], name=f"step-{number}") for number in range(STEPS))
    with Database(path) as database:
        store = LocalStore(database)
        Engine(store, LocalBus(database), SystemClock()).request(values.requested(plan=values.plan(steps=steps)))
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda seed: deliver(path, seed), range(4)))
        build = store.load(values.BUILD_ID).build
        assert (build.finished, build.outcome, build.outbox) == (True, Outcome.SUCCEEDED, ())
        recorded = [event.event_id for event in each_event(store, build.id)]
        assert len(recorded) == len(set(recorded))
        assert {"requested", "o2-ImageExported", "o3-PublicationStaged", "o4-ImagePublished"} <= set(recorded)
        assert build.orders in (6, 7)  # a VM whose start is heard of only in `cleaning` is cleaned up after once more
