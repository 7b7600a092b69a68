"""The time of a build, from what its events say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from provisioner.protocol import STEP_FINISHED, STEP_STARTED, ScriptFact, encode_script
from shared.build.build import Build
from shared.build.events import Event, Reported
from shared.dashboard.builds.timeline import timeline, times_of
from shared.engine.history import each_event
from shared.engine.script_table import script_table
from tests.browser.scenes import Tale, names, of_elements, preempted, tell
from tests.world import values
from tests.world.memory_store import MemoryStore


def rows_of(tale: Tale, now: float | None = None) -> tuple[Build, Any]:
    """Lead a build through a tale; return it, and its timeline."""
    store = MemoryStore()
    build = tell(store, tale)
    events: list[Event] = list(each_event(store, build.id))
    return build, timeline(build, times_of(events), script_table(build, events), now or tale.at)


def bars(row: Any) -> list[tuple[str, float, float, int]]:
    return [(bar["what"], bar["start"] - values.NOON, bar["end"] - values.NOON, bar["attempt"]) for bar in row["bars"]]


def test_states_follow_each_other_without_a_gap() -> None:
    build, found = rows_of(preempted(values.NOON))
    states = found["states"]
    assert [each["what"] for each in states] == [
        *("preparing", "provisioning", "preparing", "provisioning", "exporting", "publishing", "cleaning")
    ]
    assert [each["end"] for each in states[:-1]] == [each["start"] for each in states[1:]]
    assert (found["start"], states[-1]["end"], found["end"]) == (values.NOON, build.updated, build.updated)


def test_attempts_stand_side_by_side() -> None:
    _, found = rows_of(preempted(values.NOON))
    rows = {row["label"]: row for row in found["rows"]}
    assert [(what, attempt) for what, _, _, attempt in bars(rows["VM starts"])] == [("boot", 1), ("boot", 2)]
    assert [(what, attempt) for what, _, _, attempt in bars(rows["configure"])] == [("cut off", 1), ("done", 2)]
    [(_, first, last, _)] = bars(rows["packages"])
    assert (round(first, 3), round(last, 3)) == (14.2, 54.2)


def test_a_step_that_runs_lasts_until_now() -> None:
    tale = Tale("hello-0123456789ab", values.NOON, **names("hello-0123456789ab")).boots().step(0, 5)
    tale.say(STEP_STARTED, 0.2, step=1, tries=1)
    _, found = rows_of(tale, tale.at + 30)
    [bar] = found["rows"][2]["bars"]
    assert (bar["running"], round(bar["end"] - bar["start"], 3)) == (True, 30.0)
    assert found["rows"][3]["bars"] == []


def test_a_step_whose_start_was_not_told_has_its_length() -> None:
    tale = Tale("hello-0123456789ab", values.NOON, **names("hello-0123456789ab")).boots()
    tale.say(STEP_FINISHED, 9.0, step=0, tries=1, exit_status=0, seconds=4.0)
    _, found = rows_of(tale)
    [bar] = found["rows"][1]["bars"]
    assert bar["end"] - bar["start"] == 4.0


def test_a_step_whose_start_is_told_together_with_its_end_has_its_length() -> None:
    tale = Tale("hello-0123456789ab", values.NOON, **names("hello-0123456789ab")).boots()
    tale.say(STEP_STARTED, 3.9, step=0, tries=1)
    tale.say(STEP_FINISHED, 0.1, step=0, tries=1, exit_status=0, seconds=0.75)
    _, found = rows_of(tale)
    [bar] = found["rows"][1]["bars"]
    assert bar["end"] - bar["start"] == 0.75


def test_a_step_whose_start_is_told_after_its_end_is_there_once() -> None:
    """Pub/Sub delivers in any order."""
    tale = Tale("hello-0123456789ab", values.NOON, **names("hello-0123456789ab")).boots().step(0, 4).step(1, 2)
    store = MemoryStore()
    build = tell(store, tale)
    events = list(each_event(store, build.id))
    told = [at for at, event in enumerate(events) if isinstance(event, Reported) and event.report.step is not None]
    for first in told[::2]:
        events[first : first + 2] = reversed(events[first : first + 2])
    assert [[span.what for span in spans] for spans in times_of(events).steps.values()] == [["done"], ["done"]]


def test_scripts_of_elements_stand_below_their_step() -> None:
    _, found = rows_of(of_elements(values.NOON))
    step = next(row for row in found["rows"] if row["label"] == "elements")
    scripts = step["scripts"]
    assert [script["label"] for script in scripts][:2] == ["extra-data.d/10-ssh-keys", "pre-install.d/05-sources"]
    assert scripts[0]["bar"]["start"] == step["bars"][0]["start"]
    assert scripts[1]["bar"]["start"] == scripts[0]["bar"]["end"]
    assert scripts[-1]["bar"]["end"] <= step["bars"][0]["end"]


def test_a_script_that_says_it_took_longer_than_its_step_ends_with_it() -> None:
    tale = of_elements(values.NOON)
    long = encode_script(ScriptFact("install.d", "90-long", "vm", 1e6, 0))
    index = next(number for number, event in enumerate(tale.events) if "extra-data.d" in repr(event))
    event = tale.events[index]
    assert isinstance(event, Reported)
    tale.events[index] = replace(event, report=replace(event.report, output=long))
    _, found = rows_of(tale)
    step = next(row for row in found["rows"] if row["label"] == "elements")
    assert [script["bar"]["end"] for script in step["scripts"]] == [step["bars"][0]["end"]]


def test_without_the_request_only_steps_are_known() -> None:
    tale = preempted(values.NOON)
    store = MemoryStore()
    build = tell(store, tale)
    known = timeline(build, times_of(list(each_event(store, build.id))[5:]), {}, tale.at)
    assert known is not None
    assert known["states"] == []
    assert timeline(build, times_of([]), {}, tale.at) is None
