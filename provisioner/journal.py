"""What happened is written down first and told afterwards: no report leaves before the state that it speaks of is safe.

    boot 1   state {next 0, started, sequence 2, unsent [2]}   report 2 "step-started"   ... power cut
    boot 2   state is read                                     report 2 again, then 3 "started, resumed at step 0"

So a sequence number never stands for two different facts, and none is lost however the machine goes down.
"""

from __future__ import annotations

import time

from .protocol import Job, Report, encode
from .reports import Reporter
from .state import UNSENT_LIMIT, State, write_whole

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Journal:
    """The state on disk and the reports about it, kept in step."""

    def __init__(self, path: str, job: Job, state: State, reporter: Reporter) -> None:
        """Send what `state` does not know to have arrived."""
        self.state = state
        self.path = path
        self._job = job
        self._reporter = reporter
        self._prepared: list[str] = []
        reporter.send([text.encode() for text in state.unsent])

    def report(self, kind: str, **facts: Any) -> None:
        """Prepare a report. `facts` are further fields of Report."""
        self.state.sequence += 1
        job = self._job
        report = Report(job.build_id, job.attempt, job.phase, self.state.sequence, kind, time.time(), **facts)
        self._prepared.append(encode(report).decode())

    def commit(self) -> None:
        """Put the state on the disk, then send what was prepared. OSError when the disk does not take it."""
        delivered = {report.decode() for report in self._reporter.delivered()}
        unsent = [text for text in self.state.unsent if text not in delivered]
        self.state.unsent = (unsent + self._prepared)[-UNSENT_LIMIT:]
        write_whole(self.path, self.state.encode())
        self._send_prepared()

    def report_unwritten(self, kind: str, **facts: Any) -> None:
        """Send a report though the disk takes no state any more; the machine ends with it."""
        self.report(kind, **facts)
        self._send_prepared()

    def _send_prepared(self) -> None:
        self._reporter.send([text.encode() for text in self._prepared])
        self._prepared = []
