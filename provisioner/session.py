"""One boot's part of a job: remember, unpack, run the steps, clean, tell, and turn the machine off."""

from __future__ import annotations

import os
import time

from .free_blocks import wipe
from .journal import Journal
from .machine import NoMachine
from .output import Console
from .protocol import COMPLETED, FAILED, HYGIENE_FAIL, HYGIENE_OFF, INVENTORY, OUTPUT_LIMIT, REBOOTING, Job
from .report_port import ReportPort
from .reports import Reporter, Way
from .runner import Runner
from .state import LOST_SEQUENCE, DamagedState, State, load_state

SHOWN_PROBLEMS = 5


class Places:
    """The folders of a job."""

    def __init__(self, cidata: str, root: str, state: str) -> None:
        self.archive = os.path.join(cidata, "context.tar")
        self.provisioner = os.path.join(cidata, "provisioner.pyz")
        self.root = root
        self.state = state
        self.context = os.path.join(state, "context")
        self.logs = os.path.join(state, "logs")
        self.record = os.path.join(state, "source")  # which files the source image had; see source_record.py
        self.mark = os.path.join(state, "began")  # of the release before


class Session:
    """A job on this machine, from boot to power-off."""

    def __init__(self, job: Job, places: Places, console: Console, machine: NoMachine) -> None:
        """Read the state and send what an earlier boot could not. OSError."""
        self._job = job
        self._places = places
        self._console = console
        self._machine = machine
        self._resumed = False
        self._damage = ""
        path = os.path.join(places.state, "state.json")
        state = self._recall(path)
        self._reporter = _reporter(job, console)
        self._journal = Journal(path, job, state, self._reporter)

    def run(self, drain: float) -> int:
        """Go on until the job ends or the machine must restart; return only where nothing turns it off.

        `drain` is how many seconds the last reports may take to leave, on a network that may be dead.
        """
        try:
            outcome = self._journal.state.ended or self._work()
        except OSError as error:
            outcome = FAILED
            problem = f"the provisioner cannot go on: {error}"
            self._console.say(problem)
            self._journal.report_unwritten(FAILED, message=problem)
        if outcome == COMPLETED:
            self._machine.trim()  # while the last report is on its way
        told = self._reporter.drain(drain)
        if outcome == REBOOTING:
            return self._machine.reboot()
        if self._job.linger and (outcome == FAILED or not told):  # what stands there can be read while it runs
            self._console.say(f"{self._job.linger:g} s for the host to read the console and {self._job.report_port}")
            time.sleep(self._job.linger)
        if outcome == COMPLETED and self._job.clean:
            wipe(self._journal.path)
            self._forget("")
        self._console.say(f"the job has {'completed' if outcome == COMPLETED else 'failed'}")
        return self._machine.turn_off(failed=outcome == FAILED)

    def _recall(self, path: str) -> State:
        try:
            state = load_state(path, self._job)
        except DamagedState as error:
            self._damage = f"{error}; how far the job had come is lost"
        else:
            self._resumed = state is not None
            if state is not None:
                return state
        fresh = State(self._job.build_id, self._job.phase, self._job.attempt)
        fresh.sequence = LOST_SEQUENCE if self._damage else 0
        return fresh

    def _work(self) -> str:
        if self._job.hygiene != HYGIENE_OFF:
            from .source_record import take_record  # and what the check needs: others do without

            places = self._places
            take_record(places.root, places.state, places.record, places.mark, resumed=self._resumed)
        note = self._machine.prepare()
        if note:
            self._console.say(note)
        outcome, told = (FAILED, self._damage) if self._damage else self._arrange()
        if outcome == REBOOTING:
            return outcome
        problem = told if outcome == FAILED else ""
        note = "; ".join(filter(None, [note, told]))
        if self._job.scratch and not problem:
            problem = self._machine.add_scratch()
        problem = problem or self._unpack()
        if problem:
            return self._fail(problem)
        os.chdir(self._places.context)  # the steps' working directory
        places = self._places
        runner = Runner(self._job, self._journal, self._console, places.root, places.context, places.logs)
        outcome = runner.run(note, self._resumed)
        os.chdir("/")
        if outcome == COMPLETED:
            return self._complete()
        return outcome

    def _arrange(self) -> tuple[str, str]:
        """Bring the partitions to where the job wants them; give what that leads to, and what people should know."""
        if self._job.layout is None:
            return "", ""
        from .arrangement import arrange  # and all that moving partitions needs

        places = self._places
        return arrange(self._job.layout, self._journal, self._console, places.root, places.provisioner)

    def _unpack(self) -> str:
        """Put the context in place, once; give what is wrong with it, or nothing."""
        if self._journal.state.unpacked:
            return ""
        self._forget("/context")  # what a power cut left of it, or another build
        os.makedirs(self._places.context)
        if not os.path.exists(self._places.archive):
            return ""
        from .context import ContextError, unpack

        try:
            unpack(self._places.archive, self._places.context, self._job.context_digest)
        except ContextError as error:
            return str(error)
        os.sync()  # before the state says that it is all there
        self._journal.state.unpacked = True
        return ""

    def _fail(self, problem: str, output: str = "") -> str:
        self._console.say(problem)
        self._journal.state.ended = FAILED
        self._journal.report(FAILED, message=problem, output=output)
        self._journal.commit()
        return FAILED

    def _complete(self) -> str:
        problems = []
        if self._job.inventory:
            from .inventory import take

            output, message = take(self._places.root)
            self._journal.report(INVENTORY, output=output, message=message)
        if self._job.clean:
            from .clean_machine import clean  # read while the steps are over anyway, not before they start

            self._machine.silence()
            if self._job.scratch:
                self._machine.drop_scratch()
            problems = [*self._machine.empty_swap(), *clean(self._places.root)]
            self._forget("/context", "/download", "/logs")  # start.sh downloads the context there
        shown = f"not all could be cleaned: {'; '.join(problems[:SHOWN_PROBLEMS])}" if problems else ""
        told, findings = self._check()
        if told and self._job.hygiene == HYGIENE_FAIL:
            return self._fail(told, findings)
        shown = "; ".join(filter(None, [shown, told]))
        if shown:
            self._console.say(shown)
        self._journal.state.ended = COMPLETED
        self._journal.report(COMPLETED, message=shown, output=findings)
        self._journal.commit()
        return COMPLETED

    def _check(self) -> tuple[str, str]:
        """Look for what must not be in an image; return it in one line, and one a line. Nothing where that is off.

        What the job allows stands at the end of the second alone.
        """
        if self._job.hygiene == HYGIENE_OFF:
            return "", ""
        from .hygiene import describe
        from .self_check import check_machine, tell, whole_lines

        places = self._places
        refused, allowed = tell(check_machine(places.root, places.state, places.record), self._job.allow)
        return describe(refused), whole_lines([*refused, *allowed], OUTPUT_LIMIT)

    def _forget(self, *below: str) -> None:
        """Remove parts of the state; "" is all of it."""
        from .tree import Tree

        folder, name = os.path.split(os.path.realpath(self._places.state))
        Tree(folder).remove(*(name + part for part in below))


def _reporter(job: Job, console: Console) -> Reporter:
    ways: list[Way] = [ReportPort(job, console)]
    if job.publish_url is not None:
        from .publisher import Publisher  # brings a network stack that other jobs do without

        ways.insert(0, Publisher(job, job.publish_url, console))
    return Reporter(ways)
