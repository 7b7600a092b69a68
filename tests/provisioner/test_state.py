"""The state on disk: whole, or as it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from provisioner.protocol import Job
from provisioner.state import State, load_state, write_whole

JOB = Job("hello-0123456789ab", 1, "00" * 32, ())


def test_a_state_comes_back(tmp_path: Path) -> None:
    path = str(tmp_path / "state.json")
    assert load_state(path, JOB) is None
    state = State(JOB.build_id, JOB.phase, JOB.attempt)
    state.sequence, state.unsent = 7, ['{"a":"\u00e9"}']
    write_whole(path, state.encode())
    again = load_state(path, JOB)
    assert again is not None
    assert vars(again) == vars(state)


def test_a_new_state_takes_the_old_ones_name_and_not_its_place(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    write_whole(str(path), b"old" * 10_000)
    with path.open("rb") as reader:  # as the disk would be read, were the power cut now
        write_whole(str(path), b"new")
        assert reader.read() == b"old" * 10_000
    assert path.read_bytes() == b"new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["state.json"]
    assert path.stat().st_mode & 0o077 == 0


def test_what_a_power_cut_left_of_a_new_state_is_no_state(tmp_path: Path) -> None:
    (tmp_path / "state.json.new").write_bytes(b'{"version": 1, "build')
    assert load_state(str(tmp_path / "state.json"), JOB) is None


def test_a_state_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    write_whole(str(path), b"old")
    (tmp_path / "state.json.new").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_whole(str(path), b"new")
    assert path.read_bytes() == b"old"
