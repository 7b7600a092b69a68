"""What the threads of one export share: a way to end them all, with the programs that they run."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Generic, TypeVar

from ...errors import GoldsmithError
from ...host.programs import ProgramFailed, find_tool

T = TypeVar("T")
Fraction = Callable[[float], None]
"""Takes how much of a piece of work is done, from 0 to 1."""

_PERCENT = re.compile(rb"\(([\d.]+)/100%\)")
_TAIL = 4096  # bytes of what a program says that are quoted


class Halted(GoldsmithError):
    """Another thread of the same export has failed, or its caller has ended it: never the reason of anything."""


class OutputThread(threading.Thread, Generic[T]):
    """A thread that uses up what a program writes, so that the program can go on, and keeps what comes of it."""

    def __init__(self, stream: IO[bytes], use: Callable[[IO[bytes]], T]) -> None:
        super().__init__(name="export", daemon=True)
        self._stream, self._use = stream, use
        self._made: list[T] = []
        self.start()

    def run(self) -> None:
        """Use the output up."""
        self._made.append(self._use(self._stream))

    def result(self) -> T:
        """Return what came of it, once the program has closed its output."""
        self.join()
        return self._made[0]


class Program:
    """A program that runs: bytes go in, if it has an input, and come out, if its output is wanted."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], complaints: IO[bytes]) -> None:
        self._name = name
        self._process = process
        self._complaints = complaints
        self._threads: list[threading.Thread] = []

    @property
    def input(self) -> IO[bytes]:
        """Its standard input."""
        assert self._process.stdin is not None
        return self._process.stdin

    @property
    def output(self) -> IO[bytes]:
        """Its standard output."""
        assert self._process.stdout is not None
        return self._process.stdout

    def use_output(self, use: Callable[[IO[bytes]], T]) -> OutputThread[T]:
        """Use its output up in a thread, while the caller writes its input."""
        thread = OutputThread(self.output, use)
        self._threads.append(thread)
        return thread

    def close(self) -> None:
        """Wait until it and the threads that use its output have ended, and close its pipes."""
        self._process.wait()
        for thread in self._threads:
            thread.join()
        for stream in (self._process.stdin, self._process.stdout):
            if stream:
                stream.close()

    def end(self) -> None:
        """Close its input and wait until it has ended. ProgramFailed when it ends with another status than 0."""
        if self._process.stdin:
            self._process.stdin.close()
        if self._process.wait():
            self._complaints.seek(0)
            text = self._complaints.read()[-_TAIL:].decode("utf-8", "replace")
            raise ProgramFailed(self._name, self._process.returncode, text)


class Halt:
    """Set once, it ends each thread at its next look, and kills the programs that they wait for."""

    def __init__(self) -> None:
        self._set = threading.Event()
        self._lock = threading.Lock()
        self._processes: set[subprocess.Popen[bytes]] = set()

    def set(self) -> None:
        """End everything."""
        with self._lock:
            self._set.set()
            for process in self._processes:
                process.kill()

    def look(self) -> None:
        """Raise Halted once all is to end."""
        if self._set.is_set():
            raise Halted("the export was ended")

    @contextmanager
    def program(
        self,
        arguments: Sequence[str | Path],
        *,
        stdin: int = subprocess.DEVNULL,
        stdout: int | IO[bytes] = subprocess.DEVNULL,
    ) -> Iterator[Program]:
        """Run a program for as long as the block, which has to use up its output; it dies with this thread.

        Texts are in English, and times in UTC. MissingTool; ProgramFailed when it ends with another status than 0.
        """
        name = str(arguments[0])
        command = [find_tool("setpriv"), "--pdeathsig", "KILL", find_tool(name), *map(str, arguments[1:])]
        with tempfile.TemporaryFile() as complaints:
            with self._lock:
                self.look()
                process = subprocess.Popen(
                    command, bufsize=0, stdin=stdin, stdout=stdout, stderr=complaints, env=_environment()
                )
                self._processes.add(process)
            program = Program(name, process, complaints)
            try:
                yield program
                program.end()
            except ProgramFailed:
                self.look()  # it has been killed
                raise
            except BaseException:
                process.kill()
                raise
            finally:
                program.close()
                with self._lock:
                    self._processes.discard(process)

    def run(self, arguments: Sequence[str | Path], fraction: Fraction | None = None) -> None:
        """Run a program to its end; `fraction` gets what it says of its progress, as qemu-img -p does."""
        with self.program(arguments, stdout=subprocess.PIPE) as program:
            for text in pieces_of(program.output, 4096):
                found = _PERCENT.findall(text)
                if found and fraction:
                    fraction(float(found[-1]) / 100)


def pour(pieces: Iterable[bytes], *programs: Program) -> None:
    """Write pieces to the inputs of programs. One may have enough before the end, as of an archive's last zeros."""
    reading = list(programs)
    for piece in pieces:
        for program in tuple(reading):
            try:
                _write_whole(program.input, piece)
            except BrokenPipeError:
                program.end()
                reading.remove(program)
    for program in reading:
        program.input.close()


def pieces_of(stream: IO[bytes], size: int) -> Iterator[bytes]:
    """Yield what comes out of a program, as it comes, in pieces of at most `size` bytes."""
    while piece := stream.read(size):
        yield piece


def _write_whole(stream: IO[bytes], data: bytes) -> None:
    """Write all of some bytes to a pipe that has no buffer of ours."""
    left = memoryview(data)
    while left:
        left = left[os.write(stream.fileno(), left) :]


def _environment() -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C", "TZ": "UTC0"}
