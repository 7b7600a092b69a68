"""The store in Firestore: the contract, what goes over the wire, what a network can do to it, large builds."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
from google.cloud import firestore
from google.cloud.firestore_v1.types import RunQueryRequest, StructuredQuery

from emulator.web.processes import free_port
from provisioner.protocol import Step
from shared.build.build import Build, Outcome, State, StepRecord, unfinished_of
from shared.build.damage import Damaged
from shared.build.events import to_json
from shared.build_search import BuildFilter
from shared.engine.history import Followed, record_id
from shared.errors import AlreadyExists, Conflict, NotFound, Permanent, StoreError, Transient
from shared.gcp.documents import (
    BEGINS_WITHIN,
    BUILDS,
    DELETE_AFTER,
    EVENTS,
    FORGOTTEN,
    IMAGES,
    KEPT_FOR,
    LIVES,
    PERSON_REQUESTS,
    PROMOTIONS,
    TRIGGERS,
    Index,
    build_fields,
)
from shared.gcp.firestore import INDEXES, SEARCHED, TTL, UNINDEXED, GoogleStore
from tests.contracts.promotion_contract import ASKED
from tests.contracts.store_contract import Damage, StoreContract, count, created
from tests.shared.gcp.firestore_proxy import FirestoreProxy, firestore_proxy
from tests.world import values

MIDDLE = [f"{name}-0123456789ab" for name in ("a", "b", "c", "d", "e")]


@pytest.fixture
def store(google: Mapping[str, str], project: str) -> GoogleStore:
    return GoogleStore(project, google["FIRESTORE_EMULATOR_HOST"])


@pytest.fixture
def proxy(google: Mapping[str, str]) -> Iterator[FirestoreProxy]:
    with firestore_proxy(google["FIRESTORE_EMULATOR_HOST"]) as served:
        yield served


@pytest.fixture
def proxied(proxy: FirestoreProxy, project: str) -> GoogleStore:
    """The same store as `store`, by way of the proxy, and less patient."""
    return GoogleStore(project, proxy.host)


class TestGoogleStore(StoreContract):
    @pytest.fixture
    def damage(self, store: GoogleStore) -> Damage:
        def put(
            build_id: str,
            text: str,
            event_id: str = "",
            image: tuple[str, str] | None = None,
            trigger: str = "",
            promotion: str = "",
            person_request: str = "",
        ) -> None:
            path = (BUILDS, build_id, EVENTS, event_id) if event_id else (BUILDS, build_id)
            path = path if image is None else (IMAGES, "~".join(image))
            path = (TRIGGERS, trigger) if trigger else path
            path = (PROMOTIONS, promotion) if promotion else path
            path = (PERSON_REQUESTS, person_request) if person_request else path
            reference(store, *path).update({"document": text})

        return put


class TestOnTheWire:
    def test_no_query_needs_an_index_of_its_own(self, proxied: GoogleStore, proxy: FirestoreProxy) -> None:
        """The emulator answers any query; Firestore refuses those that need a composite index and have none."""
        stored = created(proxied)
        proxied.save(stored.build, stored.version, values.machine_started())
        proxied.touch(values.BUILD_ID, values.NOON)
        proxied.events(values.BUILD_ID)
        proxied.events(values.BUILD_ID, after="requested")
        proxied.newest_events(values.BUILD_ID)
        proxied.builds()
        proxied.builds(unfinished=True)
        proxied.builds(limit=1)
        proxied.builds(unfinished=True, limit=1)
        proxied.line()
        proxied.triggers()
        proxied.promotions()
        queries = [RunQueryRequest.deserialize(request) for method, request in proxy.calls if method == "RunQuery"]
        assert len(queries) == 10
        needed = [needed_index(query.structured_query) for query in queries]
        assert not any(needed)

    def test_events_of_some_kinds_have_their_index(self, proxied: GoogleStore, proxy: FirestoreProxy) -> None:
        created(proxied)
        proxied.events(values.BUILD_ID, kinds=("BuildRequested",))
        proxied.events(values.BUILD_ID, kinds=("BuildRequested", "completed"))
        queries = [RunQueryRequest.deserialize(request) for method, request in proxy.calls if method == "RunQuery"]
        assert len(queries) == 2
        for query in queries:
            assert needed_index(query.structured_query) == INDEXES[1]

    @pytest.mark.parametrize("field", ["state", "outcome", "name", "family"])
    def test_a_search_by_one_field_has_its_index(self, proxied: GoogleStore, proxy: FirestoreProxy, field: str) -> None:
        asked = {"state": BuildFilter(("queued",)), "outcome": BuildFilter(outcome="failed")}
        asked |= {"name": BuildFilter(name="hello"), "family": BuildFilter(family="hello")}
        created(proxied)
        proxied.find_builds(asked[field], limit=3)
        proxied.find_builds(BuildFilter(text="hello"), limit=3)
        queries = [RunQueryRequest.deserialize(request) for method, request in proxy.calls if method == "RunQuery"]
        needed = [needed_index(query.structured_query) for query in queries]
        assert needed == [Index("builds", ((field, "ASCENDING"), ("created", "DESCENDING"))), None]
        assert needed[0] in INDEXES
        assert [query.structured_query.limit for query in queries] == [4, SEARCHED]

    def test_an_index_is_needed_for_two_fields_in_an_order(self) -> None:
        """The rule that the test above goes by."""
        assert Index("builds", (("state", "ASCENDING"), ("created", "DESCENDING"))) in INDEXES
        by_one = StructuredQuery(from_=[{"collection_id": "x"}], order_by=[order("a", "DESCENDING")])
        assert needed_index(by_one) is None
        by_two = StructuredQuery(
            from_=[{"collection_id": "x"}], order_by=[order("a", "DESCENDING"), order("b", "ASCENDING")]
        )
        assert needed_index(by_two) == Index("x", (("a", "DESCENDING"), ("b", "ASCENDING")))

    def test_each_act_is_one_call(self, proxied: GoogleStore, proxy: FirestoreProxy) -> None:
        stored = created(proxied)
        assert [method for method, _ in proxy.calls] == ["Commit", "BatchGetDocuments"]
        proxy.calls.clear()
        version = proxied.save(stored.build, stored.version, values.machine_started())
        proxied.touch(values.BUILD_ID, values.NOON)
        proxied.save(stored.build, version)
        assert [method for method, _ in proxy.calls] == ["Commit", "Commit", "Commit"]
        proxy.calls.clear()
        for build_id in MIDDLE:
            created(proxied, id=build_id)
        proxy.calls.clear()
        assert len(proxied.builds(unfinished=True)) == 6
        assert [method for method, _ in proxy.calls] == ["RunQuery", "BatchGetDocuments"]
        proxy.calls.clear()
        assert len(proxied.line()) == 6
        [(method, query)] = proxy.calls
        assert method == "RunQuery"
        asked = RunQueryRequest.deserialize(query).structured_query.select.fields
        assert "document" not in [field.field_path for field in asked]
        assert len(asked) == 3

    @pytest.mark.parametrize(
        "before", [{"line": firestore.DELETE_FIELD}, {"line": "{"}, {"state": "cleaning"}, {"updated": 7.0}]
    )
    def test_what_the_release_before_has_written_last_is_read_whole(
        self, store: GoogleStore, before: dict[str, Any]
    ) -> None:
        """It knows nothing of the field `line`, which stays as it was."""
        build = created(store).build
        cleaning = replace(build, state=State.CLEANING, outcome=Outcome.FAILED)
        document = build_fields(cleaning)["document"]
        reference(store, BUILDS, build.id).update({**before, "document": document})
        assert list(store.line()) == [unfinished_of(cleaning)]

    def test_the_fields_are_those_that_queries_and_deletion_look_at(self, store: GoogleStore) -> None:
        stored = created(store)
        fields = raw(store, BUILDS, values.BUILD_ID)
        assert (BUILDS, "document") in UNINDEXED
        assert isinstance(fields.pop("document"), str)
        assert fields == {
            "name": "hello",
            "family": "hello",
            "state": "preparing",
            "outcome": None,
            "created": values.NOON,
            "updated": values.NOON,
            "wake_at": values.NOON + 60,
            "line": json.dumps(to_json(unfinished_of(stored.build)), separators=(",", ":")),
            DELETE_AFTER: None,
        }
        done = replace(stored.build, state=State.FINISHED, outcome=Outcome.FAILED, updated=values.NOON + 100)
        store.save(done, stored.version, values.machine_started())
        fields = raw(store, BUILDS, values.BUILD_ID)
        assert (fields["state"], fields["outcome"], fields["writes"]) == ("finished", "failed", 1)
        assert fields[DELETE_AFTER] == datetime.fromtimestamp(values.NOON + 100, UTC) + KEPT_FOR

    def test_whatever_is_written_is_deleted_one_day(self, store: GoogleStore) -> None:
        created(store)
        collections = (BUILDS, EVENTS, LIVES, FORGOTTEN, IMAGES, TRIGGERS, PROMOTIONS, PERSON_REQUESTS)
        assert set(TTL) == {(collection, DELETE_AFTER) for collection in collections}
        store.save_promotion(ASKED, None)
        assert raw(store, PROMOTIONS, ASKED.id)[DELETE_AFTER] is None, "it has not ended"
        store.save_promotion(replace(ASKED, state="lapsed", ended=values.NOON), ASKED)
        assert raw(store, PROMOTIONS, ASKED.id)[DELETE_AFTER] == datetime.fromtimestamp(values.NOON, UTC) + KEPT_FOR
        event = raw(store, BUILDS, values.BUILD_ID, EVENTS, values.requested().event_id)
        for fields in (event, raw(store, LIVES, values.BUILD_ID)):
            assert fields[DELETE_AFTER] >= datetime.fromtimestamp(values.NOON, UTC) + KEPT_FOR
        store.touch("absent-1", values.NOON)
        assert not reference(store, LIVES, "absent-1").get().exists


class TestFaults:
    def test_a_lost_answer_is_a_duplicate_and_written_once(
        self, store: GoogleStore, proxied: GoogleStore, proxy: FirestoreProxy
    ) -> None:
        stored = created(store)
        proxy.lose_answer("Commit")
        after = replace(stored.build, orders=1)
        with pytest.raises(AlreadyExists, match=values.machine_started().event_id):
            proxied.save(after, stored.version, values.machine_started())
        assert store.load(values.BUILD_ID).build == after
        assert len(store.events(values.BUILD_ID)) == 2
        proxy.lose_answer("Commit")
        with pytest.raises(Conflict):
            proxied.save(after, store.load(values.BUILD_ID).version)

    def test_a_lost_answer_to_a_creation_is_found_to_exist(self, proxied: GoogleStore, proxy: FirestoreProxy) -> None:
        proxy.lose_answer("Commit")
        with pytest.raises(AlreadyExists, match=values.BUILD_ID):
            proxied.create(values.build(), values.requested())
        assert proxied.load(values.BUILD_ID).build == values.build()

    @pytest.mark.parametrize("status", [grpc.StatusCode.ABORTED, grpc.StatusCode.FAILED_PRECONDITION])
    def test_contention_is_a_conflict_at_once(
        self, proxied: GoogleStore, proxy: FirestoreProxy, status: grpc.StatusCode
    ) -> None:
        stored = created(proxied)
        proxy.refuse("Commit", status)
        before = len(proxy.calls)
        with pytest.raises(Conflict, match=values.BUILD_ID):
            proxied.save(stored.build, stored.version, values.machine_started())
        assert [method for method, _request in proxy.calls[before:]].count("Commit") == 1
        assert len(proxied.events(values.BUILD_ID)) == 1

    def test_a_heartbeat_that_meets_another_is_moved_on(self, proxied: GoogleStore, proxy: FirestoreProxy) -> None:
        created(proxied)
        proxy.refuse("Commit", grpc.StatusCode.ABORTED)
        proxied.touch(values.BUILD_ID, values.NOON + 9)
        assert proxied.load(values.BUILD_ID).build.last_seen == values.NOON + 9

    def test_what_passes_is_waited_for(self, proxied: GoogleStore, proxy: FirestoreProxy) -> None:
        for method in ("Commit", "BatchGetDocuments", "RunQuery"):
            proxy.refuse(method, grpc.StatusCode.UNAVAILABLE, times=2)
        created(proxied)
        assert len(proxied.builds()) == 1

    @pytest.mark.parametrize("method", ["Commit", "BatchGetDocuments", "RunQuery"])
    def test_what_does_not_answer_is_transient(
        self, store: GoogleStore, project: str, proxy: FirestoreProxy, method: str
    ) -> None:
        stored = created(store)
        proxy.hang(method)
        began = time.monotonic()
        with pytest.raises(Transient, match=r"build.*tried again"):
            act(GoogleStore(project, proxy.host, patience=1.0), method, stored.build, stored.version)
        assert time.monotonic() - began < 15  # by default it would be 20 s

    @pytest.mark.parametrize("method", ["Commit", "BatchGetDocuments", "RunQuery"])
    def test_a_server_that_is_not_there_is_transient(self, project: str, method: str) -> None:
        began = time.monotonic()
        with pytest.raises(Transient, match=r"build.*tried again"):
            act(GoogleStore(project, f"127.0.0.1:{free_port()}", patience=0.5), method, values.build(), VERSION)
        assert time.monotonic() - began < 15

    def test_a_missing_permission_or_index_is_permanent(self, proxied: GoogleStore, proxy: FirestoreProxy) -> None:
        proxy.refuse("BatchGetDocuments", grpc.StatusCode.PERMISSION_DENIED, "Missing or insufficient permissions.")
        with pytest.raises(Permanent, match=rf"build {values.BUILD_ID}: a permission is missing"):
            proxied.load(values.BUILD_ID)
        proxy.refuse("RunQuery", grpc.StatusCode.FAILED_PRECONDITION, "The query requires an index.")
        with pytest.raises(Permanent, match="builds: The query requires an index"):
            proxied.builds(unfinished=True)


VERSION = "2026-11-20T12:00:00.000001Z"


def act(store: GoogleStore, method: str, build: Build, version: str) -> None:
    """Have the store make a call of this kind."""
    if method == "Commit":
        store.save(build, version, values.machine_started())
    elif method == "RunQuery":
        store.builds()
    else:
        store.load(build.id)


class TestManyAtOnce:
    def test_heartbeats_do_not_stand_in_the_way_of_events(self, store: GoogleStore) -> None:
        created(store)
        with ThreadPoolExecutor(4) as pool:
            hearts = [pool.submit(beat, store, range(first, 40, 3)) for first in range(3)]
            count(store, 0, 20)
            for heart in hearts:
                heart.result()
        stored = store.load(values.BUILD_ID)
        assert stored.build.orders == 20
        assert stored.build.last_seen == 39

    def test_the_newest_of_many_builds_can_be_asked_for(self, store: GoogleStore) -> None:
        for age, build_id in enumerate(MIDDLE):
            created(store, id=build_id, created=values.NOON - age)
        assert [build.id for build in store.builds(limit=2)] == MIDDLE[:2]
        assert [build.id for build in store.builds(unfinished=True, limit=3)] == MIDDLE[:3]


def beat(store: GoogleStore, times: range) -> None:
    for seen in times:
        store.touch(values.BUILD_ID, seen)


class TestLarge:
    """One document takes 1 MiB."""

    def test_a_hundred_steps_that_failed_keep_all_that_they_said(self, store: GoogleStore) -> None:
        build = said(steps=100, characters=4096)
        store.create(build, values.requested())
        stored = store.load(build.id)
        assert stored.build == build
        version = store.save(replace(build, verify_steps=build.steps), stored.version, values.machine_started())
        assert store.load(build.id).version == version

    def test_a_guest_that_says_too_much_loses_words_and_not_its_build(self, store: GoogleStore) -> None:
        build = said(steps=100, characters=16 * 4096)
        store.create(build, values.requested())
        kept = store.load(build.id).build
        for before, after in zip(build.steps, kept.steps, strict=True):
            assert 0 < len(after.output) < len(before.output)
            assert before.output.endswith(after.output)
            assert replace(after, output="") == replace(before, output="")
        assert replace(kept, steps=()) == replace(build, steps=())

    @pytest.mark.parametrize(("steps", "kept"), [(200, 500), (4000, 0)])
    def test_notes_are_kept_whole_or_not_at_all(self, store: GoogleStore, steps: int, kept: int) -> None:
        records = tuple(StepRecord(f"s{n}", "install-gpu", "done", note=noise(500, n)) for n in range(steps))
        store.create(values.build(steps=records), values.requested())
        expected = tuple(replace(record, note=record.note[:kept]) for record in records)
        assert store.load(values.BUILD_ID).build.steps == expected

    def test_an_event_keeps_all_that_was_said(self, store: GoogleStore) -> None:
        stored = created(store)
        version = stored.version
        told = [values.reported(output=noise(64 * 1024)), values.reported(sequence=2, output=noise(512 * 1024))]
        for event in told:
            version = store.save(stored.build, version, event)
        assert store.events(values.BUILD_ID)[1:] == told

    def test_what_is_too_large_even_so_is_told_and_not_written(self, store: GoogleStore) -> None:
        steps = tuple(Step(f"s{n}", "run-script", {"script": noise(30_000, n)}, timeout=300.0) for n in range(50))
        too_large = values.build(plan=values.plan(steps=steps))
        with pytest.raises(
            StoreError, match=rf"build {values.BUILD_ID}: .* takes {BEGINS_WITHIN}; move data from the spec"
        ):
            store.create(too_large, values.requested())
        with pytest.raises(NotFound):
            store.load(values.BUILD_ID)
        stored = created(store)
        with pytest.raises(StoreError, match="event huge of build"):
            store.save(stored.build, stored.version, replace(values.reported(output=noise(1_500_000)), event_id="huge"))


class TestDamage:
    @pytest.mark.parametrize("document", [b"\x00", 7, None, {"id": "x"}])
    def test_a_document_may_hold_anything(self, store: GoogleStore, document: object) -> None:
        created(store)
        created(store, id=MIDDLE[0])
        reference(store, BUILDS, values.BUILD_ID).update({"document": document})
        assert {each.id: isinstance(each, Damaged) for each in store.builds()} == {
            values.BUILD_ID: True,
            MIDDLE[0]: False,
        }

    @pytest.mark.parametrize("field", ["document", "created", "state"])
    def test_a_field_that_is_gone_hides_no_build(self, store: GoogleStore, field: str) -> None:
        """Firestore orders and compares only what has the field: the list of all is ordered here."""
        created(store)
        created(store, id=MIDDLE[0], created=values.NOON - 1)
        reference(store, BUILDS, values.BUILD_ID).update({field: firestore.DELETE_FIELD})
        assert {each.id for each in store.builds()} == {values.BUILD_ID, MIDDLE[0]}
        assert [each.id for each in store.builds(before=values.BUILD_ID)] == [MIDDLE[0]]
        assert [each.id for each in store.builds(before=values.BUILD_ID, limit=1)] == [MIDDLE[0]]

    def test_a_build_without_its_time_is_not_left_to_itself(self, store: GoogleStore) -> None:
        created(store)
        reference(store, BUILDS, values.BUILD_ID).update({"created": firestore.DELETE_FIELD})
        assert [each.id for each in store.builds(unfinished=True)] == [values.BUILD_ID]

    @pytest.mark.parametrize("created_at", ["yesterday", float("nan"), None])
    def test_a_time_that_is_none_breaks_no_page(self, store: GoogleStore, created_at: object) -> None:
        for build_id in MIDDLE[:3]:
            created(store, id=build_id)
        reference(store, BUILDS, MIDDLE[1]).update({"created": created_at})
        pages, before = [], ""
        while page := store.builds(limit=1, before=before):
            before = page[-1].id
            pages.append(before)
        assert sorted(pages) == sorted(MIDDLE[:3])

    def test_what_is_set_aside_is_kept_as_it_stood(self, store: GoogleStore) -> None:
        stored = created(store)
        store.save(stored.build, stored.version, values.reported())
        reference(store, BUILDS, values.BUILD_ID).update({"document": "{"})
        before = raw(store, BUILDS, values.BUILD_ID)
        event = raw(store, BUILDS, values.BUILD_ID, EVENTS, values.reported().event_id)
        store.set_aside(values.BUILD_ID)
        [kept] = store._client.collection(FORGOTTEN).stream()
        assert kept.id.startswith(f"{values.BUILD_ID}~")
        assert {**(kept.to_dict() or {}), DELETE_AFTER: None} == before
        assert kept.get(DELETE_AFTER) > datetime.now(UTC)
        events = {each.id: each.to_dict() for each in kept.reference.collection(EVENTS).stream()}
        assert set(events) == {values.requested().event_id, values.reported().event_id}
        assert {**events[values.reported().event_id], DELETE_AFTER: event[DELETE_AFTER]} == event
        assert not reference(store, LIVES, values.BUILD_ID).get().exists

    def test_setting_aside_goes_on_where_a_process_has_died(
        self, store: GoogleStore, proxied: GoogleStore, proxy: FirestoreProxy
    ) -> None:
        """Of copy, commit and deletions, each commit may be the one that is never made."""
        for died_at in range(4):
            created(store)
            reference(store, BUILDS, values.BUILD_ID).update({"document": "{"})
            proxy.refuse("Commit", grpc.StatusCode.PERMISSION_DENIED, after=died_at)
            while True:
                try:
                    proxied.set_aside(values.BUILD_ID)
                except Permanent:
                    continue
                except NotFound:
                    pass
                break
            assert list(store.events(values.BUILD_ID)) == []
            assert store.builds() == []

    def test_a_life_that_is_damaged_says_nothing(self, store: GoogleStore) -> None:
        created(store)
        reference(store, LIVES, values.BUILD_ID).set({"last_seen": "yesterday"})
        assert store.builds() == [values.build()]


def said(*, steps: int, characters: int) -> Build:
    """A build all of whose steps have failed and said something that cannot be compressed."""
    records = tuple(StepRecord(f"s{n}", "run-script", "failed", output=noise(characters, n)) for n in range(steps))
    return values.build(steps=records)


def noise(characters: int, seed: int = 0) -> str:
    return "".join(map(chr, random.Random(seed).choices(range(32, 127), k=characters)))


def raw(store: GoogleStore, *path: str) -> dict[str, Any]:
    fields: dict[str, Any] = reference(store, *path).get().to_dict()
    return fields


def reference(store: GoogleStore, *path: str) -> Any:
    """Reach a document past the store, by the store's own client."""
    return store._client.document(*path)


