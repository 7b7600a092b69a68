"""The step table, whatever order reports come in."""

from __future__ import annotations

from itertools import combinations, permutations
from math import factorial

import pytest

from provisioner.protocol import (
    COMPLETED,
    FAILED,
    OUTPUT_LIMIT,
    REBOOTING,
    STEP_FAILED,
    STEP_FINISHED,
    STEP_STARTED,
    Report,
)
from shared.build.build import Build, StepRecord
from shared.engine.step_table import note_report, waiting
from tests.world import values


def word(kind: str, sequence: int, **changes: object) -> Report:
    return values.report(**{"kind": kind, "sequence": sequence, "step": 0, "tries": 1, **changes})


def after(*reports: Report) -> StepRecord:
    build = values.build()
    for report in reports:
        build = note_report(build, report)
    return build.steps[0]


FAILED_ONCE = word(STEP_FAILED, 3, exit_status=3, seconds=0.5, output="no such file")
FAILED_FOR_GOOD = word(STEP_FAILED, 5, tries=2, exit_status=4, final=True, output="still not")


def test_before_anything_has_run_all_wait() -> None:
    assert waiting(values.plan().steps) == (StepRecord("greet", "run-script"),)


@pytest.mark.parametrize(
    ("reports", "status", "exit_status", "output"),
    [
        ([word(STEP_STARTED, 2)], "running", None, ""),
        ([word(STEP_STARTED, 2), word(STEP_FINISHED, 3, exit_status=0, seconds=1.5)], "done", 0, ""),
        ([word(STEP_STARTED, 2), FAILED_ONCE], "running", 3, "no such file"),
        ([FAILED_ONCE, word(STEP_STARTED, 4, tries=2), FAILED_FOR_GOOD], "failed", 4, "still not"),
        ([FAILED_ONCE, word(STEP_FINISHED, 5, tries=2, exit_status=0)], "done", 0, ""),
    ],
)
def test_statuses(reports: list[Report], status: str, exit_status: int | None, output: str) -> None:
    record = after(*reports)
    assert (record.status, record.exit_status, record.output) == (status, exit_status, output)


def test_a_finished_step_keeps_its_note_within_bounds() -> None:
    note = f"installer container: gcr.io/p/i@sha256:{'ab' * 32}"
    assert after(word(STEP_STARTED, 2), word(STEP_FINISHED, 3, exit_status=0, message=note)).note == note
    assert after(word(STEP_FINISHED, 3, exit_status=0, message="x" * 501)).note == "x" * 500
    assert after(word(STEP_FAILED, 3, exit_status=1, message=note)).note == ""


def test_hazard_2_the_newest_word_counts_in_any_order() -> None:
    words = (word(STEP_STARTED, 2), FAILED_ONCE, word(STEP_STARTED, 4, tries=2), FAILED_FOR_GOOD)
    ends = {(after(*order).status, after(*order).exit_status, after(*order).tries) for order in permutations(words)}
    assert ends == {("failed", 4, 2)}


WORDS = (
    word(STEP_STARTED, 2),
    FAILED_ONCE,
    word(STEP_STARTED, 4, tries=2),
    FAILED_FOR_GOOD,
    word(FAILED, 6, tries=2, exit_status=4, final=True, output="still not", message="step greet failed"),
)
DONE = (*WORDS[:3], word(STEP_FINISHED, 5, tries=2, exit_status=194), word(REBOOTING, 6, message="rebooting"))


@pytest.mark.parametrize("words", [WORDS, DONE])
def test_hazard_2_any_part_of_the_words_in_any_order_is_as_in_theirs(words: tuple[Report, ...]) -> None:
    for count in range(1, len(words) + 1):
        for some in combinations(words, count):
            expected = after(*some)
            assert [after(*order) for order in permutations(some)] == [expected] * factorial(count)


def test_a_reboot_that_overtakes_the_end_of_its_step_does_not_hide_it() -> None:
    assert after(DONE[4], DONE[3]).status == "done"


def test_the_last_word_alone_says_how_the_step_has_failed() -> None:
    record = after(WORDS[4])
    assert (record.status, record.exit_status, record.output, record.tries) == ("failed", 4, "still not", 2)
    assert after(WORDS[4], WORDS[3]) == record


def test_the_last_word_of_the_release_before_says_nothing_of_a_step() -> None:
    old = word(FAILED, 6, message="step greet failed")
    assert after(FAILED_FOR_GOOD, old) == after(old, FAILED_FOR_GOOD) == after(FAILED_FOR_GOOD)


def test_the_next_attempt_is_newer_whatever_its_sequence() -> None:
    first, second = word(STEP_STARTED, 90), word(STEP_FINISHED, 2, attempt=2, exit_status=0)
    assert after(first, second).status == after(second, first).status == "done"


def test_of_two_words_with_one_number_the_first_counts() -> None:
    assert after(word(STEP_FINISHED, 3, exit_status=0), FAILED_ONCE).status == "done"


@pytest.mark.parametrize("step", [None, -1, 1, 10**12])
def test_a_step_that_is_not_in_the_plan_changes_nothing(step: int | None) -> None:
    build = values.build()
    assert note_report(build, word(STEP_STARTED, 2, step=step)) is build


def test_a_report_that_names_a_step_and_tells_nothing_of_it() -> None:
    assert after(word(COMPLETED, 9)).status == "waiting"


def test_verification_has_its_own_table() -> None:
    build: Build = values.build(verify_steps=waiting(values.plan().steps))
    noted = note_report(build, word(STEP_FINISHED, 2, phase="verify"))
    assert (noted.steps[0].status, noted.verify_steps[0].status) == ("waiting", "done")


def test_a_guest_cannot_make_the_document_large() -> None:
    output = "x" * OUTPUT_LIMIT + "the end"
    assert after(word(STEP_FAILED, 3, output=output)).output == output[-OUTPUT_LIMIT:]
