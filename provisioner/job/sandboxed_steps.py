"""Run the steps of a maker VM's job in the sandbox that maker.zip starts, and report each as one of this VM.

    maker.zip    {"report": ...} of the sandbox's own provisioner, signed by a key of its own
    here         the same facts under this job's numbers, in this VM's journal

A sandbox begins anew on a copy of the made root, whatever has cut it off: its steps are done all, or none of them is.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading

from ..protocol import (
    BUILD,
    COMPLETED,
    FAILED,
    HYGIENE_OFF,
    INVENTORY,
    SCRIPTS,
    STEP_FAILED,
    STEP_FINISHED,
    STEP_STARTED,
    Job,
    encode,
)
from ..reporting.journal import Journal
from ..steps.step_context import MakerFolders
from ..system.files import write_whole
from ..system.output import ProgramOutput, StepConsole

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Any, Dict, Optional, Tuple

STEP_KINDS = (STEP_STARTED, STEP_FINISHED, STEP_FAILED, SCRIPTS)
KEY_BYTES = 32
FACTS = ("tries", "exit_status", "seconds", "final", "message", "output")


class SandboxedSteps:
    """The steps between the first ones and the last one of a maker VM."""

    def __init__(self, job: Job, first: int, folders: MakerFolders, journal: Journal, console: StepConsole) -> None:
        """Steps from `first` on are done, all but the job's last one."""
        self._job = job
        self._first = first
        self._folders = folders
        self._journal = journal
        self._console = console
        self._ended = ""  # COMPLETED or FAILED, once the sandbox has said so
        self._problem = ""
        self._failed: Dict[str, Any] = {}
        self._lost: Optional[str] = None  # why there is no disk; "" where there is one
        self._said = ""  # the last line of the sandbox's console

    def run(self) -> Tuple[str, Dict[str, Any]]:
        """Run them; return why the job has failed, or "", and the facts of its last report. OSError."""
        path = os.path.join(self._folders.place, "job.json")
        write_whole(path, encode(self._inner()))
        errors = ProgramOutput()
        process = subprocess.Popen(
            self._folders.command("run", [self._folders.cidata, path]),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        reader = threading.Thread(target=_drain, args=(process.stderr, errors), daemon=True)
        reader.start()
        for line in process.stdout:
            self._take(line)
        process.wait()
        reader.join()
        said = errors.tail.decode("utf-8", "replace").strip().splitlines()
        if self._ended == FAILED:
            return self._problem, self._failed
        if self._ended == COMPLETED and self._lost == "":
            os.sync()  # before the state records it
            return "", {}
        return "the sandbox of the steps was lost: {}".format(
            self._lost or (said[-1] if said else "it told nothing")
        ), {}

    def _inner(self) -> Job:
        """Return the sandbox's job: a key and steps of its own, and nothing of this VM's."""
        job = self._job
        return Job(
            build_id=job.build_id,
            attempt=job.attempt,
            key=os.urandom(KEY_BYTES).hex(),
            steps=tuple(job.steps[self._first : -1]),
            phase=BUILD,
            heartbeat=job.heartbeat,
            hygiene=HYGIENE_OFF,
            context_digest=job.context_digest,
            inventory=job.inventory,
            source_date=job.source_date,
        )

    def _take(self, line: bytes) -> None:
        try:
            told = json.loads(line)
        except (ValueError, RecursionError):
            return
        if "console" in told:
            self._console.write(told["console"].encode("utf-8", "replace"))
            self._said = (told["console"].strip().splitlines() or [self._said])[-1]
        elif "end" in told:
            self._lost = told["end"]
        elif "report" in told:
            self._relay(told["report"])

    def _relay(self, report: Dict[str, Any]) -> None:
        kind, step = report["kind"], report.get("step")
        facts = {name: report[name] for name in FACTS if name in report}
        if step is not None:
            facts["step"] = step + self._first
        if kind in STEP_KINDS:
            if step is None or step >= len(self._job.steps) - self._first - 1:
                return
            self._journal.record(kind, **facts)
        elif kind == INVENTORY:
            self._journal.record(INVENTORY, output=report["output"], message=report["message"])
        elif kind in (COMPLETED, FAILED):
            self._ended = kind
            self._problem = facts.pop("message")
            self._failed = facts


def _drain(stream: IO[bytes], output: ProgramOutput) -> None:
    for line in stream:
        output.feed(line)
