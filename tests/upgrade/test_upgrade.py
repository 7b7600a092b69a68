"""Builds in flight of release 8d52f8c go on after an upgrade: its documents, messages and keys are read."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from shared.build.build import Build, Outcome, State
from shared.build.damage import Damaged, readable_builds
from shared.build.events import kind_of
from shared.engine.history import each_event
from shared.engine.messages import read_event_message, read_order_message, read_report_message
from shared.gcp.documents import BUILDS, EVENTS, build_of, event_or_damage
from shared.keys import BY_ATTEMPT, Keys
from shared.local.bus import LocalBus
from shared.local.database import Database
from shared.local.store import LocalStore
from shared.ports import Message, Store
from shared.topology import EVENTS_TOPIC, FINISHED_TOPIC, REPORTS_TOPIC, WORKER_TOPIC
from shared.workers.carry_out import carry_out
from tests.upgrade import release
from tests.upgrade.release import Upgraded
from tests.world import given_orders

ENDS = {
    "preparing": Outcome.SUCCEEDED,
    "preparing-unsent": Outcome.SUCCEEDED,
    "preparing-cancelled": Outcome.CANCELLED,
    "preparing-again": Outcome.SUCCEEDED,
    "provisioning": Outcome.SUCCEEDED,
    "provisioning-heard": Outcome.SUCCEEDED,
    "provisioning-offline": Outcome.SUCCEEDED,
    "provisioning-grows": Outcome.SUCCEEDED,
    "provisioning-fails": Outcome.FAILED,
    "exporting": Outcome.SUCCEEDED,
    "exporting-done": Outcome.SUCCEEDED,
    "verifying": Outcome.SUCCEEDED,
    "verifying-ordered": Outcome.SUCCEEDED,
    "publishing": Outcome.SUCCEEDED,
    "publishing-cancelled": Outcome.CANCELLED,
    "publishing-labelled": Outcome.SUCCEEDED,
    "publishing-too-late": Outcome.SUCCEEDED,  # a cancellation after ImageLabelled
    "publishing-told": Outcome.SUCCEEDED,
    "publishing-deprecates": Outcome.SUCCEEDED,
    "publishing-deprecated": Outcome.SUCCEEDED,
    "cleaning": Outcome.SUCCEEDED,
    "cleaning-failed": Outcome.FAILED,
    "cleaning-cleaned": Outcome.SUCCEEDED,
    "finished": Outcome.SUCCEEDED,
    "finished-failed": Outcome.FAILED,
    "finished-plain": Outcome.SUCCEEDED,
    "rejected": Outcome.FAILED,
}
"""How a build ends by the place at which the upgrade met it."""


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """The state.db of that release."""
    path = tmp_path / "state.db"
    connection = sqlite3.connect(path)
    connection.executescript(release.text("state.sql"))
    connection.close()
    with Database(path) as opened:
        yield opened


@pytest.fixture(params=["sqlite", "firestore"])
def store(request: pytest.FixtureRequest, database: Database) -> Store:
    return LocalStore(database) if request.param == "sqlite" else release.memory_store()


def test_every_document_of_firestore_is_read() -> None:
    documents = release.firestore()
    builds = {path.split("/")[1] for path in documents if path.startswith(BUILDS)}
    assert builds == set(release.places().values())
    for path, fields in documents.items():
        collection, build_id, *event = path.split("/")
        if event:
            assert not isinstance(event_or_damage(build_id, event[1], fields), Damaged)
        elif collection == BUILDS:
            assert build_of(build_id, fields, 0.0).state == fields["state"]


def test_every_document_of_sqlite_is_read(database: Database) -> None:
    store = LocalStore(database)
    builds = readable_builds(store.builds())
    assert {build.id for build in builds} == set(release.places().values())
    events = [event for build in builds for event in each_event(store, build.id)]
    assert len(events) == sum(f"/{EVENTS}/" in path for path in release.firestore())
    for kind in {kind_of(event) for event in events}:
        found = [event for build in builds for event in each_event(store, build.id, kinds=(kind,))]
        assert found == [event for event in events if kind_of(event) == kind]


def test_every_message_is_read() -> None:
    keys = Keys(bytes.fromhex(release.text("master.key")))
    readers: dict[str, Callable[[Message], object]] = {
        WORKER_TOPIC: read_order_message,
        EVENTS_TOPIC: read_event_message,
        REPORTS_TOPIC: lambda message: read_report_message(message).checked(keys, BY_ATTEMPT),
        FINISHED_TOPIC: lambda message: message,
    }
    words = [
        release.message(word["message"])
        for vm in release.document("world.json")["machines"]
        for word in vm["later"]
        if word["message"]
    ]
    found = [*release.waiting(), *words]
    assert {message.topic for message in found} == set(readers)
    for message in found:
        readers[message.topic](message)


def test_the_commit_is_no_word_of_that_release(store: Store) -> None:
    """Its advance_build took ImageLabelled for the end of a publication; it drops a kind that it does not know."""
    kinds = {event.kind for build in readable_builds(store.builds()) for event in each_event(store, build.id)}
    assert "ImageLabelled" in kinds
    world = given_orders.world_at("label_image")
    carry_out(given_orders.order_of(world, "label_image"), world.backend)
    assert given_orders.kinds(world).isdisjoint(kinds)


def test_the_queue_of_sqlite_is_read(database: Database) -> None:
    with ExitStack() as stack:
        bus = LocalBus(database)
        stack.callback(bus.close)
        for build_id in release.places().values():
            wanted = [m for m in release.waiting() if m.ordering_key == build_id and m.topic != FINISHED_TOPIC]
            got = []
            while delivery := bus.receive(build_id=build_id, seconds=0.0):
                got.append(delivery.message)
                delivery.acknowledge()
            assert got == wanted


def test_every_build_goes_on_to_its_end(store: Store) -> None:
    world = Upgraded(store)
    world.finish()
    ended = {place: store.load(build_id).build for place, build_id in release.places().items()}
    assert {place: ended[place].outcome for place in ENDS} == ENDS, {p: b.reason for p, b in ended.items()}
    assert [build.id for build in ended.values() if build.state is not State.FINISHED] == []
    assert world.left()["machines"] == []
    assert world.left()["disks"] == []
    for build in ended.values():
        assert_whole(build, world)


def assert_whole(build: Build, world: Upgraded) -> None:
    """What has succeeded is published, and nothing else of a build is left but what it keeps."""
    if build.plan is None:
        return
    image = world.compute.all_images.get(build.plan.image.name)
    assert [entry.kind for entry in build.ledger] == (["image"] if image else [])
    if build.outcome is not Outcome.SUCCEEDED:
        assert image is None or image.family is None
        return
    assert image is not None
    assert (image.family, dict(image.labels)) == (build.plan.image.family, build.plan.image.labels)
    older = world.compute.all_images[f"{build.name}-20261101"]
    assert (older.replacement == image.name) == (build.plan.image.deprecate_old is not None)
    if build.plan.image.export_to:
        assert build.name.startswith("finished") or build.plan.image.export_to in world.bucket.objects
