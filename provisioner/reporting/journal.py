"""State first, reports second: no report leaves before the state that it is about is on the disk.

    boot 1   state {next 0, started, sequence 2, unsent [2]}   report 2 "step-started"   ... power cut
    boot 2   state is read                                     report 2 again, then 3 "started, resumed at step 0"

So a sequence number never stands for two different facts, and none is lost however the machine goes down.

More than one thread reports: a step of elements tells of its scripts while it runs. A thread has the journal to
itself from record() until its report is written and sent.
"""

from __future__ import annotations

import threading
import time

from ..protocol import COMPLETED, FAILED, SCRIPTS, Job, Report, encode
from ..system.files import write_whole
from .reports import Reporter
from .state import UNSENT_LIMIT, JobState

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


_OF_SCRIPTS = '"kind":"' + SCRIPTS + '"'  # in encode()'s form; in a text the quotes would be escaped


def most_telling(reports: list[str]) -> list[str]:
    """Return the newest UNSENT_LIMIT of some reports; those of scripts are the first to go, for the others decide."""
    over = len(reports) - UNSENT_LIMIT
    if over > 0:
        doomed = [index for index, text in enumerate(reports) if _OF_SCRIPTS in text][:over]
        reports = [text for index, text in enumerate(reports) if index not in doomed]
    return reports[-UNSENT_LIMIT:]


class Journal:
    """The state on disk and the reports about it, kept in step."""

    def __init__(self, path: str, job: Job, state: JobState, reporter: Reporter) -> None:
        """Send the reports that are unsent in `state`."""
        self.state = state
        self.path = path
        self._job = job
        self._reporter = reporter
        self._prepared: list[tuple[str, str]] = []  # kind and text
        self._one_at_a_time = threading.RLock()
        reporter.send([text.encode() for text in state.unsent])

    def report(self, kind: str, **facts: Any) -> None:
        """Prepare a report. `facts` are further fields of Report."""
        job = self._job
        with self._one_at_a_time:
            self.state.sequence += 1
            number = self.state.sequence
            report = Report(
                job.build_id, job.attempt, job.phase, number, kind, time.time(), machine=job.machine, **facts
            )
            self._prepared.append((kind, encode(report).decode()))

    def record(self, kind: str, **facts: Any) -> None:
        """Prepare a report, and commit it before another thread can report. OSError as of commit()."""
        with self._one_at_a_time:
            self.report(kind, **facts)
            self.commit()

    def commit(self) -> None:
        """Write the state to the disk, then send the prepared reports. OSError when the state cannot be written."""
        with self._one_at_a_time:
            delivered = {report.decode() for report in self._reporter.delivered()}
            unsent = [text for text in self.state.unsent if text not in delivered]
            new = [text for _, text in self._prepared if text not in unsent]  # a commit that failed has added its own
            self.state.unsent = most_telling(unsent + new)
            write_whole(self.path, self.state.encode())
            self._send_prepared()

    def fail_unwritten(self, problem: str) -> None:
        """Send that the job has failed, though the state cannot be written any more; the machine ends afterwards.

        A failure that is prepared already is sent instead. A success that cannot be written does not count.
        """
        with self._one_at_a_time:
            if self._prepared and self._prepared[-1][0] == COMPLETED:
                self._prepared.pop()
                self.state.sequence -= 1  # not sent, so that its number is free
            if FAILED not in [kind for kind, _ in self._prepared]:
                self.report(FAILED, message=problem)
            self._send_prepared()

    def _send_prepared(self) -> None:
        self._reporter.send([text.encode() for _, text in self._prepared])
        self._prepared = []
