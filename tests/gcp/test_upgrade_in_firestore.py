"""Builds in flight of the release before, in Firestore itself, under the present store and engine."""

from __future__ import annotations

from collections.abc import Mapping

from shared.damage import readable_builds
from shared.gcp.firestore import GoogleStore
from tests.upgrade import release
from tests.upgrade.release import Upgraded
from tests.upgrade.test_upgrade import ENDS


def test_every_build_goes_on_to_its_end(google: Mapping[str, str], project: str) -> None:
    store = GoogleStore(project, google["FIRESTORE_EMULATOR_HOST"])
    for path, fields in release.firestore().items():  # one by one: events are in the order of their creation
        store._client.document(path).create(fields)
    assert {build.id for build in readable_builds(store.builds())} == set(release.places().values())
    world = Upgraded(store)
    world.finish()
    assert {place: store.load(release.places()[place]).build.outcome for place in ENDS} == ENDS
    assert (world.left()["machines"], world.left()["disks"]) == ([], [])
