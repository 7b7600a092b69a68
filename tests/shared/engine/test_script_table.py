"""The scripts of elements, from reports in any order, twice, of several tries and attempts."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest

from provisioner.protocol import (
    ALL_SCRIPTS_LIMIT,
    ELEMENTS_ACTION,
    SCRIPTS,
    STEP_FINISHED,
    VERIFY,
    Report,
    ScriptFact,
    Step,
    encode_script,
    most_script_reports,
)
from shared.build.build import Build, State, StepRecord
from shared.engine.lifecycle import advance
from shared.engine.script_table import LONGEST_NAME, ScriptRecord, nest_scripts, script_table, scripts_of
from shared.engine.step_table import most_reports
from tests.world import values
from tests.world.memory_store import MemoryStore

BEGUN, DONE = ScriptFact("install.d", "10-a", "a"), ScriptFact("install.d", "10-a", "a", 1.25, 0)
FAILED = ScriptFact("install.d", "20-b", "b", 0.5, 3)
RUNNING_STEP = StepRecord("app", ELEMENTS_ACTION, "running", tries=1, attempt=1)


def told(sequence: int, *facts: ScriptFact, **changes: object) -> Report:
    fields = {
        "kind": SCRIPTS,
        "sequence": sequence,
        "step": 0,
        "tries": 1,
        "output": "\n".join(map(encode_script, facts)),
    }
    return values.report(**{**fields, **changes})


def table(*reports: Report, step: StepRecord = RUNNING_STEP) -> tuple[ScriptRecord, ...]:
    events = [replace(values.reported(), report=report) for report in reports]
    return script_table(values.build(steps=(step,)), events).get(("build", 0), ())


FIRST, SECOND = told(3, BEGUN), told(4, DONE, FAILED)
ROWS = (
    ScriptRecord("install.d", "10-a", "a", "done", 1.25, 0),
    ScriptRecord("install.d", "20-b", "b", "failed", 0.5, 3),
)


def test_reports_come_in_any_order_and_twice() -> None:
    for reports in permutations((FIRST, SECOND, SECOND)):
        assert table(*reports) == ROWS


def test_a_script_runs_as_long_as_its_step_does() -> None:
    assert table(FIRST) == (ScriptRecord("install.d", "10-a", "a", "running"),)
    ended = replace(RUNNING_STEP, status="failed")
    assert table(FIRST, step=ended) == (ScriptRecord("install.d", "10-a", "a", "unknown"),)


def test_the_newest_try_counts() -> None:
    again, later = told(9, BEGUN, tries=2), told(2, FAILED, attempt=2)
    for reports in permutations((FIRST, SECOND, again)):
        assert [row.file for row in table(*reports)] == ["10-a"]
    for reports in permutations((FIRST, SECOND, again, later)):
        assert [row.file for row in table(*reports)] == ["20-b"]


@pytest.mark.parametrize("changes", [{"step": 7}, {"step": -1}, {"step": None}, {"kind": STEP_FINISHED}])
def test_what_is_of_no_step_is_left_out(changes: dict[str, object]) -> None:
    assert table(told(3, DONE, **changes)) == ()


def test_a_machine_that_lies_fills_no_memory() -> None:
    """It has its own key, and may send thousands of reports of the largest size for each step."""
    lie = "\n".join(encode_script(ScriptFact("install.d", f"{number}-{'x' * 3000}", "a")) for number in range(20))
    table_of_lies = table(*(told(number, output=lie.replace("xx", f"{number:02}", 1)) for number in range(1, 99)))
    assert 0 < len(table_of_lies) <= 2 * ALL_SCRIPTS_LIMIT // 3000
    assert all(len(script.file) == LONGEST_NAME for script in table_of_lies)


def test_what_one_step_has_told_takes_the_place_of_its_earlier_tries() -> None:
    large = [ScriptFact("install.d", f"{number}-{'x' * 200}", "a") for number in range(250)]
    lines = [encode_script(fact) for fact in large]
    tries = [told(tries, output="\n".join(lines), tries=tries) for tries in range(1, 40)]
    step = replace(RUNNING_STEP, tries=39)
    assert {script.status for script in table(*tries, step=step)} == {"running"}
    assert len(table(*tries, step=step)) == 250


def test_garbage_is_no_script() -> None:
    assert table(told(3, output='[[[\n["a"]\nnull\n')) == ()


def stored(build: Build, *reports: Report) -> MemoryStore:
    store = MemoryStore()
    store.create(build, values.requested())
    for report in reports:
        loaded = store.load(build.id)
        event = values.reported(**{key: value for key, value in vars(report).items() if key != "time"})
        after, _ = advance(loaded.build, event)
        store.save(after, loaded.version, event)
    return store


def test_scripts_are_in_the_history_and_not_in_the_document() -> None:
    plan = replace(values.plan(), steps=(Step("app", ELEMENTS_ACTION, {"elements": ["a"]}),))
    build = values.build(state=State.PROVISIONING, zone="here", plan=plan, steps=(RUNNING_STEP,))
    store = stored(build, FIRST, SECOND)
    after = store.load(build.id).build
    assert after == replace(build, reports=2, newest=4, last_seen=after.last_seen, updated=after.updated)
    scripts = scripts_of(after, store)
    assert scripts == {("build", 0): ROWS}
    document = nest_scripts({"steps": [{"name": "app"}], "verify_steps": [{"name": "look"}]}, scripts)
    assert [row["file"] for row in document["steps"][0]["scripts"]] == ["10-a", "20-b"]
    assert document["verify_steps"] == [{"name": "look"}]


def test_a_retry_shows_the_scripts_of_the_steps_that_were_run_before_it() -> None:
    plan = replace(values.plan(), steps=(Step("app", ELEMENTS_ACTION, {"elements": ["a"]}),))
    build = values.build(state=State.PROVISIONING, zone="here", plan=plan, steps=(RUNNING_STEP,))
    store = stored(build, FIRST, SECOND)
    retry = replace(build, id="hello-ba9876543210", retry_of=build.id)
    assert scripts_of(retry, store) == {("build", 0): ROWS}
    assert scripts_of(retry, MemoryStore()) == {}  # where the build before was set aside


def test_late_reports_are_recorded() -> None:
    for state in (State.EXPORTING, State.CLEANING):
        build, _ = advance(values.build(state=state, steps=(RUNNING_STEP,)), values.reported(kind=SCRIPTS, step=0))
        assert build.reports == 1
    build = values.build(state=State.EXPORTING)
    assert advance(build, values.reported(kind=SCRIPTS, step=0, phase=VERIFY))[0] == build


def test_nothing_is_read_for_steps_without_scripts() -> None:
    assert scripts_of(values.build(), MemoryStore()) == {}  # which has no such build


def test_an_honest_machine_may_report_all_its_scripts() -> None:
    step = Step("app", ELEMENTS_ACTION, {"elements": ["a"]}, timeout=7200, retries=1)
    plan = replace(values.plan(), steps=(step,))
    assert most_reports(plan, "build") >= 500 + 2 * most_script_reports(step) > 1500


def test_no_plan_allows_reports_without_end() -> None:
    step = Step("app", ELEMENTS_ACTION, {"elements": ["a"]}, timeout=86_400, retries=10)
    plan = replace(values.plan(), steps=(step,) * 100, verify_steps=(step,) * 100)
    for phase in ("build", VERIFY):
        assert most_reports(plan, phase) == 20_000
    month = replace(step, timeout=30 * 86_400, retries=0)
    assert most_reports(replace(plan, steps=(month,)), "build") == 20_000
    build = replace(values.build(state=State.PROVISIONING, reports=19_999), plan=plan)
    report = values.reported(kind=SCRIPTS, step=0)
    assert advance(build, report)[0].reports == 20_000
    assert advance(replace(build, reports=20_000), report)[0].reports == 20_000
