"""The state on disk comes back as it was written."""

from __future__ import annotations

from pathlib import Path

from provisioner.protocol import Job
from provisioner.reporting.state import JobState, load_state
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


def test_what_a_power_cut_left_of_a_new_state_is_no_state(tmp_path: Path) -> None:
    (tmp_path / "state.json.new").write_bytes(b'{"version": 1, "build')
    assert load_state(str(tmp_path / "state.json"), JOB) is None
