"""A published image is taken back: what its family leads to then, and at each moment before."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from shared.build.build import Build, ImageDocument, Outcome, Revocation, State
from shared.build.events import ImagesDeprecated
from shared.build.orders import Order
from shared.errors import Conflict, InputError, NotFound, Permanent, Transient
from shared.names import LABEL_COUNT, REVOKED_LABEL
from shared.ports import Image
from shared.published.revocation import REASON_LENGTH, RevokedImage, descendants_of, revoke_image
from shared.workers.deprecate_images import deprecate_images
from tests.world import values
from tests.world.fuse import Died
from tests.world.published import FAMILY, add_build, build_of, image_of
from tests.world.world import World

REASON = "its sshd takes any password"


def add(world: World, name: str, age: float, build: Build | None = None, **changes: object) -> Image:
    """Add a published image and its build."""
    build = build or build_of(name)
    add_build(world.store, build)
    world.compute.all_images[name] = image_of(build, age, **changes)
    return world.compute.all_images[name]


def in_favour_of(name: str) -> dict[str, object]:
    return {"deprecated": "DEPRECATED", "replacement": name, "deletes_at": values.NOON + 60}


def family_of_three() -> World:
    """A family of three, of which the builds of the two newer ones have deprecated the older ones."""
    made = World()
    made.compute.all_images["debian-12"] = Image("local", "debian-12", "sha256-debian-12", values.NOON - 9000)
    add(made, "one", 3000, build_of("one"), **in_favour_of("two"))
    add(made, "two", 2000, build_of("two", replaced=("one",)), **in_favour_of("three"))
    add(made, "three", 1000, build_of("three", replaced=("one", "two")))
    return made


@pytest.fixture
def world() -> World:
    return family_of_three()


class RevokesMeanwhile:
    """The world's Compute Engine, where four is made OBSOLETE just before the others are deprecated in its favour."""

    def __init__(self, world: World, barred: str) -> None:
        self._world, self._barred = world, barred

    def deprecate_image(self, project: str, name: str, replacement: str, deletes_at: float | None) -> None:
        if name == self._barred:
            raise Permanent("not allowed")
        self._world.compute.deprecate_image(project, name, replacement, deletes_at)
        now = known(self._world, "four")
        self._world.store.save_image(replace(now, revoked=Revocation(REASON, values.NOON, done=True)), now)
        four = self._world.compute.all_images["four"]
        self._world.compute.all_images["four"] = replace(four, deprecated="OBSOLETE")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._world.compute, name)


def revoke(world: World, name: str = "three", *, alone: bool = False) -> RevokedImage:
    return revoke_image("local", name, REASON, world.backend, alone=alone)


def leads_to(world: World) -> str | None:
    active = [i for i in world.compute.all_images.values() if i.family == FAMILY and i.deprecated is None]
    return max(active, key=lambda image: (image.created, image.name)).name if active else None


def known(world: World, name: str) -> ImageDocument:
    found = world.store.image("local", name)
    assert found is not None
    return found


def state_of(world: World) -> tuple[object, ...]:
    return dict(world.compute.all_images), dict(world.store.images)


def test_the_family_goes_back_to_the_image_that_was_deprecated_in_favour_of_it(world: World) -> None:
    done = revoke(world)
    assert done == RevokedImage("local", "three", REASON, values.NOON, FAMILY, "two", True, True, ())
    two, three = world.compute.all_images["two"], world.compute.all_images["three"]
    assert (two.deprecated, two.replacement, two.deletes_at) == (None, None, None)
    assert (three.deprecated, three.replacement, three.family) == ("OBSOLETE", "two", FAMILY)
    assert three.labels[REVOKED_LABEL] == str(int(values.NOON))
    revoked = known(world, "three").revoked
    assert revoked is not None
    assert (revoked.reason, revoked.time, revoked.done) == (REASON, values.NOON, True)
    assert world.compute.all_images["one"].deprecated == "DEPRECATED"


def test_each_revocation_goes_back_one_image_more(world: World) -> None:
    assert [revoke(world, name).leads_to for name in ("three", "two")] == ["two", "one"]
    with pytest.raises(InputError, match=r"family hello .* has no other good image; build one first, .* --alone"):
        revoke(world, "one")
    assert leads_to(world) == "one"
    done = revoke(world, "one", alone=True)
    assert (done.leads_to, leads_to(world), world.compute.all_images["one"].deprecated) == (None, None, "OBSOLETE")


