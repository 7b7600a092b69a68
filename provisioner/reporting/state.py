"""The state that outlives reboots and power cuts: state.json, which is always whole.

A step is marked started before it runs and finished after it. Reports without a known delivery are kept too, byte for
byte, so that a fact is sent again after a power cut with the same sequence number.
"""

from __future__ import annotations

import json

from ..protocol import COMPLETED, FAILED, Job

TYPE_CHECKING = False  # typing takes as long to import as all of this package
if TYPE_CHECKING:
    from typing import Any, Optional

VERSION = 1
LOST_SEQUENCE = 1_000_000_000  # numbering starts here when the state was lost: above any number ever used
ADDED = ("layered", "sandboxed")  # since the release before, whose states lack them
UNSENT_LIMIT = 200  # reports kept for sending again; a build's table needs fewer


class JobState:
    """The progress of a job on this disk."""

    def __init__(self, build_id: str, phase: str, attempt: int) -> None:
        self.version: int = VERSION
        self.build_id: str = build_id
        self.phase: str = phase
        self.attempt: int = attempt
        self.sequence: int = 0  # the last one used in this attempt
        self.next: int = 0  # index of the first unfinished step
        self.started: bool = False  # that step was started and has not finished
        self.tries: int = 0  # how often that step was started
        self.failures: int = 0  # how often it failed by itself
        self.interruptions: int = 0  # how often this attempt's machine went down under it
        self.arranged: bool = False  # the partitions lie as the job wants them
        self.arranging: int = 0  # how many boots of this attempt have worked on that
        self.unpacked: bool = False  # the context is in place
        self.layered: bool = False  # the provisioner ended after the step before, so that its result could be kept
        self.sandboxed: bool = False  # the sandbox of a maker VM has done its steps and left the disk to be written
        self.ended: str = ""  # COMPLETED or FAILED once that is decided
        self.unsent: list[str] = []  # reports, as JSON, whose delivery has not been seen

    def encode(self) -> bytes:
        """Return the state as JSON."""
        return json.dumps(vars(self), sort_keys=True).encode()

    def finish_step(self) -> None:
        """Go on to the next step."""
        self.next += 1
        self.started = False
        self.tries = self.failures = self.interruptions = 0


class DamagedState(ValueError):
    """state.json was not written by a provisioner, or belongs to a later attempt than job.json."""


def load_state(path: str, job: Job) -> Optional[JobState]:
    """Read the state of `job`; return None where the job has not run on this disk. DamagedState; OSError.

    The state of an earlier attempt is carried on: its steps stay done, numbering starts again. The last step of a maker
    VM is done again: each attempt has a blank disk of its own for the root. So is the state of another build carried
    on, where the disk was kept after the job's first steps. Any other state of another build, or of another phase, is
    ignored: the source image may have been made without the clean-up.
    """
    try:
        with open(path, "rb") as file:
            document = json.loads(file.read())
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise DamagedState(f"{path} is not JSON: {error}") from error
    if not isinstance(document, dict) or document.get("version") != VERSION:
        raise DamagedState(f"{path} is not a state of version {VERSION}")
    if (document.get("build_id"), document.get("phase")) != (job.build_id, job.phase):
        return _adopted(document, job, path) if job.first else None
    state = JobState(job.build_id, job.phase, job.attempt)
    _fill(state, document, path)
    if not 0 <= state.next <= len(job.steps) or state.ended not in ("", COMPLETED, FAILED):
        raise DamagedState(f"{path} is the state of another list of steps")
    if state.attempt > job.attempt:
        raise DamagedState(f"{path} is of attempt {state.attempt}, job.json of the earlier attempt {job.attempt}")
    if state.attempt < job.attempt:
        _begin_attempt(state, job.attempt)
        if job.makes_root:
            state.next = min(state.next, len(job.steps) - 1)
    return state


def _adopted(document: dict[str, Any], job: Job, path: str) -> JobState:
    """Return the state in which a job begins on a disk that another build has left after its first steps."""
    left = JobState("", job.phase, job.attempt)
    _fill(left, document, path)
    if left.next != job.first or left.started or left.ended or left.phase != job.phase:
        raise DamagedState(f"{path} is not of a disk that was kept after step {job.first}")
    state = JobState(job.build_id, job.phase, job.attempt)
    state.next, state.unpacked, state.arranged = left.next, left.unpacked, left.arranged
    return state


def _fill(state: JobState, document: dict[str, Any], path: str) -> None:
    for name in vars(state):
        value = document.get(name, getattr(state, name) if name in ADDED else None)
        if type(value) is not type(getattr(state, name)):
            raise DamagedState(f"{path}: {name} is {value!r:.80}")
        setattr(state, name, value)
    if not all(isinstance(report, str) for report in state.unsent):
        raise DamagedState(f"{path}: unsent holds something that is not a report")


def _begin_attempt(state: JobState, attempt: int) -> None:
    state.attempt = attempt
    state.sequence = state.interruptions = state.failures = state.arranging = 0
    state.ended = ""
    state.layered = False
    state.unsent = []  # of the earlier attempt, which the host does not wait for any more
