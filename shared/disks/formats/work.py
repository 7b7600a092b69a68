"""One export in hand: its files, and its jobs, each a thread. The first that fails ends the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ...archives.gzip_stream import Level
from ...build.build import ExportedFile
from ...build.export_formats import ExportFormat
from ...errors import EnvironmentFault
from .halt import Fraction, Halt, Halted

T = TypeVar("T")

_LOOK = 0.1  # seconds between two looks at whether the caller wants it to go on
_WRITTEN = 0.8  # of a format's progress; the rest is its proof


@dataclass(frozen=True)
class ExportOrigin:
    """The image that is exported."""

    name: str
    architecture: str  # as Compute Engine writes it
    created: float  # seconds since 1970; of the disk itself, so that the same disk gives the same file


class ExportWork:
    """The formats that are to be written, each to its own file, and what is known of those that are done."""

    def __init__(self, targets: Mapping[ExportFormat, Path], level: Level) -> None:
        self.targets = targets
        self.level = level
        self.halt = Halt()
        self.done: dict[str, ExportedFile] = {}
        self._fractions = dict.fromkeys((known.name for known in targets), 0.0)

    def fraction(self, *names: str, end: float = _WRITTEN) -> Fraction:
        """Return what takes the progress of formats up to `end` of them, and raises Halted when all is to end."""

        def take(done: float) -> None:
            self.halt.look()
            for name in names:
                self._fractions[name] = done * end

        return take

    def end(self, known: ExportFormat, sha256: str) -> None:
        """Note a format whose file is written and proved."""
        self.done[known.name] = ExportedFile(known.name, self.targets[known].stat().st_size, sha256)
        self._fractions[known.name] = 1.0

    @property
    def progress(self) -> float:
        """How much of all is done, from 0 to 1."""
        return sum(self._fractions.values()) / len(self._fractions)

    def run(self, start: Callable[[Jobs], None], look: Callable[[], None]) -> None:
        """Start jobs and wait for them; `look` is called meanwhile by the caller's thread, and may raise to end all.

        Raises what the first job that failed has raised. Then the files are gone.
        """
        jobs = Jobs(self.halt)
        try:
            start(jobs)
            jobs.wait(look)
        except BaseException:
            self.halt.set()
            jobs.close()
            self.remove()
            raise
        jobs.close()

    def remove(self) -> None:
        """Remove what is there of all files, also of an earlier export that was killed."""
        for target in self.targets.values():
            try:
                target.unlink(missing_ok=True)
            except OSError as error:
                raise EnvironmentFault(f"{target}: cannot be written: {error.strerror}") from error


class Jobs:
    """Threads, one for each job: a job may wait for another one."""

    def __init__(self, halt: Halt) -> None:
        self._halt = halt
        self._pool = ThreadPoolExecutor(64, thread_name_prefix="export")
        self._futures: list[Future[object]] = []

    def start(self, job: Callable[[], T]) -> Future[T]:
        """Start a job."""
        future = self._pool.submit(self._guarded, job)
        self._futures.append(future)  # type: ignore[arg-type]
        return future

    def wait(self, look: Callable[[], None]) -> None:
        """Wait until all have ended; raise what the first to fail has raised."""
        pending = set(self._futures)
        while pending:
            _, pending = wait(pending, timeout=_LOOK, return_when=FIRST_EXCEPTION)
            if any(future.done() and future.exception() for future in self._futures):
                break
            look()
        self._halt_if(pending)
        self.close()
        faults = [fault for future in self._futures if (fault := future.exception())]
        first = next((fault for fault in faults if not isinstance(fault, Halted)), None)
        if first or faults:
            raise first or faults[0]

    def close(self) -> None:
        """Wait until no thread is left."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _guarded(self, job: Callable[[], T]) -> T:
        try:
            return job()
        except BaseException:
            self._halt.set()
            raise

    def _halt_if(self, pending: set[Future[object]]) -> None:
        if pending:
            self._halt.set()