def test_an_image_that_the_family_does_not_lead_to_leaves_it_as_it_is(world: World) -> None:
    done = revoke(world, "one")
    assert (done.leads_to, done.restored, leads_to(world)) == ("three", False, "three")
    assert world.compute.all_images["two"].deprecated == "DEPRECATED"


@pytest.mark.parametrize(
    "changes",
    [
        {"deprecated": "OBSOLETE"},
        {"deprecated": "DEPRECATED", "replacement": None},
        {"deprecated": "DEPRECATED", "replacement": "another"},
        {"deprecated": "DEPRECATED", "replacement": "one"},
        {"id": "made by hand"},
        {"family": "other"},
    ],
)
def test_what_a_person_has_deprecated_or_made_is_not_gone_back_to(world: World, changes: dict[str, object]) -> None:
    changed = replace(world.compute.all_images["two"], **changes)  # type: ignore[arg-type]  # by name
    world.compute.all_images["two"] = changed
    assert revoke(world).leads_to == "one"
    assert world.compute.all_images["two"] == changed


@pytest.mark.parametrize("outcome", [None, Outcome.FAILED])
def test_an_image_that_is_not_published_is_not_gone_back_to(world: World, outcome: Outcome | None) -> None:
    state = State.VERIFYING if outcome is None else State.HELD
    add(world, "draft", 500, build_of("draft", outcome=outcome, state=state, kept_until=values.NOON + 60))
    world.compute.all_images["draft"] = replace(world.compute.all_images["draft"], **in_favour_of("three"))  # type: ignore[arg-type]  # by name
    assert revoke(world).leads_to == "two"
    assert world.compute.all_images["draft"].deprecated == "DEPRECATED"


def test_a_family_that_leads_to_a_foreign_image_then_is_said_so(world: World) -> None:
    world.compute.all_images["mine"] = Image("local", "mine", "by hand", values.NOON - 1500, family=FAMILY)
    done = revoke(world)
    assert (done.leads_to, done.leads_to_good, done.restored) == ("mine", False, False)
    assert world.compute.all_images["two"].deprecated is None


def test_no_foreign_image_counts_as_a_predecessor() -> None:
    world = World()
    world.compute.all_images["mine"] = Image("local", "mine", "by hand", values.NOON - 1500, family=FAMILY)
    add(world, "three", 1000)
    before = state_of(world)
    with pytest.raises(InputError, match="no other good image"):
        revoke(world)
    assert state_of(world) == before


def test_what_the_release_before_has_deprecated_is_known_from_its_builds_events(world: World) -> None:
    for name in ("two", "three"):
        old = replace(known(world, name), replaced=(), verified=None, source_id="")
        assert world.store.save_image(old, known(world, name))
    with pytest.raises(InputError, match="no other good image"):
        revoke(world)
    stored = world.store.load(build_of("three").id)
    fact = ImagesDeprecated(build_id=stored.build.id, event_id="o1", time=values.NOON, names=("one", "two"))
    world.store.save(stored.build, stored.version, fact)
    assert revoke(world).leads_to == "two"


@pytest.mark.parametrize("gave_up", [False, True])
def test_what_a_build_is_about_to_deprecate_or_has_given_up_is_known_from_its_state(
    world: World, gave_up: bool
) -> None:
    state = State.FINISHED if gave_up else State.CLEANING
    add(world, "four", 500, build_of("four", state=state, retiring=not gave_up, retired_in_part=gave_up))
    world.compute.all_images["three"] = replace(world.compute.all_images["three"], **in_favour_of("four"))  # type: ignore[arg-type]  # by name
    assert revoke(world, "four").leads_to == "three"


def test_an_image_that_a_person_has_deprecated_leaves_the_family_as_it_is(world: World) -> None:
    world.compute.all_images["mine"] = Image("local", "mine", "by hand", values.NOON - 2500, family=FAMILY)
    world.compute.all_images["three"] = replace(world.compute.all_images["three"], **in_favour_of("mine"))  # type: ignore[arg-type]  # by name
    two = world.compute.all_images["two"]
    done = revoke(world)
    assert (done.leads_to, done.restored, world.compute.all_images["two"]) == ("mine", False, two)
    assert world.compute.all_images["three"].deprecated == "OBSOLETE"


def test_an_image_in_no_family_is_revoked_by_itself(world: World) -> None:
    world.compute.set_family("local", "three", None)
    done = revoke(world)
    assert (done.family, done.leads_to, world.compute.all_images["three"].deprecated) == (None, None, "OBSOLETE")


