"""Run a job's steps in order, each once, however often the machine goes down in between.

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

from ..machine.free_blocks import wipe_files
from ..machine.lent_network import lend_network, secrets_of
from ..machine.machine import NoMachine
from ..protocol import (
    COMPLETED,
    FAILED,
    FROM_CACHE,
    MAKER_ACTIONS,
    REBOOT_STATUS,
    REBOOTING,
    SCRIPTS,
    STARTED,
    STEP_FAILED,
    STEP_FINISHED,
    STEP_STARTED,
    Job,
    Step,
)
from ..reporting.journal import Journal
from ..steps.step_context import StepContext, StepError, act
from ..system.output import StepConsole, StepOutput
from ..system.process import TimedOut, find_program, leave_no_core
from .step_secrets import NO_SECRETS, SecretsMissing, StepSecrets, fetch_secrets
from .working_folder import JobFolders, WorkingFolder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, Optional, Tuple

MOST_INTERRUPTIONS = 3  # of one step in one attempt: a step that brings the machine down would do so forever
SHOWN_PROCESSES = 10  # of those that a step left running
LAYERED = "layered"  # the outcome of a process that has to end so that the host can keep a step's result
LONGEST_PAUSE = 10.0  # seconds between two tries

LEAST_FREE = 1 << 20  # bytes: a program that writes until it is refused leaves less than this
NO_SPACE = (b"No space left on device", b"You don't have enough free space")  # of the kernel, and of apt
REMEDY = "raise output.disk_size_gb, or delete in the steps what the image does not need"


class Try:
    """The result of one try of a step."""

    def __init__(
        self, status: Optional[int], seconds: float, problem: str, tail: bytes, note: str, identity: Tuple[str, ...]
    ) -> None:
        self.status = status
        self.seconds = seconds
        self.problem = problem
        self.tail = tail
        self.note = note
        self.identity = identity


class Runner:
    """Runs the steps of one job."""

    def __init__(
        self,
        job: Job,
        journal: Journal,
        console: StepConsole,
        machine: NoMachine,
        places: JobFolders,
        folder: WorkingFolder,
    ) -> None:
        self._job = job
        self.secrets = NO_SECRETS
        self._machine = machine
        self._journal = journal
        self._state = journal.state
        self._console = console
        self._root = places.root
        self._logs = places.logs
        self._folder = folder
        self._places = places

    def fetch_secrets(self) -> str:
        """Fetch the secrets of the steps if that has not been done and may be; return what is wrong, or "".

        While layers are to be kept it may not be: they have the machine's swap, which may hold this process's memory.
        """
        job = self._job
        if self.secrets is not NO_SECRETS or not any(step.secrets for step in job.steps):
            return ""
        if any(index >= self._state.next for index in job.layers):
            return ""
        try:
            self.secrets = fetch_secrets(job)
        except SecretsMissing as error:
            return str(error)
        leave_no_core()
        return ""

    def run(self, note: str, resumed: bool) -> str:
        """Run the steps that are left; return COMPLETED, FAILED, REBOOTING or LAYERED. `note` goes into `started`."""
        if not self._start(note, resumed):
            return FAILED
        while self._state.next < len(self._job.steps):
            index, step = self._state.next, self._job.steps[self._state.next]
            problem = self.fetch_secrets()
            if problem:
                self._fail(index, problem)
                return FAILED
            outcome = self._sandboxed() if self._at_sandbox() else self._step(index, step)
            if outcome is not None:
                return outcome
        self._journal.commit()
        return COMPLETED

    def _start(self, note: str, resumed: bool) -> bool:
        """Report `started`; return whether the steps can go on. They cannot after a step that may not run again."""
        state = self._state
        index, problem = state.next, ""
        if state.started:
            state.interruptions += 1
            index, problem = self._interrupted()
            note = "; ".join(filter(None, [f"{self._begun()} was interrupted", note]))
        if not state.layered:
            self._journal.report(STARTED, resumed_at=state.next if resumed else None, message=note)
            self._report_kept()
        state.layered = False
        if problem:
            self._fail(index, problem)
        return not problem

    def _report_kept(self) -> None:
        """Report the steps whose results were there before the job began, once."""
        for index in range(self._job.first if self._state.next == self._job.first else 0):
            self._journal.report(STEP_FINISHED, step=index, message=FROM_CACHE)

    def _interrupted(self) -> Tuple[int, str]:
        """Return which of the steps that were interrupted may not run again, and why; "" where all of them may.

        Any step of the sandbox may have begun.
        """
        first = self._state.next
        for index in range(first, len(self._job.steps) - 1 if self._at_sandbox() else first + 1):
            step, why = self._job.steps[index], "was interrupted and is not idempotent: it cannot be run a second time"
            if not step.idempotent:
                return index, f"step {step.name!r} {why}"
        if self._state.interruptions > MOST_INTERRUPTIONS:
            return first, f"the machine went down {self._state.interruptions} times during {self._begun()}"
        return first, ""

    def _begun(self) -> str:
        """Return what was begun last, for people."""
        if self._at_sandbox():
            return "the sandbox of the steps"
        return f"step {self._job.steps[self._state.next].name!r}"

    def _at_sandbox(self) -> bool:
        """Return whether a maker VM has made its root and not yet run the spec's steps there. There may be none."""
        made = self._job.makes_root and not self._state.sandboxed
        return made and self._state.next >= self._first_in_sandbox()

    def _first_in_sandbox(self) -> int:
        """Return the first step that runs in the sandbox; where there is none, the one after it."""
        steps = self._job.steps
        return next((index for index, step in enumerate(steps) if step.action not in MAKER_ACTIONS), len(steps) - 1)

    def _fail(self, index: int, problem: str, tried: Optional[Try] = None) -> None:
        """End the job with a report that is complete in itself: it may arrive before the others, or alone."""
        self._state.ended = FAILED
        how = {} if tried is None else self._how(tried)
        self._leave_disk()
        self._journal.record(FAILED, step=index, tries=self._state.tries, final=True, message=problem, **how)

    def _leave_disk(self) -> None:
        """Make the disk one to be kept: it has all that the step has left, and not the job with its key."""
        if not self._job.kept:
            return
        try:
            wipe_files(self._places.files)
            self._places.forget("/files")
        except OSError as error:
            self._console.say(f"{self._places.files} stays on the disk that is kept: {error.strerror}")
        os.sync()

    def _sandboxed(self) -> Optional[str]:
        """Run the steps of a maker VM in the root that it has made; return FAILED, or None once they are finished."""
        from .sandboxed_steps import SandboxedSteps  # starts programs in a way that no other job needs

        os.chdir("/")
        state = self._state
        state.next, state.started = self._first_in_sandbox(), True
        self._journal.commit()
        steps = SandboxedSteps(self._job, state.next, self._places.maker, self._journal, self._console)
        problem, facts = steps.run()
        if problem:
            state.started = False
            state.ended = FAILED
            self._leave_disk()
            self._journal.record(FAILED, message=problem, **facts)
            return FAILED
        state.finish_step()
        state.next = len(self._job.steps) - 1
        state.sandboxed = True
        self._journal.commit()
        return None

    def _step(self, index: int, step: Step) -> Optional[str]:
        """Run one step, with its retries; return None once it is finished, or the outcome that it has for this boot."""
        state = self._state
        problem = self._folder.enter(step)
        if problem:
            self._fail(index, problem)
            return FAILED
        while True:
            state.started = True
            state.tries += 1
            self._journal.record(STEP_STARTED, step=index, tries=state.tries)
            tried = self._try(index, step)
            if not tried.problem:
                return self._finish(index, tried)
            state.failures += 1
            state.started = False
            final = state.failures > step.retries
            self._report_failure(index, tried, final)
            if final:
                problem = f"step {step.name!r} failed: {tried.problem}"
                self._hold(step, problem)
                self._fail(index, problem, tried)
                return FAILED
            self._journal.commit()
            time.sleep(min(LONGEST_PAUSE, 2.0 ** (state.failures - 1)))

    def _hold(self, step: Step, problem: str) -> None:
        """Leave the machine to a person for a while, where the job says so. It has failed, whatever happens there."""
        if not self._job.hold:
            return
        from .hold import HeldStep, Hold  # few jobs are held

        self._state.ended = FAILED
        self._journal.commit()
        self.secrets = NO_SECRETS  # a person's shell has none
        environment, apt = self._lent()
        held = HeldStep(step, problem, self._places, self._folder.path, environment, apt, secrets_of(self._job))
        Hold(held, self._machine, self._console).serve(self._job.hold)

    def _finish(self, index: int, tried: Try) -> Optional[str]:
        tries = self._state.tries
        self._state.finish_step()
        how = {"exit_status": tried.status, "seconds": tried.seconds, "message": tried.note, "identity": tried.identity}
        self._journal.report(STEP_FINISHED, step=index, tries=tries, **how)
        self._folder.leave(self._job.steps[index])
        if index in self._job.layers:
            self._state.layered = self._machine.layers_end
            self._journal.commit()
            if self._machine.layers_end:
                return LAYERED
            self._machine.keep(index, self._job.key)
        if tried.status != REBOOT_STATUS:
            return None  # written with the next step's first commit, or with the end of the job
        self._journal.record(REBOOTING, step=index)
        return REBOOTING

    def _report_failure(self, index: int, tried: Try, final: bool) -> None:
        self._journal.report(
            STEP_FAILED,
            step=index,
            tries=self._state.tries,
            final=final,
            message=tried.problem,
            **self._how(tried),
        )

    def _tell_scripts(self, index: int, text: str) -> None:
        """Report what scripts of a step do, while it runs. OSError."""
        self._journal.record(SCRIPTS, step=index, tries=self._state.tries, output=text)

    @staticmethod
    def _how(tried: Try) -> Dict[str, object]:
        output = tried.tail.decode("utf-8", "replace")
        return {"exit_status": tried.status, "seconds": tried.seconds, "output": output}

    def _try(self, index: int, step: Step) -> Try:
        hidden = [*secrets_of(self._job), *self.secrets.hidden]
        output = StepOutput(step.name, os.path.join(self._logs, f"{index:03}.log"), self._console, hidden)
        began = time.monotonic()
        machine = self._machine
        deadline = began + step.timeout
        environment, apt = self._lent()
        group = machine.step_group()
        if not step.network:
            group.leave_network(find_program("unshare") or "unshare")
        maker = self._places.maker
        context = StepContext(self._root, self._folder.path, output, deadline, group, environment, apt, maker)
        context.interrupted = self._state.interruptions > 0
        context.hold = self._job.hold > 0 and self._state.failures >= step.retries
        context.tell_scripts = lambda text: self._tell_scripts(index, text)
        status, problem = self._act(step, context, self.secrets)
        problem = output.hide(problem)
        if status == REBOOT_STATUS and not problem:
            problem = machine.no_restart
        left = context.group.end()
        if left:
            output.say(f"ended what the step left running: {', '.join(left[:SHOWN_PROCESSES])}")
        full = full_disk(self._logs, self._root, reserve=machine.uses_reserve) or (
            said_full(output.tail) if problem else ""
        )
        if full:
            problem = "; ".join(filter(None, [problem, full]))
            output.say(full)
        output.close()
        seconds = round(time.monotonic() - began, 3)
        self._console.say(f"step {step.name!r} {'failed: ' + problem if problem else 'is finished'} ({seconds:.1f} s)")
        return Try(status, seconds, problem, output.tail, output.hide(context.note), context.identity)

    def _lent(self) -> Tuple[Dict[str, str], str]:
        """Return what all steps get: variables, and settings of apt. OSError."""
        lent = lend_network(self._job, self._root)
        environment = {**lent.environment, **self._machine.environment}
        if self._job.source_date is not None:
            environment["SOURCE_DATE_EPOCH"] = str(self._job.source_date)
        return environment, lent.apt

    @staticmethod
    def _act(step: Step, context: StepContext, secrets: StepSecrets) -> Tuple[Optional[int], str]:
        """Do one try; return its exit status, None where there is none, and what went wrong, or ""."""
        try:
            context.secrets = secrets.of(step)
            status = act(step, context)
        except TimedOut as error:
            return error.status, f"not done within {step.timeout:g} s"
        except (SecretsMissing, StepError, OSError) as error:
            context.output.say(str(error))
            return getattr(error, "status", None), str(error)
        return status, "" if status in (0, REBOOT_STATUS) else f"exit status {status}"


def full_disk(*paths: str, reserve: bool = True) -> str:
    """Return which of the file systems of some paths is full, with the remedy; "" where none is.

    `reserve` is whether blocks that are kept for root count as free.
    """
    for path in paths:
        try:
            found = os.statvfs(path)
        except OSError:
            continue
        if found.f_flag & os.ST_RDONLY:  # Container-Optimized OS's root, which always is
            continue
        size = found.f_blocks * found.f_frsize
        free = found.f_bfree if reserve else found.f_bavail
        if free * found.f_frsize < min(LEAST_FREE, size // 64):
            return f"the disk of {path} is full: {size >> 20} MiB, and none is left; {REMEDY}"
        if found.f_files and not found.f_ffree:
            return f"the disk of {path} is full: no file can be added to its {found.f_files} files; {REMEDY}"
    return ""


def said_full(output: bytes) -> str:
    """Return the remedy where the output of a failed step speaks of a full disk; "" where it does not.

    Programs such as apt, dpkg and pip clean up when they are refused space, so that full_disk() finds some. The output
    does not show which disk was full.
    """
    if not any(words in output for words in NO_SPACE):
        return ""
    return f"its output says that no space was left: if that was on the image's disk, {REMEDY}"