def order(name: str, direction: str) -> dict[str, object]:
    return {"field": {"field_path": name}, "direction": direction}


def needed_index(query: StructuredQuery) -> Index | None:
    """Say which composite index a query needs: one for equality on some fields and an order by others."""
    [source] = query.from_
    filters = query.where.composite_filter.filters or [query.where]
    equal = [
        (each.field_filter.field.field_path, "ASCENDING") for each in filters if each.field_filter.field.field_path
    ]
    written = {"OPERATOR_UNSPECIFIED", "EQUAL", "IN", "NOT_EQUAL"}  # what the rule below is for
    assert {each.field_filter.op.name for each in filters} <= written
    ordered = [(each.field.field_path, each.direction.name) for each in query.order_by]
    fields = (*equal, *((name, direction) for name, direction in ordered if name != "__name__"))
    return Index(source.collection_id, fields) if ordered and len(fields) > 1 else None


def test_following_costs_one_query_a_look(proxied: GoogleStore, proxy: FirestoreProxy) -> None:
    stored = created(proxied)
    version = proxied.save(stored.build, stored.version, values.reported(sequence=1))
    followed = Followed(proxied, values.BUILD_ID)
    assert len(followed.look()) == 2
    proxy.calls.clear()
    for _ in range(3):
        assert list(followed.look()) == []
    assert [method for method, _ in proxy.calls] == ["RunQuery"] * 3
    proxied.save(followed.build, version, values.reported(sequence=2))
    proxy.calls.clear()
    assert list(followed.look()) == [values.reported(sequence=2)]
    assert list(followed.look()) == []
    assert [method for method, _ in proxy.calls] == ["RunQuery", "BatchGetDocuments", "RunQuery"]


def test_an_event_that_was_set_aside_is_followed_by_none(store: GoogleStore) -> None:
    stored = created(store)
    [first] = store.events(values.BUILD_ID)
    store.save(replace(stored.build, state=State.FINISHED, outcome=Outcome.FAILED), stored.version)
    store.set_aside(values.BUILD_ID)
    with pytest.raises(NotFound, match="has no event"):
        store.events(values.BUILD_ID, after=record_id(first))