def test_what_is_not_ours_or_not_published_is_refused_and_stays(world: World) -> None:
    forged = dict(world.compute.all_images["three"].labels)
    world.compute.all_images["mine"] = Image("local", "mine", "by hand", values.NOON, family=FAMILY, labels=forged)
    add(world, "draft", 500, build_of("draft", outcome=None, state=State.VERIFYING))
    before = state_of(world)
    for name, text in {
        "mine": "image mine of project local was not made by Goldsmith",
        "draft": "image draft of project local is not published; end its build draft-0123456789ab instead",
        "gone": "there is no image gone in project local",
        "No Name": "not a valid name",
    }.items():
        with pytest.raises(InputError, match=text):
            revoke(world, name)
    assert state_of(world) == before


@pytest.mark.parametrize("reason", ["", " ", "x" * (REASON_LENGTH + 1), "one\ntwo", "\x1b[31mred", "\ud800"])
def test_a_reason_is_one_line_for_people(world: World, reason: str) -> None:
    with pytest.raises(InputError, match=f"reason: write one line of 1 to {REASON_LENGTH} characters"):
        revoke_image("local", "three", reason, world.backend)


def test_the_second_revocation_changes_nothing(world: World) -> None:
    revoke(world)
    before = state_of(world)
    again = revoke_image("local", "three", "another reason", world.backend)
    assert (again.reason, again.leads_to, again.restored) == (REASON, "two", False)
    assert state_of(world) == before


def test_what_a_person_has_deprecated_since_stays_so_at_the_second_revocation(world: World) -> None:
    revoke(world)
    world.compute.all_images["two"] = replace(world.compute.all_images["two"], deprecated="DEPRECATED")
    revoke(world)
    assert (leads_to(world), world.compute.all_images["one"].deprecated) == (None, "DEPRECATED")


def test_a_revoked_image_that_was_made_active_by_hand_is_obsolete_again(world: World) -> None:
    revoke(world)
    world.compute.all_images["three"] = replace(world.compute.all_images["three"], deprecated=None)
    assert revoke(world).leads_to == "two"
    assert world.compute.all_images["three"].deprecated == "OBSOLETE"


def test_killed_at_any_call_the_family_leads_to_one_of_both_and_the_second_call_goes_on() -> None:
    seen = []
    for call in range(1, 100):
        world = family_of_three()
        world.burn_at(call)
        try:
            revoke(world)
        except Died:
            seen.append((leads_to(world), world.compute.all_images["three"].deprecated))
            world.burn_at(None)
            assert revoke(world).leads_to == "two"
        else:
            break
        three = world.compute.all_images["three"]
        assert (leads_to(world), three.deprecated, REVOKED_LABEL in three.labels) == ("two", "OBSOLETE", True)
        revoked = known(world, "three").revoked
        assert revoked is not None
        assert revoked.done
    assert set(seen) == {("three", None), ("two", "OBSOLETE")}, "and never none, or another"


@pytest.mark.parametrize("method", ["activate_image", "obsolete_image", "label_image"])
@pytest.mark.parametrize("fault", [Transient("changed"), Conflict("others were first"), NotFound("gone")])
def test_what_changes_meanwhile_is_looked_at_again(world: World, method: str, fault: Exception) -> None:
    world.compute.faults[method] = fault
    assert revoke(world).leads_to == "two"
    assert REVOKED_LABEL in world.compute.all_images["three"].labels


def test_a_refusal_of_the_project_is_said_and_the_second_call_goes_on(world: World) -> None:
    world.compute.faults["obsolete_image"] = Permanent("not allowed")
    with pytest.raises(Permanent):
        revoke(world)
    assert leads_to(world) == "three"
    assert revoke(world).leads_to == "two"


def test_an_image_that_cannot_be_labelled_is_revoked_all_the_same(world: World) -> None:
    world.compute.faults["label_image"] = Permanent("not allowed")
    assert revoke(world).leads_to == "two"
    assert REVOKED_LABEL not in world.compute.all_images["three"].labels


def test_an_image_with_as_many_labels_as_there_can_be_is_revoked_all_the_same(world: World) -> None:
    labels = {f"label-{number}": "" for number in range(LABEL_COUNT)}
    world.compute.all_images["three"] = replace(world.compute.all_images["three"], labels=labels)
    world.compute.faults["label_image"] = InputError(f"an image can carry {LABEL_COUNT} labels")
    assert revoke(world).leads_to == "two"
    revoked = known(world, "three").revoked
    assert revoked is not None
    assert revoked.done
    assert world.compute.all_images["three"].labels == labels


