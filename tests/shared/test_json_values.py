"""Documents of builds, events and orders: there and back, and what is refused on the way back."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from shared.build.build import Build
from shared.build.events import Event
from shared.build.orders import Order
from shared.engine.lifecycle import begin
from shared.json_values import Unreadable, reader, to_document
from tests.world import values

BUILD = replace(begin(values.requested()).build, image=values.image_record(), ledger=(values.ledger_entry(),))


@pytest.mark.parametrize("value", [BUILD, values.build(plan=None), Order("hello-1", 1, "clean_up", 1)])
def test_what_is_written_is_read_again(value: Any) -> None:
    shape: Any = type(value)
    assert reader(shape)(json.loads(json.dumps(to_document(value)))) == value


def test_kind_tells_which_event_it_is() -> None:
    for event in (values.requested(), values.rejected(), values.reported(), values.machine_started()):
        assert reader(Event)(json.loads(json.dumps(to_document(event)))) == event


def test_other_versions_keys_are_left_out_and_ours_have_their_defaults() -> None:
    document = to_document(BUILD)
    del document["result"]
    assert reader(Build)({**document, "mood": "good"}) == replace(BUILD, result="")


def test_whole_number_is_a_time_as_well() -> None:
    found = reader(Build)({**to_document(BUILD), "created": 5})
    assert (found.created, type(found.created)) == (5.0, float)


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({"name": 5}, "name: needs str, not 5"),
        ({"attempt": "1"}, "attempt: needs int, not '1'"),
        ({"attempt": True}, "attempt: needs int, not True"),
        ({"created": None}, "created: needs float, not None"),
        ({"created": 1 << 1024}, "created: needs float, not 1797[0-9]+[.]{3}[0-9]+"),
        ({"state": "asleep"}, "state: 'asleep' is not a valid State"),
        ({"steps": {}}, "steps: needs a list, not {}"),
        (
            {"ledger": [{"kind": "bridge", "name": "b"}]},
            "ledger: kind: 'bridge' is none of machine, disk, image, object",
        ),
        ({"ledger": [{"kind": "disk"}]}, "ledger: name of LedgerEntry is missing"),
        ({"ledger": ["disk"]}, "ledger: needs an object of LedgerEntry, not 'disk'"),
        ({"plan": {**to_document(BUILD.plan), "image": {}}}, "plan: image: project of ImagePlan is missing"),
    ],
)
def test_wrong_values_are_refused_by_name(change: dict[str, Any], wrong: str) -> None:
    with pytest.raises(Unreadable, match=f"^{wrong}$"):
        reader(Build)({**to_document(BUILD), **change})


def test_a_wrong_value_is_shown_in_part_however_large_or_deep() -> None:
    deep: Any = "x"
    for _level in range(100_000):
        deep = [deep]
    for value in (deep, {"a": deep}, ["x" * 10_000_000] * 100, dict.fromkeys(range(1_000_000))):
        with pytest.raises(Unreadable, match=r"^name: needs str, not ") as raised:
            reader(Build)({**to_document(BUILD), "name": value})
        assert len(str(raised.value)) < 110


@pytest.mark.parametrize("document", [[], None, {}, {"kind": ["Ticked"]}, {"kind": "Slept"}])
def test_event_of_no_kind_is_refused(document: Any) -> None:
    with pytest.raises(Unreadable, match="is none of BuildRequested, BuildRejected"):
        reader(Event)(document)


def test_text_of_a_class_of_its_own_is_text() -> None:
    class Given(str):
        __slots__ = ()

    assert [type(item) for item in to_document([Given("a"), "a"])] == [str, str]


def test_what_json_has_no_word_for_is_a_defect_of_ours() -> None:
    with pytest.raises(TypeError, match="JSON has no set"):
        to_document({"labels": {1}})
