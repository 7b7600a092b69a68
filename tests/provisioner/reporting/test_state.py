"""The state on disk comes back as it was written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from provisioner.protocol import COMPLETED, Job, Step
from provisioner.reporting.state import ADDED, DamagedState, JobState, load_state
from provisioner.system.files import write_whole

JOB = Job("hello-0123456789ab", 1, "00" * 32, ())


def test_a_state_comes_back(tmp_path: Path) -> None:
    path = str(tmp_path / "state.json")
    assert load_state(path, JOB) is None
    state = JobState(JOB.build_id, JOB.phase, JOB.attempt)
    state.sequence, state.unsent = 7, ['{"a":"\u00e9"}']
    write_whole(path, state.encode())
    again = load_state(path, JOB)
    assert again is not None
    assert vars(again) == vars(state)


def test_the_state_of_the_release_before_comes_back(tmp_path: Path) -> None:
    path = str(tmp_path / "state.json")
    before = vars(JobState(JOB.build_id, JOB.phase, JOB.attempt))
    for name in ADDED:
        del before[name]
    write_whole(path, json.dumps(before).encode())
    state = load_state(path, JOB)
    assert state is not None
    assert not state.layered
    assert not state.sandboxed


def test_a_job_goes_on_from_what_another_build_has_left(tmp_path: Path) -> None:
    path = str(tmp_path / "state.json")
    job = replace(JOB, steps=(Step("one", "reboot", {}), Step("two", "reboot", {})), first=1)
    left = JobState("other-0123456789ab", JOB.phase, 3)
    left.next, left.sequence, left.unpacked, left.layered, left.unsent = 1, 9, True, True, ["{}"]
    write_whole(path, left.encode())
    state = load_state(path, job)
    assert state is not None
    assert (state.build_id, state.attempt, state.next, state.unpacked) == (JOB.build_id, 1, 1, True)
    assert (state.sequence, state.layered, state.unsent) == (0, False, [])
    assert load_state(path, replace(job, first=0)) is None
    for name, value in (("next", 0), ("started", True), ("ended", "failed"), ("phase", "verify"), ("layered", "no")):
        other = JobState("other-0123456789ab", JOB.phase, 3)
        other.next = 1
        setattr(other, name, value)
        write_whole(path, other.encode())
        with pytest.raises(DamagedState):
            load_state(path, job)


def test_a_new_attempt_says_that_it_has_started(tmp_path: Path) -> None:
    path = str(tmp_path / "state.json")
    left = JobState(JOB.build_id, JOB.phase, JOB.attempt)
    left.layered = True
    write_whole(path, left.encode())
    state = load_state(path, replace(JOB, attempt=2))
    assert state is not None
    assert not state.layered


@pytest.mark.parametrize(("makes_root", "done", "next_step"), [(True, 2, 1), (True, 1, 1), (True, 0, 0), (False, 2, 2)])
def test_each_attempt_writes_the_root_to_its_own_disk(
    tmp_path: Path, makes_root: bool, done: int, next_step: int
) -> None:
    path = str(tmp_path / "state.json")
    steps = (Step("create root", "make-root", {"origin": {}}), Step("write root", "write-root", {}))
    job = replace(JOB, steps=steps, makes_root=makes_root)
    left = JobState(JOB.build_id, JOB.phase, JOB.attempt)
    left.next, left.ended = done, COMPLETED if done == len(steps) else ""
    write_whole(path, left.encode())
    same, later = load_state(path, job), load_state(path, replace(job, attempt=2))
    assert same is not None
    assert later is not None
    assert (same.next, same.ended) == (done, left.ended)
    assert (later.next, later.ended) == (next_step, "")


def test_what_a_power_cut_left_of_a_new_state_is_no_state(tmp_path: Path) -> None:
    (tmp_path / "state.json.new").write_bytes(b'{"version": 1, "build')
    assert load_state(str(tmp_path / "state.json"), JOB) is None
