"""Several builds of one workflow: their names, who waits for whom, and who may begin."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shared.build.build import Build, Outcome, Sibling, State, WorkflowPart
from shared.build.events import read_build, to_json
from shared.intake.workflow import awaited, followers, hindrance, may_begin, wanted_build
from tests.world import values

PART = WorkflowPart(
    uri="gs://my-bucket/specs/web.yaml",
    generation="7",
    asked="gs://my-bucket/specs/web.yaml#7",
    result="gs://my-bucket/results/web-7.json",
    index=0,
    siblings=(Sibling("one"), Sibling("two", (0,)), Sibling("three", (0, 1)), Sibling("four")),
)


def build(outcome: Outcome | None, state: State = State.FINISHED) -> Build:
    return values.build(state=state, outcome=outcome)


def test_first_is_asked_for_as_the_only_one_of_a_file() -> None:
    assert (wanted_build(PART, 0).asked, wanted_build(PART, 0).result) == (PART.asked, PART.result)


def test_each_has_an_id_and_a_result_of_its_own() -> None:
    found = [wanted_build(PART, index) for index in range(4)]
    assert len({each.asked for each in found}) == len({each.result for each in found}) == 4
    assert [each.id.rpartition("-")[0] for each in found] == ["one", "two", "three", "four"]
    assert [each.workflow and each.workflow.index for each in found] == [0, 1, 2, 3]
    assert found[1].result == "gs://my-bucket/results/web-7~2.json"


def test_all_belong_to_the_trace_of_their_request() -> None:
    asked = replace(PART, traceparent=f"00-{'a' * 32}-{'b' * 16}-01")
    assert {wanted_build(asked, index).traceparent for index in range(4)} == {asked.traceparent}


def test_who_waits_for_whom() -> None:
    parts = [part for index in range(4) if (part := wanted_build(PART, index).workflow) is not None]
    assert [followers(part) for part in parts] == [[1, 2], [2], [], []]
    assert [part.followed for part in parts] == [True, True, False, False]
    assert awaited(PART, 2) == [wanted_build(PART, 0).id, wanted_build(PART, 1).id]
    assert awaited(PART, 3) == []


@pytest.mark.parametrize("outcome", [Outcome.SUCCEEDED, Outcome.UNCHANGED])
def test_build_begins_when_all_before_it_are_good(outcome: Outcome) -> None:
    good = build(outcome)
    assert may_begin([good, good])
    assert hindrance([good, good]) is None


@pytest.mark.parametrize("other", [None, build(None, State.EXPORTING), build(Outcome.SUCCEEDED, State.CLEANING)])
def test_build_waits_for_one_that_has_not_ended(other: Build | None) -> None:
    assert not may_begin([build(Outcome.SUCCEEDED), other])
    assert hindrance([build(Outcome.SUCCEEDED), other]) is None


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.TIMED_OUT, Outcome.CANCELLED])
def test_build_never_begins_once_one_before_it_is_bad(outcome: Outcome) -> None:
    assert not may_begin([build(outcome), None])
    assert hindrance([None, build(outcome)]) == (
        f"waits for build {values.BUILD_ID}, which is {outcome}; mend that one, and upload the workflow again"
    )


def test_part_goes_with_the_build_and_builds_from_before_have_none() -> None:
    document = to_json(values.build(workflow=PART))
    assert read_build(document).workflow == PART
    del document["workflow"]
    assert read_build(document).workflow is None
