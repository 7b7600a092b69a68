"""What every Store must do: SQLite on this machine, Firestore in the cloud.

A subclass, its name beginning with Test, brings the fixtures `store`, an empty one, and `damage`, which puts another
text in the place of a build's document, or of one of its events'.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from shared.build.build import (
    ArchiveRecord,
    Build,
    ChannelCopy,
    ImageDocument,
    LedgerEntry,
    Outcome,
    Revocation,
    State,
    Unfinished,
    unfinished_of,
)
from shared.build.damage import Damaged, readable_builds
from shared.build.events import Event, read_build, to_json
from shared.build.orders import Order
from shared.engine.history import each_record
from shared.errors import AlreadyExists, Conflict, DamagedDocument, InputError, NameTaken, NotFound
from shared.ports import PAGE, Store, Stored
from tests.contracts.person_request_contract import PersonRequestContract
from tests.contracts.promotion_contract import PromotionContract
from tests.contracts.retired_images_contract import RetiredImagesContract
from tests.contracts.search_contract import SearchContract
from tests.contracts.trigger_contract import TriggerContract
from tests.world import values

Damage = Callable[..., None]  # of a build's id, a text and, for an event of it, its id

DEEP = "[" * 100_000


OTHER_EVENT = json.dumps(to_json(values.ticked()))


def _other(**changes: object) -> str:
    """A whole document, but for these keys."""
    return json.dumps({**to_json(values.build(id="b-0123456789ab")), **changes})


DAMAGES = {
    "nothing": "",
    "not JSON": "{",
    "not an object": "[]",
    "null": "null",
    "too deep": DEEP,
    "no fields": "{}",
    "a field is missing": json.dumps({"id": "b-0123456789ab", "name": "hello"}),
    "a wrong type": _other(attempt="first"),
    "a number that is none": _other(created=float("nan")),
    "a number without end": _other(deadline=float("inf")),
    "a state of a newer release": _other(state="pondering"),
    "an order of a newer release": _other(outbox=[{"build_id": "b", "number": 1, "kind": "sign_image", "attempt": 1}]),
    "another build's document": _other(id="a-0123456789ab"),
}


IMAGE = ImageDocument("my-project", "hello-1", values.BUILD_ID, "d1" * 32, approvals={"prod": 2})
DAMAGED_IMAGES = {
    "not JSON": "{",
    "no fields": "{}",
    "too deep": DEEP,
    "a state of a newer release": json.dumps({**to_json(IMAGE), "state": "pondering"}),
    "another image's document": json.dumps({**to_json(IMAGE), "name": "hello-2"}),
}


class StoreContract(RetiredImagesContract, TriggerContract, PromotionContract, PersonRequestContract, SearchContract):
    def test_an_images_document_is_written_with_its_build(self, store: Store) -> None:
        assert store.image(IMAGE.project, IMAGE.name) is None
        store.create(values.build(), values.requested(), IMAGE)
        assert store.image(IMAGE.project, IMAGE.name) == IMAGE
        stored = store.load(values.BUILD_ID)
        made = replace(IMAGE, state="made", id="4711")
        store.save(stored.build, stored.version, values.image_exported(), made)
        assert store.image(IMAGE.project, IMAGE.name) == made
        assert store.image("example.com:other", IMAGE.name) is None

    def test_of_two_builds_of_one_image_the_later_one_is_refused_and_nothing_of_it_is_written(
        self, store: Store
    ) -> None:
        other = values.build(id="other-0123456789ab")
        store.create(values.build(), values.requested(), IMAGE)
        with pytest.raises(NameTaken, match=IMAGE.name):
            store.create(other, values.requested(build_id=other.id), replace(IMAGE, build_id=other.id))
        with pytest.raises(NotFound):
            store.load(other.id)
        with pytest.raises(AlreadyExists):  # the same request again, also if another build has the name by now
            store.create(values.build(), values.requested(), replace(IMAGE, build_id="yet-another"))
        assert store.image(IMAGE.project, IMAGE.name) == IMAGE

    def test_a_name_is_taken_over_from_the_build_that_is_named_and_not_written_by_that_any_more(
        self, store: Store
    ) -> None:
        other = values.build(id="other-0123456789ab")
        theirs = replace(IMAGE, build_id=other.id)
        store.create(values.build(), values.requested(), IMAGE)
        store.create(other, values.requested(build_id=other.id), theirs, values.BUILD_ID)
        assert store.image(IMAGE.project, IMAGE.name) == theirs
        stored = store.load(values.BUILD_ID)
        store.save(stored.build, stored.version, values.ticked(), replace(IMAGE, state="gone"))
        assert store.image(IMAGE.project, IMAGE.name) == theirs

    def test_a_name_is_taken_with_a_write_or_nothing_is_written(self, store: Store) -> None:
        store.create(values.build(), values.requested(), IMAGE)
        other = created(store, id="other-0123456789ab")
        theirs, turn = replace(IMAGE, build_id=other.build.id), values.turn_came(build_id=other.build.id)
        for replaces in ("", "yet-another"):
            with pytest.raises(NameTaken):
                store.save(other.build, other.version, turn, theirs, replaces)
        assert store.image(IMAGE.project, IMAGE.name) == IMAGE
        store.save(other.build, other.version, turn, theirs, values.BUILD_ID)
        assert store.image(IMAGE.project, IMAGE.name) == theirs

    def test_no_build_takes_back_that_its_image_was_revoked(self, store: Store) -> None:
        made = replace(IMAGE, state="published", id="4711")
        revoked = replace(made, revoked=Revocation("bad", values.NOON))
        store.create(values.build(), values.requested(), made)
        assert [store.save_image(revoked, made) for _ in range(2)] == [True, False]
        stored = store.load(values.BUILD_ID)
        store.save(stored.build, stored.version, values.ticked(), replace(made, replaced=("old",)))
        now = replace(revoked, replaced=("old",))
        assert store.image(IMAGE.project, IMAGE.name) == now
        done = replace(now, revoked=Revocation("bad", values.NOON, done=True))
        assert store.save_image(done, now)
        assert store.image(IMAGE.project, IMAGE.name) == done
        other = values.build(id="other-0123456789ab")
        theirs = replace(IMAGE, build_id=other.id)
        store.create(other, values.requested(build_id=other.id), theirs, values.BUILD_ID)
        assert store.image(IMAGE.project, IMAGE.name) == theirs, "another image of that name"

    def test_a_copys_document_is_written_where_there_is_none(self, store: Store) -> None:
        copy = replace(
            IMAGE, name="hello-1-prod", copy=ChannelCopy("hello-1", "4711", "prod", "hello-prod", values.NOON)
        )
        assert not store.save_image(copy, IMAGE)
        assert [store.save_image(copy, None) for _ in range(2)] == [True, False]
        assert store.image(copy.project, copy.name) == copy
        gone = replace(copy, state="gone")
        assert store.save_image(gone, copy)
        assert store.image(copy.project, copy.name) is None
        assert [store.save_image(copy, None) for _ in range(2)] == [True, False]

    def test_no_build_forgets_the_copies_of_its_image(self, store: Store) -> None:
        made = replace(IMAGE, state="published", id="4711")
        store.create(values.build(), values.requested(), made)
        named = replace(made, copies=("hello-1-prod",))
        assert store.save_image(named, made)
        stored = store.load(values.BUILD_ID)
        store.save(stored.build, stored.version, values.ticked(), replace(made, replaced=("old",)))
        assert store.image(IMAGE.project, IMAGE.name) == replace(named, replaced=("old",))

    def test_what_is_gone_is_free_again(self, store: Store) -> None:
        store.create(values.build(), values.requested(), IMAGE)
        stored = store.load(values.BUILD_ID)
        store.save(stored.build, stored.version, values.ticked(), replace(IMAGE, state="gone"))
        assert store.image(IMAGE.project, IMAGE.name) is None
        other = values.build(id="other-0123456789ab")
        theirs = replace(IMAGE, build_id=other.id)
        store.create(other, values.requested(build_id=other.id), theirs)
        assert store.image(IMAGE.project, IMAGE.name) == theirs

    def test_images_are_kept_until_a_time(self, store: Store) -> None:
        kept = replace(IMAGE, state="kept", id="4711", until=values.NOON)
        store.create(values.build(), values.requested(), kept)
        later = values.build(id="other-0123456789ab")
        store.create(later, values.requested(build_id=later.id), replace(IMAGE, name="hello-2", build_id=later.id))
        assert list(store.kept_images(values.NOON - 1)) == []
        assert list(store.kept_images(values.NOON)) == [kept]
        gone = replace(kept, state="gone", until=0.0)
        assert not store.save_image(gone, replace(kept, until=values.NOON + 1))
        assert store.image(IMAGE.project, IMAGE.name) == kept
        ours = replace(kept, build_id="sweep")
        assert [store.save_image(ours, kept) for _ in range(2)] == [True, False]
        assert list(store.kept_images(values.NOON)) == [ours]
        stored = store.load(values.BUILD_ID)
        store.save(stored.build, stored.version, values.ticked(), replace(kept, until=values.NOON + 5))
        assert store.image(IMAGE.project, IMAGE.name) == ours  # it is not that build's any more
        another = values.build(id="more-0123456789ab")
        document = replace(IMAGE, build_id=another.id)
        with pytest.raises(NameTaken):
            store.create(another, values.requested(build_id=another.id), document, values.BUILD_ID)
        assert [store.save_image(replace(gone, build_id="sweep"), ours) for _ in range(2)] == [True, False]
        assert (list(store.kept_images(values.NOON)), store.image(IMAGE.project, IMAGE.name)) == ([], None)

    def test_a_name_that_was_to_be_taken_over_and_is_free_is_asked_for_again(self, store: Store) -> None:
        """The image that the request has found there is gone with it."""
        with pytest.raises(NameTaken):
            store.create(values.build(), values.requested(), IMAGE, "other-0123456789ab")
        with pytest.raises(NotFound):
            store.load(values.BUILD_ID)

    @pytest.mark.parametrize("text", [*DAMAGED_IMAGES.values()], ids=[*DAMAGED_IMAGES])
    def test_what_is_damaged_of_an_image_is_said_and_never_written_over(
        self, store: Store, damage: Damage, text: str
    ) -> None:
        kept = replace(IMAGE, state="kept", id="4711", until=values.NOON)
        store.create(values.build(), values.requested(), kept)
        with pytest.raises(InputError, match="can be read, and stays"):
            store.set_image_aside(IMAGE.project, IMAGE.name)
        damage("", text, image=(IMAGE.project, IMAGE.name))
        other = values.build(id="other-0123456789ab")
        document = replace(IMAGE, build_id=other.id)
        for _ in range(2):
            with pytest.raises(DamagedDocument, match=f"goldsmith images forget my-project/{IMAGE.name}"):
                store.image(IMAGE.project, IMAGE.name)
            [found] = store.kept_images(values.NOON)
            assert isinstance(found, Damaged)
            assert (found.id, "is damaged" in found.why) == (f"my-project/{IMAGE.name}", True)
            with pytest.raises(DamagedDocument):
                store.create(other, values.requested(build_id=other.id), document, values.BUILD_ID)
            with pytest.raises(AlreadyExists):  # the same request again, whatever has become of its image's document
                store.create(values.build(), values.requested(), IMAGE)
            with pytest.raises(NotFound):
                store.load(other.id)
            assert not store.save_image(replace(kept, state="gone"), kept)
            stored = store.load(values.BUILD_ID)  # its own build goes on all the same
            after = replace(stored.build, orders=stored.build.orders + 1)
            event = values.reported(sequence=after.orders)
            store.save(after, stored.version, event, replace(IMAGE, state="published"))
            assert store.load(values.BUILD_ID).build == after
        store.set_image_aside(IMAGE.project, IMAGE.name)
        assert (store.image(IMAGE.project, IMAGE.name), list(store.kept_images(values.NOON))) == (None, [])
        store.create(other, values.requested(build_id=other.id), replace(IMAGE, build_id=other.id))
        with pytest.raises(NotFound, match="nothing is known"):
            store.set_image_aside(IMAGE.project, "nothing")

    def test_a_refused_write_writes_no_image_either(self, store: Store) -> None:
        store.create(values.build(), values.requested(), IMAGE)
        stored = store.load(values.BUILD_ID)
        store.save(stored.build, stored.version)
        with pytest.raises(Conflict):
            store.save(stored.build, stored.version, values.ticked(), replace(IMAGE, state="published"))
        assert store.image(IMAGE.project, IMAGE.name) == IMAGE

    def test_what_is_created_is_loaded(self, store: Store) -> None:
        build = full_build()
        store.create(build, values.requested())
        assert store.load(build.id).build == build
        assert list(store.events(build.id)) == [values.requested()]

    def test_a_rejected_request_has_no_plan(self, store: Store) -> None:
        build = values.build(plan=None, state=State.CLEANING, outcome=Outcome.FAILED, reason="bad spec")
        store.create(build, values.rejected())
        assert store.load(build.id).build == build

    def test_a_build_is_created_once(self, store: Store) -> None:
        store.create(values.build(), values.requested())
        with pytest.raises(AlreadyExists, match=values.BUILD_ID):
            store.create(values.build(reason="another"), values.requested(event_id="another"))
        assert store.load(values.BUILD_ID).build == values.build()
        assert len(store.events(values.BUILD_ID)) == 1

    def test_an_unknown_build_is_not_found(self, store: Store) -> None:
        with pytest.raises(NotFound, match="unknown-1"):
            store.load("unknown-1")
        with pytest.raises(NotFound, match=values.BUILD_ID):
            store.save(values.build(), "1", values.cancel_requested())
        assert list(store.events("unknown-1")) == []
        assert list(store.builds()) == []

    def test_save_writes_build_and_event(self, store: Store) -> None:
        before = created(store)
        after = replace(before.build, state=State.PROVISIONING, zone="here", updated=values.NOON + 2)
        version = store.save(after, before.version, values.machine_started())
        assert store.load(after.id) == Stored(after, version)
        assert version != before.version
        assert list(store.events(after.id)) == [values.requested(), values.machine_started()]

    def test_save_without_an_event_writes_the_build(self, store: Store) -> None:
        before = created(store)
        after = replace(before.build, outbox=(Order(before.build.id, 1, "create_resources", 1),), orders=1)
        version = store.save(after, before.version)
        assert store.load(after.id) == Stored(after, version)
        assert len(store.events(after.id)) == 1

    def test_saving_the_same_build_is_a_write(self, store: Store) -> None:
        before = created(store)
        version = store.save(before.build, before.version)
        assert version != before.version
        with pytest.raises(Conflict):
            store.save(before.build, before.version)

    def test_every_kind_of_event_survives_in_order(self, store: Store) -> None:
        stored = created(store)
        version = stored.version
        told = [replace(event, event_id=f"e{number}") for number, event in enumerate(values.every_event())]
        for event in told:
            version = store.save(stored.build, version, event)
        assert list(store.events(values.BUILD_ID)) == [values.requested(), *told]

    def test_what_a_guest_printed_survives(self, store: Store) -> None:
        output = "\x00\x1b[31m\u2028 \ud83d half a character, ünïcödé 🙂"
        stored = created(store)
        store.save(stored.build, stored.version, values.reported(output=output, message="'; DROP TABLE builds; --"))
        assert store.events(values.BUILD_ID)[1] == values.reported(output=output, message="'; DROP TABLE builds; --")

    def test_a_save_of_an_old_version_conflicts_and_writes_nothing(self, store: Store) -> None:
        before = created(store)
        now = replace(before.build, zone="first")
        version = store.save(now, before.version, values.machine_started())
        with pytest.raises(Conflict, match=values.BUILD_ID):
            store.save(replace(before.build, zone="second"), before.version, values.cancel_requested())
        assert store.load(now.id) == Stored(now, version)
        assert values.cancel_requested() not in store.events(now.id)

    def test_a_recorded_event_is_not_written_again(self, store: Store) -> None:
        stored = created(store)
        version = store.save(stored.build, stored.version, values.reported())
        with pytest.raises(AlreadyExists, match=values.reported().event_id):
            store.save(replace(stored.build, zone="twice"), version, values.reported(time=values.NOON + 99))
        assert store.load(values.BUILD_ID) == Stored(stored.build, version)
        assert list(store.events(values.BUILD_ID)) == [values.requested(), values.reported()]

    def test_a_duplicate_of_an_old_version_is_a_duplicate(self, store: Store) -> None:
        """Both hold; told of a conflict, the engine would load and decide again, for nothing."""
        stored = created(store)
        store.save(stored.build, stored.version, values.reported())
        with pytest.raises(AlreadyExists):
            store.save(stored.build, stored.version, values.reported())

    def test_an_event_id_belongs_to_its_build(self, store: Store) -> None:
        stored = created(store)
        other = created(store, id="other-0123456789ab")
        store.save(stored.build, stored.version, values.reported())
        store.save(other.build, other.version, values.reported(build_id=other.build.id))
        assert len(store.events(values.BUILD_ID)) == len(store.events(other.build.id)) == 2

    def test_touch_moves_last_seen_and_not_the_version(self, store: Store) -> None:
        before = created(store)
        store.touch(values.BUILD_ID, values.NOON + 30)
        after = store.load(values.BUILD_ID)
        assert after == Stored(replace(before.build, last_seen=values.NOON + 30), before.version)
        assert readable_builds(store.builds())[0].last_seen == values.NOON + 30
        store.save(after.build, before.version, values.machine_started())

    def test_last_seen_never_moves_back(self, store: Store) -> None:
        before = created(store)
        store.touch(values.BUILD_ID, values.NOON + 30)
        store.touch(values.BUILD_ID, values.NOON + 20)
        assert store.load(values.BUILD_ID).build.last_seen == values.NOON + 30
        store.save(before.build, before.version)  # loaded before the touch, so it knows nothing of it
        assert store.load(values.BUILD_ID).build.last_seen == values.NOON + 30

    def test_an_unknown_build_is_not_touched(self, store: Store) -> None:
        store.touch("unknown-1", values.NOON)
        assert list(store.builds()) == []

    def test_builds_are_listed_newest_first(self, store: Store) -> None:
        for name, age in (("b", 20.0), ("c", 30.0), ("a", 10.0)):
            created(store, id=f"{name}-0123456789ab", created=values.NOON - age)
        assert [build.id[0] for build in store.builds()] == ["a", "b", "c"]

    def test_builds_are_listed_page_by_page(self, store: Store) -> None:
        for name, age in (("a", 10.0), ("b", 20.0), ("c", 20.0), ("d", 40.0)):
            created(store, id=f"{name}-0123456789ab", created=values.NOON - age)
        first = store.builds(limit=2)
        assert [build.id[0] for build in first] == ["a", "c"]
        assert [build.id[0] for build in store.builds(limit=2, before=first[-1].id)] == ["b", "d"]
        assert [build.id[0] for build in store.builds(unfinished=True, before="b-0123456789ab")] == ["d"]
        assert list(store.builds(before="d-0123456789ab")) == []
        with pytest.raises(NotFound, match="unknown-1"):
            store.builds(before="unknown-1")

    def test_finished_builds_can_be_left_out(self, store: Store) -> None:
        done, busy = created(store, id="done-0123456789ab"), created(store, id="busy-0123456789ab")
        store.save(replace(done.build, state=State.FINISHED, outcome=Outcome.SUCCEEDED), done.version)
        store.save(replace(busy.build, state=State.CLEANING, outcome=Outcome.SUCCEEDED), busy.version)
        assert [build.id for build in store.builds(unfinished=True)] == [busy.build.id]
        assert {build.id for build in store.builds()} == {done.build.id, busy.build.id}

    def test_unfinished_builds_stand_in_line_as_they_came_whatever_their_times_say(self, store: Store) -> None:
        for name, age in (("c", 10.0), ("a", 30.0), ("d", 20.0), ("b", 20.0)):
            made = created(store, id=f"{name}-0123456789ab", created=values.NOON - age)
            if name == "d":
                store.save(replace(made.build, state=State.FINISHED, outcome=Outcome.SUCCEEDED), made.version)
            else:
                store.save(made.build, made.version)
        assert [build.id[0] for build in store.line()] == ["c", "a", "b"]

    def test_a_damaged_build_keeps_its_place_in_the_line(self, store: Store, damage: Damage) -> None:
        for name in "cab":
            created(store, id=f"{name}-0123456789ab")
        damage("a-0123456789ab", "{")
        line = store.line()
        assert [each.id[0] for each in line] == ["c", "a", "b"]
        assert not isinstance(line[0], Damaged)
        assert not isinstance(line[2], Damaged)

    def test_the_line_knows_what_turns_need_of_each_write(self, store: Store) -> None:
        made = created(store)
        assert list(store.line()) == [unfinished_of(made.build)]
        ledger = (LedgerEntry("machine", "gs-vm", "local"),)
        cleaning = replace(made.build, state=State.CLEANING, outcome=Outcome.FAILED, ledger=ledger, updated=7.5)
        version = store.save(cleaning, made.version)
        assert list(store.line()) == [unfinished_of(cleaning)]
        store.save(replace(cleaning, ledger=()), version)
        [known] = store.line()
        assert isinstance(known, Unfinished)
        assert not known.machinery

    @pytest.mark.parametrize("kind", DAMAGES)
    def test_a_damaged_build_hides_no_other(self, store: Store, damage: Damage, kind: str) -> None:
        for name, age in (("a", 10.0), ("b", 20.0), ("c", 30.0), ("d", 40.0)):
            created(store, id=f"{name}-0123456789ab", created=values.NOON - age)
        damage("b-0123456789ab", DAMAGES[kind])
        for unfinished in (False, True):
            found = store.builds(unfinished=unfinished)
            assert [each.id[0] for each in found] == ["a", "b", "c", "d"]
            assert [isinstance(each, Damaged) for each in found] == [False, True, False, False]
        with pytest.raises(DamagedDocument, match=r"the document of build b-0123456789ab is damaged"):
            store.load("b-0123456789ab")
        assert store.load("a-0123456789ab").build.id == "a-0123456789ab"

    @pytest.mark.parametrize("unfinished", [False, True])
    def test_pages_go_on_over_a_damaged_build(self, store: Store, damage: Damage, unfinished: bool) -> None:
        for name, age in (("a", 10.0), ("b", 20.0), ("c", 30.0), ("d", 40.0)):
            created(store, id=f"{name}-0123456789ab", created=values.NOON - age)
        damage("b-0123456789ab", "{")
        pages, before = [], ""
        while page := store.builds(unfinished=unfinished, limit=2, before=before):
            pages.append("".join(each.id[0] for each in page))
            before = page[-1].id
        assert pages == ["ab", "cd"]
        assert [each.id[0] for each in store.builds(unfinished=unfinished, before="a-0123456789ab")] == ["b", "c", "d"]

    def test_a_damaged_build_that_is_finished_is_no_unfinished_one(self, store: Store, damage: Damage) -> None:
        done = created(store)
        store.save(replace(done.build, state=State.FINISHED, outcome=Outcome.SUCCEEDED), done.version)
        damage(values.BUILD_ID, "{")
        assert list(store.builds(unfinished=True)) == []
        assert [each.id for each in store.builds()] == [values.BUILD_ID]

    @pytest.mark.parametrize("text", ["", "{", "[]", '{"kind": "Unheard"}', '{"kind": "Ticked"}', OTHER_EVENT, DEEP])
    def test_a_damaged_event_hides_no_other(self, store: Store, damage: Damage, text: str) -> None:
        stored = created(store)
        version = store.save(stored.build, stored.version, values.reported())
        store.save(stored.build, version, values.cancel_requested())
        damage(values.BUILD_ID, text, values.reported().event_id)
        first, second, third = store.events(values.BUILD_ID)
        assert (first, third) == (values.requested(), values.cancel_requested())
        assert isinstance(second, Damaged)
        assert second.id == values.reported().event_id
        assert f"event {second.id} of build {values.BUILD_ID} is damaged" in second.why

    @pytest.mark.parametrize("text", ["{", _other(state="pondering"), _other(id="a-0123456789ab")])
    def test_a_damaged_build_can_be_set_aside(self, store: Store, damage: Damage, text: str) -> None:
        created(store, id="a-0123456789ab")
        created(store, id="b-0123456789ab")
        damage("b-0123456789ab", text)
        assert store.set_aside("b-0123456789ab") == text
        assert [build.id for build in store.builds()] == ["a-0123456789ab"]
        assert list(store.events("b-0123456789ab")) == []
        with pytest.raises(NotFound):
            store.load("b-0123456789ab")
        with pytest.raises(NotFound):
            store.set_aside("b-0123456789ab")
        assert len(store.events("a-0123456789ab")) == 1
        again = created(store, id="b-0123456789ab")  # its id is free
        assert len(store.events(again.build.id)) == 1
        damage("b-0123456789ab", text)
        assert store.set_aside("b-0123456789ab") == text

    def test_what_goes_on_is_not_set_aside(self, store: Store) -> None:
        stored = created(store)
        with pytest.raises(InputError, match=f"build {values.BUILD_ID} can be read and is preparing; end it with"):
            store.set_aside(values.BUILD_ID)
        assert store.load(values.BUILD_ID) == stored
        assert len(store.events(values.BUILD_ID)) == 1
        done = replace(stored.build, state=State.FINISHED, outcome=Outcome.SUCCEEDED)
        store.save(done, stored.version)
        assert read_build(store.set_aside(values.BUILD_ID)) == done

    def test_the_turn_to_publish_in_a_family_is_passed_on_from_the_build_that_is_named(self, store: Store) -> None:
        assert store.publisher("p", "web") == ""
        assert not store.pass_turn("p", "web", "a", "b")
        assert store.pass_turn("p", "web", "a", "")
        assert not store.pass_turn("p", "web", "b", "")
        assert store.publisher("p", "web") == "a"
        assert store.pass_turn("p", "web", "b", "a")
        assert (store.publisher("p", "web"), store.publisher("p", "db"), store.publisher("q", "web")) == ("b", "", "")

    def test_of_two_writers_one_wins(self, store: Store) -> None:
        """Four threads count to 40 in one build: every write that was confirmed is there, none is there twice."""
        created(store)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda writer: count(store, writer, 10), range(4)))
        stored = store.load(values.BUILD_ID)
        assert stored.build.orders == 40
        assert len(store.events(values.BUILD_ID)) == 41

    def test_events_are_read_by_kind_and_a_page_at_a_time(self, store: Store) -> None:
        stored = created(store)
        version = stored.version
        told: list[Event] = [values.requested(), *(values.reported(sequence=number) for number in range(9, 0, -1))]
        told.insert(5, values.machine_started())
        for event in told[1:]:  # all have the same time, and ids that sort in another order
            version = store.save(stored.build, version, event)
        reports = [event for event in told if event.kind == "Reported"]
        last = told[-1].event_id
        build_id = values.BUILD_ID
        assert list(store.events(build_id, limit=4)) == told[:4]
        assert list(store.events(build_id, after=told[3].event_id, limit=4)) == told[4:8]
        assert list(store.events(build_id, after=told[-1].event_id)) == []
        assert list(store.events(build_id, kinds=("started",), limit=2)) == reports[:2]
        assert list(store.events(build_id, kinds=("started",), after=reports[1].event_id)) == reports[2:]
        assert list(store.events(build_id, kinds=("MachineStarted", "BuildRequested"))) == [told[0], told[5]]
        assert list(store.events(build_id, kinds=("started", "BuildRequested"), after=last)) == []
        assert list(store.events(build_id, kinds=("CleanedUp", "completed"))) == []
        assert list(store.newest_events(build_id, limit=3)) == told[:-4:-1]
        assert list(store.newest_events("unknown-1")) == []
        assert list(each_record(store, build_id)) == told
        for event_id in ("nothing", "'; --"):
            with pytest.raises(NotFound, match="has no event"):
                store.events(build_id, after=event_id)

    def test_a_page_is_all_that_is_read_at_once(self, store: Store) -> None:
        stored = created(store)
        version = stored.version
        for number in range(PAGE + 1):
            version = store.save(stored.build, version, values.reported(sequence=number))
        assert len(store.events(values.BUILD_ID)) == PAGE
        assert len(list(each_record(store, values.BUILD_ID))) == PAGE + 2
        done = store.load(values.BUILD_ID)
        store.save(replace(done.build, state=State.FINISHED, outcome=Outcome.FAILED), done.version)
        store.set_aside(values.BUILD_ID)
        assert list(store.events(values.BUILD_ID)) == []

    def test_a_damaged_event_has_its_place_in_every_list(self, store: Store, damage: Damage) -> None:
        stored = created(store)
        store.save(stored.build, stored.version, values.reported())
        damage(values.BUILD_ID, "{", values.reported().event_id)
        for found in (
            store.events(values.BUILD_ID, after="requested"),
            store.events(values.BUILD_ID, kinds=("started",)),
            store.newest_events(values.BUILD_ID, limit=1),
        ):
            assert [type(each) for each in found] == [Damaged]
        assert list(store.events(values.BUILD_ID, after=values.reported().event_id)) == []

    def test_which_events_are_recorded_is_asked_by_their_ids(self, store: Store, damage: Damage) -> None:
        stored = created(store)
        store.save(stored.build, stored.version, values.reported())
        damage(values.BUILD_ID, "{", values.reported().event_id)
        asked = {"requested", values.reported().event_id, *(f"b1-r{number:06d}" for number in range(100, 300))}
        assert store.recorded(values.BUILD_ID, asked) == {"requested", values.reported().event_id}
        assert store.recorded(values.BUILD_ID, ()) == frozenset()
        assert store.recorded("unknown-1", asked) == frozenset()


def created(store: Store, **changes: object) -> Stored:
    build = values.build(**changes)
    store.create(build, values.requested(build_id=build.id))
    return store.load(build.id)


def count(store: Store, writer: int, times: int) -> None:
    """Raise the number of orders of the build `times` times, with an event of its own each time."""
    done = 0
    while done < times:
        stored = store.load(values.BUILD_ID)
        try:
            event = values.ticked(event_id=f"w{writer}-{done}")
            store.save(replace(stored.build, orders=stored.build.orders + 1), stored.version, event)
            done += 1
        except Conflict:
            continue


def full_build() -> Build:
    """A build in which no field has its default."""
    return values.build(
        state=State.CLEANING,
        outcome=Outcome.FAILED,
        reason="step greet failed",
        attempt=2,
        zone="here",
        verify_steps=values.build().steps,
        ledger=(values.ledger_entry(), values.ledger_entry(kind="image", keep=True)),
        outbox=(Order(values.BUILD_ID, 7, "clean_up", 2),),
        orders=7,
        image=values.image_record(archive=ArchiveRecord(1000, "a1" * 32, "b2" * 32, "c3" * 4, 10 << 30, 600 << 20)),
        last_seen=values.NOON + 12.5,
    )
