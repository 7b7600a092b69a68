"""Builds in flight of the release before, in Firestore itself, under the present store and engine."""

from __future__ import annotations

from collections.abc import Mapping

from shared.build.damage import readable_builds
from shared.engine.history import each_event
from shared.gcp.documents import BUILDS, EVENTS
from shared.gcp.firestore import GoogleStore
from tests.upgrade import release
from tests.upgrade.release import Upgraded
from tests.upgrade.test_upgrade import ENDS


def test_every_build_goes_on_to_its_end(google: Mapping[str, str], project: str) -> None:
    store = GoogleStore(project, google["FIRESTORE_EMULATOR_HOST"])
    for path, fields in release.firestore().items():  # one by one: events are in the order of their creation
        store._client.document(path).create(fields)
    assert {build.id for build in readable_builds(store.builds())} == set(release.places().values())
    before = {build_id: list(each_event(store, build_id)) for build_id in release.places().values()}
    for build_id, events in before.items():  # their `time` is a number, by which they are in order
        paths = [path for path in release.firestore() if path.startswith(f"{BUILDS}/{build_id}/{EVENTS}/")]
        assert {event.event_id for event in events} == {path.rpartition("/")[2] for path in paths}
        assert [event.time for event in events] == sorted(event.time for event in events)
    world = Upgraded(store)
    world.finish()
    for build_id, events in before.items():
        assert list(each_event(store, build_id))[: len(events)] == events
    assert {place: store.load(release.places()[place]).build.outcome for place in ENDS} == ENDS
    assert (world.left()["machines"], world.left()["disks"]) == ([], [])
