"""The working directory of a step: the context, or the files of it that the step reads, and no others.

The whole context is unpacked once, before the first step that may see all of it. What a step has changed in it, the
next ones see. A step with `reads` has a folder of its own, made anew from the archive, which goes with the step: what
is in it depends on nothing but those files.
"""

from __future__ import annotations

import os

from ..protocol import Job, Step
from ..reporting.journal import Journal
from ..steps.step_context import MakerFolders
from ..system.tree import Tree


class JobFolders:
    """The folders of a job."""

    def __init__(self, cidata: str, root: str, state: str) -> None:
        self.archive = os.path.join(cidata, "context.tar")
        self.provisioner = os.path.join(cidata, "provisioner.pyz")
        self.maker = MakerFolders(state, cidata)
        self.root = root
        self.state = state
        self.context = os.path.join(state, "context")
        self.read = os.path.join(state, "read")  # the files of the context that one step reads
        self.files = os.path.join(state, "files")  # the job as start.sh has downloaded it, for the next boot
        self.logs = os.path.join(state, "logs")
        self.record = os.path.join(state, "source")  # the files that the source image had; see source_record.py
        self.mark = os.path.join(state, "began")  # of the release before

    def forget(self, *below: str) -> None:
        """Remove parts of the state's folder; "" is all of it."""
        folder, name = os.path.split(os.path.realpath(self.state))
        Tree(folder).remove(*(name + part for part in below))


class WorkingFolder:
    """The working directory of each step of a job."""

    def __init__(self, job: Job, places: JobFolders, journal: Journal) -> None:
        self._job = job
        self._places = places
        self._journal = journal
        self.path = places.context

    def enter(self, step: Step) -> str:
        """Make a step's working directory this process's; return what is wrong with the context, or "". OSError."""
        if step.reads is None:
            problem = self.unpack()
        else:
            problem = self._unpack_read(step.reads)
        if not problem:
            os.chdir(self.path)
        return problem

    def unpack(self) -> str:
        """Unpack the whole context, once; return what is wrong with it, or ""."""
        self.path = self._places.context
        if self._journal.state.unpacked:
            return ""
        self._places.forget("/context")  # left by a power cut, or by another build
        os.makedirs(self.path)
        problem = self._unpack(None)
        if not problem:
            os.sync()  # before the state records that all of it is there
            self._journal.state.unpacked = True
        return problem

    def leave(self, step: Step) -> None:
        """Remove what only this step sees."""
        if step.reads is not None:
            os.chdir("/")
            self._places.forget("/read")

    def _unpack_read(self, patterns: tuple[str, ...]) -> str:
        self.path = self._places.read
        self._places.forget("/read")
        os.makedirs(self.path)
        return self._unpack(patterns)

    def _unpack(self, only: tuple[str, ...] | None) -> str:
        if not os.path.exists(self._places.archive):
            return ""
        from ..system.context import ContextError, unpack_context

        try:
            unpack_context(self._places.archive, self.path, self._job.context_digest, only)
        except ContextError as error:
            return str(error)
        return ""
