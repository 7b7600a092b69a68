"""A home whose file system is full: at whatever a build is, it ends for that, and its disks are gone at once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from shared import resources
from shared.build import Build, Outcome, State
from shared.errors import NO_SPACE, NoSpace
from shared.interruption import Interruption
from shared.local.build_folder import BuildFolder
from shared.local.factory import LocalFactory, open_factory
from shared.local.reserve import SIZE, Reserve
from tests import values
from tests.local.small_disks import left_clean
from tests.system.small_place import SmallPlace, small_place
from tests.values import BUILD_ID

ORDERS = {
    State.PREPARING: "create_resources",
    State.PROVISIONING: "create_resources",
    State.EXPORTING: "export_image",
    State.VERIFYING: "verify_image",
    State.PUBLISHING: "label_image",
    State.CLEANING: "clean_up",
}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[SmallPlace]:
    with small_place(tmp_path / "home", "64m") as opened:
        yield opened


def begun(factory: LocalFactory, state: State) -> Build:
    """A build in a state, with the disk that it has by then."""
    plan = values.plan(requested=time.time())
    ledger = resources.of_order(plan, "create_resources", 1)
    build = values.build(plan=plan, state=state, zone="local", ledger=ledger, created=time.time())
    build = replace(build, deadline=time.time() + 3600)
    if state is State.CLEANING:
        build = replace(build, outcome=Outcome.FAILED, reason="step one failed")
    factory.store.create(build, values.requested(plan=plan))
    left_clean(BuildFolder(factory.home, build.id).disk(f"gs-{BUILD_ID}-a1-boot"))
    return build


def filled(place: SmallPlace, factory: LocalFactory) -> Path:
    """Leave no room but the reserve; the write-ahead log has no page to spare either."""
    factory.reserve.keep()
    return place.fill()


@pytest.mark.parametrize("state", ORDERS)
def test_build_that_finds_no_room_ends_for_it_and_leaves_nothing(place: SmallPlace, state: State) -> None:
    with open_factory(place.inside) as factory:
        build = begun(factory, state)
        filled(place, factory)
        request = values.requested(plan=build.plan)
        with factory.building(build.id):
            done = factory.run(request, lambda build, event: None, Interruption())  # it goes on where it is
        assert (done.state, done.outcome, done.ledger) == (State.FINISHED, Outcome.FAILED, ())
        if state is State.CLEANING:
            assert done.reason == "step one failed"
        else:
            assert done.reason.startswith(NO_SPACE)
            assert str(place.inside) in done.reason
        folder = BuildFolder(factory.home, build.id)
        assert folder.disks() == []
        assert not folder.is_untidy()
        assert [path.name for path in place.inside.glob(".reserve*")] == [".reserve"]
        assert factory.store.load(build.id).build == done


def test_state_that_cannot_be_opened_on_a_full_disk_takes_the_reserve(place: SmallPlace) -> None:
    with open_factory(place.inside) as factory:
        begun(factory, State.PROVISIONING)
        filled(place, factory)
    with open_factory(place.inside) as factory:
        done = factory.resume(BUILD_ID)
        assert done is not None
        assert done.outcome is not None
        assert done.ledger == ()


def test_build_is_not_begun_where_the_reserve_has_no_room(place: SmallPlace) -> None:
    with open_factory(place.inside) as factory:
        place.fill()
        with pytest.raises(NoSpace, match=r"^no space: .*full"):
            factory.run(values.requested(), lambda build, event: None, Interruption())
        assert factory.store.builds() == []


def test_reserve_is_kept_once_given_up_once_and_made_again(tmp_path: Path) -> None:
    reserve = Reserve(tmp_path)
    assert not reserve.give_up()
    reserve.keep()
    reserve.keep()
    [file] = tmp_path.iterdir()
    assert file.stat().st_blocks * 512 >= SIZE
    assert file.stat().st_mode & 0o777 == 0o600
    assert reserve.give_up()
    assert list(tmp_path.iterdir()) == []
    reserve.keep()
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_look_tells_a_full_home_from_one_with_room(place: SmallPlace) -> None:
    reserve = Reserve(place.inside)
    reserve.look()
    filler = place.fill()
    with pytest.raises(NoSpace, match=str(place.inside)):
        reserve.look()
    filler.unlink()
    reserve.look()
