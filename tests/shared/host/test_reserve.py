"""A home whose file system is full: at whatever a build is, it ends for that, and its disks are gone at once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from shared.build import resources
from shared.build.build import Build, Outcome, State
from shared.errors import NO_SPACE, NoSpace
from shared.host.build_folder import BuildFolder
from shared.host.reserve import SIZE, Reserve
from shared.interruption import Interruption
from shared.runtime.builds import LocalBuilds
from shared.runtime.one_machine import LocalBackend, open_one_machine
from tests.shared.disks.small_disks import left_clean
from tests.system.small_disk import SmallDisk, small_disk
from tests.world import values
from tests.world.values import BUILD_ID

ORDERS = {
    State.PREPARING: "create_resources",
    State.PROVISIONING: "create_resources",
    State.EXPORTING: "export_image",
    State.VERIFYING: "verify_image",
    State.PUBLISHING: "label_image",
    State.CLEANING: "clean_up",
}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "home", "64m") as opened:
        yield opened


def begun(backend: LocalBackend, state: State) -> Build:
    """A build in a state, with the disk that it has by then."""
    plan = values.plan(requested=time.time())
    ledger = resources.of_order(plan, "create_resources", 1)
    build = values.build(plan=plan, state=state, zone="local", ledger=ledger, created=time.time())
    build = replace(build, deadline=time.time() + 3600)
    if state is State.CLEANING:
        build = replace(build, outcome=Outcome.FAILED, reason="step one failed")
    backend.store.create(build, values.requested(plan=plan))
    left_clean(BuildFolder(backend.home, build.id).disk(f"gs-{BUILD_ID}-a1-boot"))
    return build


def filled(place: SmallDisk, backend: LocalBackend) -> Path:
    """Leave no room but the reserve; the write-ahead log has no page to spare either."""
    backend.reserve.keep()
    return place.fill()


@pytest.mark.parametrize("state", ORDERS)
def test_build_that_finds_no_room_ends_for_it_and_leaves_nothing(place: SmallDisk, state: State) -> None:
    with open_one_machine(place.inside) as backend:
        build = begun(backend, state)
        filled(place, backend)
        request = values.requested(plan=build.plan)
        builds = LocalBuilds(backend)
        with builds.building(build.id):
            done = builds.run(request, lambda build, event: None, Interruption())  # it goes on where it is
        assert (done.state, done.outcome, done.ledger) == (State.FINISHED, Outcome.FAILED, ())
        if state is State.CLEANING:
            assert done.reason == "step one failed"
        else:
            assert done.reason.startswith(NO_SPACE)
            assert str(place.inside) in done.reason
        folder = BuildFolder(backend.home, build.id)
        assert folder.disks() == []
        assert not folder.is_untidy()
        assert [path.name for path in place.inside.glob(".reserve*")] == [".reserve"]
        assert backend.store.load(build.id).build == done


def test_state_that_cannot_be_opened_on_a_full_disk_takes_the_reserve(place: SmallDisk) -> None:
    with open_one_machine(place.inside) as backend:
        begun(backend, State.PROVISIONING)
        filled(place, backend)
    with open_one_machine(place.inside) as backend:
        done = LocalBuilds(backend).resume(BUILD_ID)
        assert done is not None
        assert done.outcome is not None
        assert done.ledger == ()


def test_build_is_not_begun_where_the_reserve_has_no_room(place: SmallDisk) -> None:
    with open_one_machine(place.inside) as backend:
        place.fill()
        with pytest.raises(NoSpace, match=r"^no space: .*full"):
            LocalBuilds(backend).run(values.requested(), lambda build, event: None, Interruption())
        assert backend.store.builds() == []


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


def test_look_tells_a_full_home_from_one_with_room(place: SmallDisk) -> None:
    reserve = Reserve(place.inside)
    reserve.look()
    filler = place.fill()
    with pytest.raises(NoSpace, match=str(place.inside)):
        reserve.look()
    filler.unlink()
    reserve.look()