def test_a_recorded_revocation_that_finds_no_good_image_is_not_said_to_have_changed_nothing(world: World) -> None:
    world.compute.faults["obsolete_image"] = Permanent("not allowed")
    with pytest.raises(Permanent):
        revoke(world)
    revoke(world, "two")
    revoke(world, "one", alone=True)
    with pytest.raises(Permanent, match=r"three is recorded as revoked, .* but family hello still leads to it"):
        revoke(world)


def test_builds_under_way_from_it_are_named(world: World) -> None:
    add(world, "child", 500, build_of("child", "three"), family="apps")
    for name, source in (("next", "three"), ("after", "child"), ("other", "two")):
        add_build(world.store, build_of(name, source, outcome=None, state=State.PROVISIONING))
    assert revoke(world).builds == (build_of("after").id, build_of("next").id)


def test_a_record_that_cannot_be_read_does_not_hide_what_was_done(world: World) -> None:
    add(world, "broken", 500, build_of("broken", "three"), family="apps")
    world.store.images["local", "broken"] = "{"
    assert revoke(world).leads_to == "two"


def test_descendants_are_found_over_all_generations_and_told_from_images_that_look_alike(world: World) -> None:
    add(world, "child", 500, build_of("child", "three"), family="apps")
    add(world, "grandchild", 400, build_of("grandchild", "child"), family="apps")
    add(world, "unlabelled", 300, build_of("unlabelled", "three"), labels={})
    add(world, "cousin", 300, build_of("cousin", "two"))
    labels = image_of(build_of("forged", "three")).labels
    world.compute.all_images["forged"] = Image("local", "forged", "by hand", values.NOON, labels=labels)
    other = build_of("other", "three")
    assert other.plan is not None
    of_another = replace(other, plan=replace(other.plan, source=replace(other.plan.source, id="an earlier one")))
    add(world, "other", 300, of_another)
    assert revoke(world).descendants == ("child", "grandchild", "unlabelled")
    assert descendants_of(world.compute.all_images["grandchild"], world.backend) == ()


class TestDeprecationMeanwhile:
    """The build of an image deprecates the older ones while, or after, that is revoked."""

    def order(self, name: str) -> Order:
        return Order(f"{name}-0123456789ab", 1, "deprecate_images", 1)

    def test_nothing_is_deprecated_in_favour_of_a_revoked_image(self, world: World) -> None:
        revoke(world)
        build = world.build(build_of("three").id)
        assert deprecate_images(build, self.order("three"), world.backend).names == ()
        assert leads_to(world) == "two"

    def test_what_was_deprecated_too_late_is_active_again(self, world: World) -> None:
        """On Compute Engine, where a call can be on its way while the image is revoked."""
        revoke(world)
        world.compute.all_images["two"] = replace(world.compute.all_images["two"], **in_favour_of("three"))  # type: ignore[arg-type]  # by name
        deprecate_images(world.build(build_of("three").id), self.order("three"), world.backend)
        assert leads_to(world) == "two"

    def test_it_is_active_again_also_where_others_cannot_be_deprecated(self, world: World) -> None:
        """The order fails for good, and is not given again."""
        add(world, "four", 500, build_of("four", state=State.CLEANING, retiring=True))
        world.compute.all_images["one"] = replace(world.compute.all_images["one"], deprecated=None)
        backend = replace(world.backend, compute=RevokesMeanwhile(world, "one"))
        with pytest.raises(Permanent, match="not allowed"):
            deprecate_images(world.build(build_of("four").id), self.order("four"), backend)
        assert leads_to(world) == "three"

    def test_a_revoked_image_stays_obsolete_when_newer_ones_are_published(self, world: World) -> None:
        revoke(world)
        add(world, "four", 0, build_of("four"))
        done = deprecate_images(world.build(build_of("four").id), self.order("four"), world.backend)
        assert done.names == ("two",)
        states = {name: image.deprecated for name, image in world.compute.all_images.items() if image.family}
        assert states == {"one": "DEPRECATED", "two": "DEPRECATED", "three": "OBSOLETE", "four": None}

    def test_it_is_gone_back_to_also_when_what_was_published_after_it_is_retired(self, world: World) -> None:
        for age, name in enumerate(("five", "four")):
            add(world, name, 500 * age, build_of(name, state=State.CLEANING, retiring=True))
        for name in ("four", "five"):
            deprecate_images(world.build(build_of(name).id), self.order(name), world.backend)
        assert [known(world, name).replaced_by for name in ("three", "four")] == ["four", "five"]
        world.compute.delete("image", "four", "local", "")
        assert world.store.save_image(replace(known(world, "four"), state="gone"), known(world, "four"))
        assert (revoke(world, "five").leads_to, leads_to(world)) == ("three", "three")
