"""Recorded builds lead to the same states, orders and outcomes as they did; see recording.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from shared.build.build import Outcome
from shared.engine.history import each_event
from shared.local.database import Database
from shared.local.store import LocalStore
from tests.replay.record import main, write
from tests.replay.recording import decisions, events_of, record, summary
from tests.world import values
from tests.world.memory_store import MemoryStore
from tests.world.world import World

RECORDINGS = sorted((Path(__file__).parent / "recordings").glob("*.json"))


def read(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_every_event_decides_what_it_did(path: Path) -> None:
    recording = read(path)
    events = events_of(recording)
    for step, event, decision in zip(recording["steps"], events, decisions(events), strict=True):
        assert summary(event, decision) == step["after"], f"after {event.event_id}"


def test_there_is_a_recording_of_every_outcome() -> None:
    outcomes = {read(path)["steps"][-1]["after"]["outcome"] for path in RECORDINGS}
    assert outcomes == set(Outcome)


def test_every_recording_is_of_a_finished_build() -> None:
    assert {read(path)["steps"][-1]["after"]["state"] for path in RECORDINGS} == {"finished"}


def test_a_build_of_this_machine_s_store_is_recorded(tmp_path: Path) -> None:
    world = World()
    world.run(values.plan())
    with Database(tmp_path / "state.db") as database:
        store, events = LocalStore(database), list(each_event(world.store, values.BUILD_ID))
        store.create(world.build(), events[0])
        for event in events[1:]:
            store.save(world.build(), store.load(values.BUILD_ID).version, event)
    main([str(tmp_path), values.BUILD_ID, str(tmp_path / "out.json")])
    assert read(tmp_path / "out.json") == record(events, "hello: succeeded")


def test_a_history_with_a_gap_is_refused(tmp_path: Path) -> None:
    world = World()
    world.run(values.plan())
    first = next(each_event(world.store, values.BUILD_ID))
    store = MemoryStore()
    store.create(world.build(), first)
    with pytest.raises(ValueError, match="ends otherwise"):
        write(store, values.BUILD_ID, tmp_path / "gap.json")
    assert not (tmp_path / "gap.json").exists()


@pytest.mark.parametrize("arguments", [[], ["home", "build"], ["/nowhere", "build", "out"]])
def test_a_wrong_command_line_says_what_is_right(arguments: list[str]) -> None:
    with pytest.raises(SystemExit, match=r"usage|GOLDSMITH_HOME"):
        main(arguments)


def test_a_recording_of_another_version_is_refused() -> None:
    with pytest.raises(ValueError, match="version 2"):
        events_of({"version": 2, "steps": []})


def test_a_recording_without_its_request_is_refused() -> None:
    with pytest.raises(ValueError, match="begins with a request"):
        list(decisions([values.cancel_requested()]))
