"""What the provisioner remembers over reboots and power cuts: state.json, which is whole or as it was before.

A step is marked started before it runs and finished after it. The reports that nobody has been seen to receive are
kept too, byte for byte, so that a fact is sent again after a power cut with the very sequence number it had.
"""

from __future__ import annotations

import json
import os

from .protocol import COMPLETED, FAILED, Job

TYPE_CHECKING = False  # typing takes as long to import as all of this package
if TYPE_CHECKING:
    from typing import Any, Optional

VERSION = 1
LOST_SEQUENCE = 1_000_000_000  # where numbering goes on when the state was lost: above any number ever used
UNSENT_LIMIT = 200  # reports kept for sending again; a build's table needs fewer


class State:
    """How far a job has come on this disk."""

    def __init__(self, build_id: str, phase: str, attempt: int) -> None:
        self.version: int = VERSION
        self.build_id: str = build_id
        self.phase: str = phase
        self.attempt: int = attempt
        self.sequence: int = 0  # the last one used in this attempt
        self.next: int = 0  # index of the first unfinished step
        self.started: bool = False  # that step was started and has not finished
        self.tries: int = 0  # how often it was started
        self.failures: int = 0  # how often it failed by itself
        self.interruptions: int = 0  # how often this attempt's machine went down under it
        self.arranged: bool = False  # the partitions lie as the job wants them
        self.arranging: int = 0  # how many boots of this attempt have worked on that
        self.unpacked: bool = False  # the context is in place
        self.ended: str = ""  # COMPLETED or FAILED once that is decided
        self.unsent: list[str] = []  # reports, as JSON, whose delivery has not been seen

    def encode(self) -> bytes:
        """Give the state as JSON."""
        return json.dumps(vars(self), sort_keys=True).encode()

    def finish_step(self) -> None:
        """Go on to the next step."""
        self.next += 1
        self.started = False
        self.tries = self.failures = self.interruptions = 0


class DamagedState(ValueError):
    """state.json is not what a provisioner wrote, or belongs to a later attempt than job.json."""


def load_state(path: str, job: Job) -> Optional[State]:
    """Read the state of `job`; None where it has not run on this disk. DamagedState; OSError.

    An earlier attempt's state is carried on: its steps stay done, numbering starts again. Another build's or phase's is
    no concern of ours: an image may have been made without cleaning.
    """
    try:
        with open(path, "rb") as file:
            document = json.loads(file.read())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise DamagedState(f"{path} is not JSON: {error}") from error
    if not isinstance(document, dict) or document.get("version") != VERSION:
        raise DamagedState(f"{path} is not a state of version {VERSION}")
    if (document.get("build_id"), document.get("phase")) != (job.build_id, job.phase):
        return None
    state = State(job.build_id, job.phase, job.attempt)
    _fill(state, document, path)
    if not 0 <= state.next <= len(job.steps) or state.ended not in ("", COMPLETED, FAILED):
        raise DamagedState(f"{path} is the state of another list of steps")
    if state.attempt > job.attempt:
        raise DamagedState(f"{path} is of attempt {state.attempt}, job.json of the earlier attempt {job.attempt}")
    if state.attempt < job.attempt:
        _begin_attempt(state, job.attempt)
    return state


def _fill(state: State, document: dict[str, Any], path: str) -> None:
    for name in vars(state):
        value = document.get(name)
        if type(value) is not type(getattr(state, name)):
            raise DamagedState(f"{path}: {name} is {value!r:.80}")
        setattr(state, name, value)
    if not all(isinstance(report, str) for report in state.unsent):
        raise DamagedState(f"{path}: unsent holds something that is not a report")


def _begin_attempt(state: State, attempt: int) -> None:
    state.attempt = attempt
    state.sequence = state.interruptions = state.failures = state.arranging = 0
    state.ended = ""
    state.unsent = []  # the earlier attempt's: nobody listens for them now


def write_whole(path: str, data: bytes, mode: int = 0o600) -> None:
    """Replace a file so that it is whole and on the disk, or as it was, whenever the power goes. OSError."""
    temporary = path + ".new"
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(handle, view) :]
        os.fsync(handle)
    finally:
        os.close(handle)
    os.replace(temporary, path)
    folder = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
