"""Do a job's steps in order, each once, however often the machine goes down in between.

start ─► try ─► ok ─► finished ─► next step
          │      └─► status 194 ─► finished ─► reboot ─► next step
          ├─► failed ─► tries left ─► pause ─► try
          │                └─► none ─► the job has failed
          └─► power cut ─► idempotent ─► try       (MOST_INTERRUPTIONS times in one attempt)
                            └─► not ─► the job has failed
"""

from __future__ import annotations

import os
import time

from .journal import Journal
from .output import Console, Output
from .process import TimedOut
from .protocol import (
    COMPLETED,
    FAILED,
    REBOOT_STATUS,
    REBOOTING,
    STARTED,
    STEP_FAILED,
    STEP_FINISHED,
    STEP_STARTED,
    Job,
    Step,
)
from .steps import StepError, Workshop, act

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional

MOST_INTERRUPTIONS = 3  # of one step in one attempt: a step that brings the machine down would do so forever
LONGEST_PAUSE = 10.0  # seconds between two tries


class Try:
    """How one try of a step went."""

    def __init__(self, status: Optional[int], seconds: float, problem: str, tail: bytes, note: str) -> None:
        self.status = status
        self.seconds = seconds
        self.problem = problem
        self.tail = tail
        self.note = note


class Runner:
    """Runs the steps of one job."""

    def __init__(self, job: Job, journal: Journal, console: Console, root: str, context: str, logs: str) -> None:
        self._job = job
        self._journal = journal
        self._state = journal.state
        self._console = console
        self._root = root
        self._context = context
        self._logs = logs

    def run(self, note: str, resumed: bool) -> str:
        """Go on until something decides: COMPLETED (all steps done), FAILED or REBOOTING. `note` is for `started`."""
        if not self._start(note, resumed):
            return FAILED
        while self._state.next < len(self._job.steps):
            outcome = self._step(self._state.next, self._job.steps[self._state.next])
            if outcome is not None:
                return outcome
        self._journal.commit()
        return COMPLETED

    def _start(self, note: str, resumed: bool) -> bool:
        """Report `started`, and whether the step that a power cut interrupted may run again."""
        state = self._state
        problem = ""
        if state.started:
            state.interruptions += 1
            problem = self._interrupted(self._job.steps[state.next])
            note = "; ".join(filter(None, [f"step {self._job.steps[state.next].name!r} was interrupted", note]))
        self._journal.report(STARTED, resumed_at=state.next if resumed else None, message=note)
        if problem:
            self._fail(state.next, problem)
        return not problem

    def _interrupted(self, step: Step) -> str:
        """Say why an interrupted step may not run again, or nothing."""
        if not step.idempotent:
            return f"step {step.name!r} was interrupted and is not idempotent: it cannot be run a second time"
        if self._state.interruptions > MOST_INTERRUPTIONS:
            return f"the machine went down {self._state.interruptions} times during step {step.name!r}"
        return ""

    def _fail(self, index: int, problem: str) -> None:
        self._state.ended = FAILED
        self._journal.report(FAILED, step=index, message=problem)
        self._journal.commit()

    def _step(self, index: int, step: Step) -> Optional[str]:
        """Run one step until it is finished (None), or until that decides about the job."""
        state = self._state
        while True:
            state.started = True
            state.tries += 1
            self._journal.report(STEP_STARTED, step=index, tries=state.tries)
            self._journal.commit()
            tried = self._try(index, step)
            if not tried.problem:
                return self._finish(index, tried)
            state.failures += 1
            state.started = False
            final = state.failures > step.retries
            self._report_failure(index, tried, final)
            if final:
                self._fail(index, f"step {step.name!r} failed: {tried.problem}")
                return FAILED
            self._journal.commit()
            time.sleep(min(LONGEST_PAUSE, 2.0 ** (state.failures - 1)))

    def _finish(self, index: int, tried: Try) -> Optional[str]:
        tries = self._state.tries
        self._state.finish_step()
        how = {"exit_status": tried.status, "seconds": tried.seconds, "message": tried.note}
        self._journal.report(STEP_FINISHED, step=index, tries=tries, **how)
        if tried.status != REBOOT_STATUS:
            return None  # written with whatever comes next: the step's own commit, or the end of the job
        self._journal.report(REBOOTING, step=index)
        self._journal.commit()
        return REBOOTING

    def _report_failure(self, index: int, tried: Try, final: bool) -> None:
        self._journal.report(
            STEP_FAILED,
            step=index,
            tries=self._state.tries,
            exit_status=tried.status,
            seconds=tried.seconds,
            final=final,
            message=tried.problem,
            output=tried.tail.decode("utf-8", "replace"),
        )

    def _try(self, index: int, step: Step) -> Try:
        output = Output(step.name, os.path.join(self._logs, f"{index:03}.log"), self._console)
        began = time.monotonic()
        workshop = Workshop(self._root, self._context, output, began + step.timeout)
        status: Optional[int] = None
        try:
            status = act(step, workshop)
            problem = "" if status in (0, REBOOT_STATUS) else f"exit status {status}"
        except TimedOut as error:
            status, problem = error.status, f"not done within {step.timeout:g} s"
        except (StepError, OSError) as error:
            problem = str(error)
            output.say(problem)
        finally:
            output.close()
        seconds = round(time.monotonic() - began, 3)
        self._console.say(f"step {step.name!r} {'failed: ' + problem if problem else 'is finished'} ({seconds:.1f} s)")
        return Try(status, seconds, problem, output.tail, workshop.note)
