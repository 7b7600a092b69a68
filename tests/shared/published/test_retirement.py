"""Retirement by rule in a world in memory: what goes in two phases, what stays, and that a kill does no harm."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import pairwise

import pytest

from shared.build.build import ImageDocument, State
from shared.build.image.retire_rules import RetireRule
from shared.build.plan import SourceImage
from shared.errors import Permanent, Transient
from shared.image_users import ImageUse
from shared.ports import Image
from shared.published.retire_verdict import SECOND_LOOK
from shared.published.retirement import RetireDone, Retiring, plan_retirement, retire_images
from shared.published.revocation import revoke_image
from tests.world import values
from tests.world.fuse import Died, Fuse, Interleaved
from tests.world.published import FAMILY, add_build, build_of, image_of
from tests.world.world import World

DAY = 86400.0
NAMES = ("one", "two", "three", "four")  # oldest first, a day between each
FOREVER = values.NOON + 10_000 * DAY


@dataclass
class Users:
    """What uses images, by project."""

    found: dict[str, list[ImageUse]] = field(default_factory=dict)
    unreadable: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)

    def uses(self, project: str, images_of: str) -> Iterator[ImageUse]:
        self.asked.append(project)
        yield from self.found.get(project, ())
        if project in self.unreadable:
            raise Permanent("403")


class Family:
    """Four images in a family; each but the newest was deprecated for the next one."""

    def __init__(self) -> None:
        self.world = World()
        self.users = Users()
        self.rule = RetireRule(older_than=0.0, keep=1)
        for age, name in enumerate(reversed(NAMES)):
            build = build_of(name)
            add_build(self.world.store, build)
            self.world.compute.all_images[name] = image_of(build, DAY * age)
        for older, newer in pairwise(NAMES):
            self.set_known(newer, replaced=(older,))
            self.world.compute.deprecate_image("local", older, newer, None)

    @property
    def retiring(self) -> Retiring:
        return Retiring("local", {FAMILY: self.rule}, ("local", "other"), self.users)

    def plan(self) -> dict[str, tuple[str, str]]:
        return {each.name: (each.action, each.why) for each in plan_retirement(self.retiring, self.world.backend)}

    def run(self, until: float = FOREVER) -> dict[str, RetireDone]:
        return {each.verdict.name: each for each in retire_images(self.retiring, self.world.backend, until)}

    def burn(self, fuse: Fuse) -> Fuse:
        self.world.store.fuse = self.world.compute.fuse = fuse
        return fuse

    def days_pass(self, days: float = 1.0) -> None:
        self.world.clock.time += days * DAY

    def there(self) -> dict[str, str | None]:
        return {name: image.deprecated for name, image in sorted(self.world.compute.all_images.items())}

    def change(self, name: str, **changes: object) -> None:
        image = self.world.compute.all_images[name]
        self.world.compute.all_images[name] = replace(image, **changes)  # type: ignore[arg-type]  # by name

    def set_known(self, name: str, **changes: object) -> None:
        known = self.world.store.image("local", name)
        assert known is not None
        assert self.world.store.save_image(replace(known, **changes), known)  # type: ignore[arg-type]  # by name


@pytest.fixture
def family() -> Family:
    return Family()


def test_an_image_that_is_published_during_a_run_stays(family: Family) -> None:
    class Publishing(Users):
        def uses(self, project: str, images_of: str) -> Iterator[ImageUse]:
            build = build_of("five")
            if "five" not in family.world.compute.all_images:
                add_build(family.world.store, build)
                family.world.compute.all_images["five"] = image_of(build, -DAY)
            yield from ()

    family.users = Publishing()
    assert family.run()["five"].verdict.why == "it was published while this run looked at its family"
    assert family.there()["five"] is None
    assert family.run()["five"].verdict.why == "its family leads to it"


def test_old_images_become_obsolete_and_are_deleted_a_day_later(family: Family) -> None:
    assert {name: action for name, (action, _) in family.plan().items()} == {
        "one": "obsolete",
        "two": "obsolete",
        "three": "obsolete",
        "four": "keep",
    }
    assert family.there()["one"] == "DEPRECATED", "a plan changes nothing"
    family.run()
    assert family.there() == {"one": "OBSOLETE", "two": "OBSOLETE", "three": "OBSOLETE", "four": None}
    family.world.clock.time += SECOND_LOOK - 1
    assert {done.verdict.action for done in family.run().values()} == {"keep", "wait"}
    assert len(family.there()) == 4
    family.world.clock.time += 1
    assert [done.fault for done in family.run().values()] == [""] * 4
    assert family.there() == {"four": None}
    assert [family.world.store.image("local", name) for name in NAMES[:3]] == [None] * 3
    assert family.run()["four"].verdict.why == "its family leads to it"


def test_so_many_and_the_young_stay(family: Family) -> None:
    family.rule = RetireRule(older_than=1.5 * DAY, keep=1)
    assert family.plan()["three"] == ("keep", "it is younger than 1d12h")
    assert family.plan()["two"][0] == "obsolete"
    family.rule = RetireRule(keep=3)
    assert family.plan()["two"] == ("keep", "it is among the 3 newest good ones of its family")
    assert family.plan()["one"][0] == "obsolete"


def test_bad_images_do_not_count_among_the_newest(family: Family) -> None:
    family.rule = RetireRule(keep=2)
    revoke_image("local", "four", "bad", family.world.backend)
    family.change("two", deprecated="DEPRECATED", replacement=None)  # by a person
    plan = family.plan()
    assert plan["four"] == ("keep", "it is the newest of its family")
    assert plan["three"] == ("keep", "its family leads to it")
    assert plan["one"] == ("keep", "it is among the 2 newest good ones of its family")
    why = "image one, among the newest good ones of its family, was deprecated for it"
    assert plan["two"] == ("keep", why), "its record alone shows that no person has deprecated one"


def test_a_revoked_image_goes_as_any_other(family: Family) -> None:
    revoke_image("local", "two", "bad", family.world.backend)
    family.run()
    family.days_pass()
    family.run()
    assert set(family.there()) == {"four"}


def test_only_images_of_the_families_that_the_store_knows_as_ours_go(family: Family) -> None:
    alien = Image("local", "alien", "by hand", values.NOON - 900 * DAY, family=FAMILY)
    family.world.compute.all_images |= {
        "alien": alien,
        "elsewhere": replace(alien, name="elsewhere", family="hello-2"),
        "alone": replace(alien, name="alone", family=None),
        "one": replace(family.world.compute.all_images["one"], id="another image of that name"),
    }
    family.run()
    family.days_pass(3)
    done = family.run()
    assert set(family.there()) == {"alien", "elsewhere", "alone", "one", "four"}
    assert family.there()["one"] == "DEPRECATED"
    assert {"elsewhere", "alone"}.isdisjoint(done)
    assert done["alien"].verdict.why == "Goldsmith has no record that it made it"


USES = {
    "by id": ImageUse("any", "sha256-two", "disk d of project other"),
    "by name": ImageUse("two", "", "instance template t of project other"),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("project", ["local", "other"])
def test_what_is_used_stays(family: Family, use: str, project: str) -> None:
    family.users.found[project] = [USES[use], ImageUse("two", "an older image of that name", "disk e")]
    family.run()
    family.days_pass()
    done = family.run()["two"]
    assert family.there() == {"two": "DEPRECATED", "four": None}
    assert done.verdict.why == f"in use by {USES[use].user}"


def test_what_is_used_at_the_second_look_stays(family: Family) -> None:
    family.run()
    family.users.found["other"] = [USES["by name"]]
    family.days_pass()
    assert family.run()["two"].verdict.why.endswith("; it stays OBSOLETE")
    assert family.there() == {"two": "OBSOLETE", "four": None}
    family.users.found.clear()
    family.run()
    assert set(family.there()) == {"four"}


def test_a_consumer_that_cannot_be_read_keeps_everything_and_is_named(family: Family) -> None:
    family.run()
    family.days_pass()
    family.users.unreadable.add("other")
    done = family.run()
    assert len(family.there()) == 4
    assert done["one"].verdict.why == "project other cannot be read, and may use it: 403; it stays OBSOLETE"
    family.users.unreadable.clear()
    family.run()
    assert set(family.there()) == {"four"}


@pytest.mark.parametrize("state", [State.QUEUED, State.PROVISIONING, State.HELD])
def test_the_source_of_a_build_that_is_not_finished_stays(family: Family, state: State) -> None:
    plan = values.plan(build_id="b-0123456789ab", source=SourceImage("local", "two", "sha256-two"))
    build = values.build(id="b-0123456789ab", plan=plan, state=state)
    family.world.store.create(build, values.requested(build_id=build.id, plan=plan))
    assert family.plan()["two"] == ("keep", "in use by build b-0123456789ab")
    family.world.store.damage(build.id, "{")
    assert family.plan()["one"][1] == "build b-0123456789ab cannot be read, and may start from it"


def test_what_another_image_was_made_from_stays_until_that_goes(family: Family) -> None:
    family.set_known("two", source_id="sha256-one")
    family.world.compute.all_images["child"] = Image(
        "local", "child", "by hand", 0.0, labels={"goldsmith-source": "three"}
    )
    assert family.plan()["one"] == ("keep", "in use by image two, which was made from it")
    assert family.plan()["three"][1] == "in use by image child, whose label says that it was made from it"
    family.run()
    assert family.there()["one"] == "DEPRECATED"
    family.run()
    assert family.there()["one"] == "OBSOLETE", "two is OBSOLETE itself"


def test_an_image_with_a_copy_in_a_channel_stays(family: Family) -> None:
    family.set_known("two", copies=("two-prod", "two-dev"))
    assert family.plan()["two"][0] == "obsolete", "what its document names is gone"
    copy = replace(ImageDocument("local", "two-dev", "two-0123456789ab", "d1" * 32), id="sha256-two-dev")
    assert family.world.store.save_image(copy, None)
    assert family.plan()["two"] == ("keep", "in use by image two-dev, its copy in a channel")


def test_a_record_that_cannot_be_read_keeps_everything(family: Family) -> None:
    family.world.store.images["local", "two"] = "{"
    assert family.plan()["one"][1] == "what is known of image two cannot be read, and it may be made from it"
    assert family.plan()["two"][1] == "what is known of it cannot be read"


def test_what_a_person_has_made_active_again_stays_for_good(family: Family) -> None:
    family.run()
    family.change("two", deprecated=None, replacement=None)
    family.days_pass()
    assert family.run()["two"].verdict.why.startswith("it was made active again")
    assert family.there() == {"two": None, "four": None}
    family.change("two", deprecated="OBSOLETE")
    family.days_pass(9)
    family.run()
    assert family.there() == {"two": "OBSOLETE", "four": None}


def test_an_image_that_becomes_active_during_a_run_stays_or_was_gone(family: Family) -> None:
    """A person acts at each call of the second run in turn. Between the last look and the deletion it is too late."""
    calls, late, at = 1, 0, 0
    while at < calls:
        at += 1
        family = Family()
        family.run()
        family.days_pass()

        def activate(family: Family = family) -> None:
            if "two" in family.world.compute.all_images:
                family.change("two", deprecated=None, replacement=None)

        fuse = family.burn(Interleaved(at, activate, dies=False))
        family.run()
        calls = fuse.count
        late += family.world.compute.all_images.get("two") is None
        family.burn(Fuse())
        family.run()
        assert family.there() in ({"four": None}, {"two": None, "four": None}), at
        if "two" in family.there():
            known = family.world.store.image("local", "two")
            assert known is not None
            assert known.retired is not None
            assert (known.retired.left, known.retired.deleting) == (True, False)
    assert late < calls // 2


def test_a_run_that_is_killed_anywhere_is_gone_on_with(family: Family) -> None:
    for looks in (0, 1):  # in the first phase, and in the second
        calls, at = 1, 0
        while at < calls:
            at += 1
            family = Family()
            for _ in range(looks):
                family.run()
                family.days_pass()
            fuse = family.burn(Fuse(at))
            with suppress(Died):
                family.run()
            calls = max(calls, fuse.count + 1) if fuse.count >= at else calls
            family.burn(Fuse())
            family.run()
            assert set(family.there()) in ({"four"}, set(NAMES)), at
            family.days_pass()
            family.run()
            assert family.there() == {"four": None}, at
            assert [family.world.store.image("local", name) for name in NAMES[:3]] == [None] * 3, at


def test_a_run_ends_in_time_and_the_next_one_goes_on(family: Family) -> None:
    late = family.run(until=family.world.clock.now())
    assert {done.fault for name, done in late.items() if name != "four"} == {
        "there was no time for it; the next run goes on"
    }
    assert family.there()["one"] == "DEPRECATED"
    family.run()
    assert family.there()["one"] == "OBSOLETE"


@pytest.mark.parametrize("method", ["obsolete_image", "delete"])
def test_a_fault_of_one_image_keeps_no_other(family: Family, method: str) -> None:
    if method == "delete":
        family.run()
        family.days_pass()
    family.world.compute.faults[method] = Transient("busy")
    done = family.run()
    assert [name for name, each in done.items() if each.fault == "busy"] == ["four" if method == "" else "three"]
    family.run()
    family.days_pass()
    family.run()
    assert set(family.there()) == {"four"}


def test_images_are_acted_on_side_by_side(family: Family) -> None:
    side_by_side = replace(family.retiring, at_once=4)
    for _ in range(2):
        list(retire_images(side_by_side, family.world.backend, FOREVER))
        family.days_pass()
    assert set(family.there()) == {"four"}
