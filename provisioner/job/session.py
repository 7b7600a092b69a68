"""One boot's part of a job: load the state, unpack, run the steps, clean up, report, and turn the machine off."""

from __future__ import annotations

import errno
import json
import os
import time

from ..machine.free_blocks import wipe, wipe_files
from ..machine.lent_network import proxy_places
from ..machine.machine import END_LAYER, SYSTEMD, NoMachine
from ..protocol import (
    BUILD,
    COMPLETED,
    EXPORT,
    FAILED,
    HYGIENE_FAIL,
    HYGIENE_OFF,
    INVENTORY,
    OUTPUT_LIMIT,
    REBOOTING,
    VERIFY,
    Job,
)
from ..reporting.journal import Journal
from ..reporting.report_port import ReportPort
from ..reporting.reports import Reporter, Way
from ..reporting.state import LOST_SEQUENCE, DamagedState, JobState, load_state
from ..steps.step_context import MakerFolders
from ..system.output import StepConsole
from .runner import LAYERED, REMEDY, Runner
from .step_secrets import NO_SECRETS, OF_MANAGER
from .working_folder import JobFolders, WorkingFolder

SHOWN_PROBLEMS = 5


class Session:
    """A job on this machine, from boot to power-off."""

    def __init__(self, job: Job, places: JobFolders, console: StepConsole, machine: NoMachine) -> None:
        """Load the state, and send the reports that an earlier boot could not. OSError."""
        self._job = job
        self._places = places
        self._console = console
        self._machine = machine
        self._resumed = False
        self._damage = ""
        self._secrets = NO_SECRETS
        self._target = ""  # the target of this boot, where systemd is the init
        if job.hold:
            machine.keep_shell_port()
        path = os.path.join(places.state, "state.json")
        state = self._recall(path)
        self._reporter = _reporter(job, console)
        self._journal = Journal(path, job, state, self._reporter)

    def run(self, drain: float) -> int:
        """Work until the job ends or the machine must restart. Returns only where nothing turns the machine off.

        `drain` is how many seconds to wait for the last reports to leave: the network may be dead.
        """
        try:
            outcome = self._journal.state.ended or self._work()
        except OSError as error:
            outcome = FAILED
            problem = f"the provisioner cannot go on: {error}"
            if error.errno == errno.ENOSPC:
                problem += f"; {REMEDY}"
            self._console.say(problem)
            self._journal.fail_unwritten(problem)
        if outcome == COMPLETED and self._becomes_image():
            self._machine.trim()  # while the last report is on its way
        told = self._reporter.drain(drain)
        if outcome == REBOOTING:
            return self._machine.reboot()
        if outcome == LAYERED:
            return END_LAYER
        if self._job.linger and (outcome == FAILED or not told):  # the serial ports can be read only while the VM runs
            self._console.say(f"{self._job.linger:g} s for the host to read the console and {self._job.report_port}")
            time.sleep(self._job.linger)
        if outcome == COMPLETED and self._job.clean:
            wipe(self._journal.path)
            wipe_files(self._places.files)
            self._places.forget("")
        self._console.say(f"the job has {'completed' if outcome == COMPLETED else 'failed'}")
        return self._machine.turn_off(failed=outcome == FAILED)

    def _recall(self, path: str) -> JobState:
        try:
            state = load_state(path, self._job)
        except DamagedState as error:
            self._damage = f"{error}; how far the job had come is lost"
        else:
            self._resumed = state is not None
            if state is not None:
                return state
        fresh = JobState(self._job.build_id, self._job.phase, self._job.attempt)
        fresh.sequence = LOST_SEQUENCE if self._damage else 0
        return fresh

    def _work(self) -> str:
        if self._job.makes_root:
            unpack_maker(self._places.maker)
        elif self._job.hygiene != HYGIENE_OFF or self._is_searched():
            from ..hygiene.source_record import take_record  # loads all that the check needs; jobs without it skip that

            places = self._places
            whole = self._is_searched()
            take_record(places.root, places.state, places.record, places.mark, resumed=self._resumed, whole=whole)
        problem = self._trouble()
        if problem:
            return self._fail(problem)
        note = self._machine.prepare(grows=not self._must_grow_itself())
        if note:
            self._console.say(note)
        outcome, told = (FAILED, self._damage) if self._damage else self._arrange()
        if outcome == REBOOTING:
            return outcome
        problem = told if outcome == FAILED else self._await_disk()
        note = "; ".join(filter(None, [note, told]))
        if self._job.scratch and not problem:
            problem = self._machine.add_scratch()
        folder = WorkingFolder(self._job, self._places, self._journal)
        if not problem and any(step.reads is None for step in self._job.steps[self._journal.state.next :][:1]):
            problem = folder.unpack()
        runner = Runner(self._job, self._journal, self._console, self._machine, self._places, folder)
        problem = problem or runner.fetch_secrets()
        if problem:
            return self._fail(problem)
        outcome = runner.run(note, self._resumed)
        self._secrets = runner.secrets
        os.chdir("/")
        if outcome == COMPLETED:
            return self._complete()
        return outcome

    def _must_grow_itself(self) -> bool:
        """Return whether the image is to show that it grows by itself."""
        if self._job.phase != VERIFY:
            return False
        from ..machine.system_state import is_direct_boot

        return not is_direct_boot(self._places.root)

    def _becomes_image(self) -> bool:
        """Return whether this machine's own disk becomes, or is, the image that is made."""
        return not self._job.makes_root and self._job.phase != EXPORT

    def _await_disk(self) -> str:
        """Wait for the disk that is to be exported; return what is wrong, or ""."""
        if self._job.phase != EXPORT:
            return ""
        from .given_disk import await_disk  # few jobs have it

        return await_disk(self._journal, self._places.root)

    def _is_searched(self) -> bool:
        """Return whether this machine searches its own files for values; on one machine the host searches its disk."""
        places = [place for step in self._job.steps for place in step.secrets.values()]
        return self._job.phase == BUILD and any(place.startswith(OF_MANAGER) for place in places)

    def _search(self) -> str:
        """Return where the values of secrets are in this machine's files, for people; "" where they are in none."""
        from ..hygiene.hygiene import describe_findings
        from ..hygiene.self_check import check_values

        places = self._places
        found = check_values(places.root, places.state, places.record, self._secrets.named(self._job))
        return describe_findings([str(finding) for finding in found])

    def _arrange(self) -> tuple[str, str]:
        """Move the partitions to where the job wants them; return the outcome, and a note or the reason for people."""
        if self._job.layout is None:
            return "", ""
        from ..cos.arrangement import arrange  # loads all that moving partitions needs

        places = self._places
        return arrange(self._job.layout, self._journal, self._console, places.root, places.provisioner)

    def _fail(self, problem: str, output: str = "") -> str:
        self._console.say(problem)
        self._journal.state.ended = FAILED
        self._journal.record(FAILED, message=problem, output=output)
        return FAILED

    def _trouble(self) -> str:
        """Return why the system is not fit for steps; "" where it is, as a tree of files or another init always is."""
        if not os.path.isdir(os.path.join(self._places.root, SYSTEMD)):
            return ""
        from ..machine.system_state import default_target, trouble

        self._target = default_target(self._places.root)
        return trouble(self._places.root, self._target)

    def _incomplete(self) -> tuple[str, str]:
        """Return why no image may be made of the system that the steps have left, and a note about it."""
        if not os.path.isdir(os.path.join(self._places.root, SYSTEMD)):
            return "", ""
        from ..machine.system_state import incomplete

        allowed = self._job.allow_failed if self._job.phase == VERIFY else None
        return incomplete(self._places.root, self._target, allowed)

    def _complete(self) -> str:
        problem, noted = self._incomplete() if self._becomes_image() else ("", "")
        if problem:
            return self._fail(problem)
        problems = []
        if self._job.inventory and not self._job.makes_root:  # else the sandbox has told
            from .inventory import take

            output, message = take(self._places.root)
            self._journal.report(INVENTORY, output=output, message=message)
        told_identity: tuple[str, ...] = ()
        if self._job.clean:
            from ..machine.clean_machine import clean  # imported after the steps: their start does not wait for it
            from ..machine.identity import identity

            if os.path.isdir(os.path.join(self._places.root, SYSTEMD)):  # else it is a tree of files
                told_identity = identity(self._places.root)
            problems = self._machine.silence()
            if self._job.scratch:
                self._machine.drop_scratch()
            problems += [*self._machine.empty_swap(), *clean(self._places.root)]
            self._places.forget("/context", "/download", "/logs")  # start.sh downloads the context there
        shown = f"not all could be cleaned: {'; '.join(problems[:SHOWN_PROBLEMS])}" if problems else ""
        held = self._search() if self._is_searched() else ""
        if held:
            return self._fail(held)
        told, findings = self._check()
        if told and self._job.hygiene == HYGIENE_FAIL:
            return self._fail(told, findings)
        shown = "; ".join(filter(None, [noted, shown, told]))
        if shown:
            self._console.say(shown)
        self._journal.state.ended = COMPLETED
        self._journal.record(COMPLETED, message=shown, output=findings, identity=told_identity)
        return COMPLETED

    def _check(self) -> tuple[str, str]:
        """Return what must not be in an image: in one line, and one finding a line. "" where hygiene is off.

        Findings that the job allows are at the end of the second text only.
        """
        if self._job.hygiene == HYGIENE_OFF:
            return "", ""
        from ..hygiene.hygiene import Finding, describe_findings
        from ..hygiene.self_check import check_machine, report_lines, whole_lines

        places = self._places
        if self._job.makes_root:
            findings = [Finding(*texts) for texts in read_findings(places.maker)]
        else:
            findings = check_machine(places.root, places.state, places.record, proxy_places(self._job))
        refused, allowed = report_lines(findings, self._job.allow)
        return describe_findings(refused), whole_lines([*refused, *allowed], OUTPUT_LIMIT)


def unpack_maker(folders: MakerFolders) -> None:
    """Unpack maker.zip. OSError."""
    import zipfile  # few jobs have it

    with zipfile.ZipFile(folders.archive) as archive:
        archive.extractall(folders.code)


def read_findings(folders: MakerFolders) -> list[list[str]]:
    """Return path, text and remedy of each finding in the disk that a maker VM has written. OSError."""
    with open(os.path.join(folders.home, "findings.json"), encoding="utf-8") as file:
        found: list[list[str]] = json.load(file)
    return found


def _reporter(job: Job, console: StepConsole) -> Reporter:
    ways: list[Way] = [ReportPort(job, console)]
    if job.publish_url is not None:
        from ..reporting.publisher import Publisher  # loads a network stack that other jobs do not need

        ways.insert(0, Publisher(job, job.publish_url, console))
    return Reporter(ways)
