"""What the scripts of elements do, told while they run: by the process that runs them, and read by the step.

    run      a line at the end of WORK/scripts for each script that begins or ends
    step     a thread reads them, and reports them together: soon at first, and then after ever longer pauses

Each side has the file open from the beginning, so that nothing that a script puts in its place counts. A script is root
and can write to it all the same: what is told of scripts is for people, and decides nothing.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress

from ..protocol import (
    ALL_SCRIPTS_LIMIT,
    SCRIPTS_LIMIT,
    SCRIPTS_PAUSE,
    ScriptFact,
    decode_scripts,
    encode_script,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, Optional, Tuple

SCRIPTS_FILE = "scripts"
_LOOK = 0.25  # seconds between looks at the file
_FIRST_PAUSE, _SHARE = 1.0, 0.05  # seconds between two reports, and as a part of the time that the try has taken
_CHUNK = 1 << 15
_MOST_CHUNKS = 64  # in one look
_MOST_WAITING = 10_000  # scripts; an image has no more
_LONGEST_LINE = 4096


class ScriptLog:
    """The end of the file at which the run writes."""

    def __init__(self, work: str) -> None:
        """Open the file of a step's work, where there is one."""
        self._handle = -1
        with suppress(OSError):
            self._handle = os.open(os.path.join(work, SCRIPTS_FILE), os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)

    def add(self, fact: ScriptFact) -> None:
        """Tell of a script. What the disk has no room for is not told."""
        if self._handle < 0:
            return
        try:
            os.write(self._handle, encode_script(fact).encode("ascii") + b"\n")
        except OSError:
            self._handle = -1


class ScriptReports:
    """A thread of the step, which reports what the run tells for as long as the block runs, and the rest at its end."""

    def __init__(self, work: str, tell: Optional[Callable[[str], None]], hide: Callable[[str], str] = str) -> None:
        """Make the file; `tell` reports lines, and None is for a step whose scripts are not reported. OSError.

        `hide` returns a text without what no report may show.
        """
        self._tell = tell
        self._hide = hide
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._part = b""
        self._waiting: Dict[Tuple[str, str], ScriptFact] = {}
        self._told = 0  # bytes
        self.left_out = 0  # scripts whose ends are not told
        self._handle = -1
        if tell is not None:
            flags = os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self._handle = os.open(os.path.join(work, SCRIPTS_FILE), flags, 0o600)

    def __enter__(self) -> ScriptReports:
        if self._handle >= 0:
            self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._ended.set()
        if self._handle >= 0:
            self._thread.join()  # whatever the disk takes: what the step reports next is written to the same files
            os.close(self._handle)

    def _follow(self) -> None:
        began = time.monotonic()
        due = began
        with suppress(OSError):  # of a full disk, say: the step itself says so
            while not self._ended.wait(_LOOK):
                self._read()
                now = time.monotonic()
                if self._waiting and now >= due:
                    self._report()
                    due = now + min(SCRIPTS_PAUSE, max(_FIRST_PAUSE, _SHARE * (now - began)))
            self._read()
            self._report()

    def _read(self) -> None:
        """Take the lines that are new; the end of a script takes the place of its beginning."""
        for _ in range(_MOST_CHUNKS):
            data = os.read(self._handle, _CHUNK)
            if not data:
                break
            *lines, rest = (self._part + data).split(b"\n")
            self._part = rest[-_LONGEST_LINE:]
            for told in decode_scripts(b"\n".join(lines).decode("utf-8", "replace")):
                phase, file, element = map(self._hide, (told.phase, told.file, told.element))
                fact = ScriptFact(phase, file, element, told.seconds, told.exit_status)
                self._waiting.pop((fact.phase, fact.file), None)
                if len(self._waiting) < _MOST_WAITING:
                    self._waiting[fact.phase, fact.file] = fact

    def _report(self) -> None:
        """Report what waits, in as many reports as it takes; beyond ALL_SCRIPTS_LIMIT nothing is told any more."""
        assert self._tell is not None
        lines: List[str] = []
        size = 0
        for fact in self._waiting.values():
            line = encode_script(fact)
            if len(line) >= _LONGEST_LINE or self._told + len(line) >= ALL_SCRIPTS_LIMIT:
                self.left_out += fact.seconds is not None
                continue
            if size + len(line) >= SCRIPTS_LIMIT:
                self._tell("\n".join(lines))
                lines, size = [], 0
            lines.append(line)
            size += len(line) + 1
            self._told += len(line) + 1
        self._waiting.clear()
        if lines:
            self._tell("\n".join(lines))
