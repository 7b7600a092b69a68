"""The engine over Firestore and Pub/Sub: several at once, each with connections of its own, on one build."""

from __future__ import annotations

import random
import urllib.request
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from shared.build.build import Outcome
from shared.clock import SystemClock
from shared.engine.engine import Engine
from shared.engine.history import each_event
from shared.errors import Transient
from shared.gcp.firestore import GoogleStore
from shared.gcp.pubsub import GoogleBus
from shared.topology import TOPICS
from tests.shared.local.test_engine_in_sqlite import STEPS, history
from tests.world import values


def engine(google: Mapping[str, str], project: str) -> tuple[GoogleStore, Engine]:
    store = GoogleStore(project, google["FIRESTORE_EMULATOR_HOST"])
    return store, Engine(store, GoogleBus(project, google["PUBSUB_EMULATOR_HOST"]), SystemClock())


def deliver(google: Mapping[str, str], project: str, seed: int) -> None:
    """Deliver the history in this order of its own until the build is finished, as a bus would that forgets nothing."""
    draw = random.Random(seed)
    store, receiver = engine(google, project)
    while not store.load(values.BUILD_ID).build.finished:
        newest = store.load(values.BUILD_ID).build.cleaning
        cleaned = values.cleaned_up(event_id=f"o{newest}-CleanedUp")
        for event in [*draw.sample(history(), 2 * (STEPS + 6)), cleaned]:
            try:
                receiver.receive(event)
            except Transient:  # too many conflicts: it comes again
                continue


def test_hazard_2_every_event_twice_shuffled_and_by_four_engines_at_once(
    google: Mapping[str, str], project: str
) -> None:
    for topic in TOPICS:
        url = f"http://{google['PUBSUB_EMULATOR_HOST']}/v1/projects/{project}/topics/{topic}"
        urllib.request.urlopen(urllib.request.Request(url, method="PUT"), timeout=10).close()
    steps = tuple(replace(values.plan().steps[0], name=f"step-{number}") for number in range(STEPS))
    store, first = engine(google, project)
    first.request(values.requested(plan=values.plan(steps=steps)))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda seed: deliver(google, project, seed), range(4)))
    build = store.load(values.BUILD_ID).build
    assert (build.finished, build.outcome, build.outbox) == (True, Outcome.SUCCEEDED, ())
    recorded = [event.event_id for event in each_event(store, build.id)]
    assert len(recorded) == len(set(recorded))
    assert {"requested", "o2-ImageExported", "o3-PublicationStaged", "o4-ImagePublished"} <= set(recorded)
