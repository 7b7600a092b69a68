"""Run one program: its output captured, its time limited, what it leaves running not waited for.

posix_spawn instead of subprocess: importing that costs 30 ms on an emulated CPU, a tenth of our whole start, and this
needs none of what it has beyond this page.
"""

from __future__ import annotations

import os
import select
import threading
import time

from .output import Output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

# Their numbers on every architecture that Compute Engine has; the signal module is slow to import.
SIGKILL, SIGPIPE, SIGTERM, SIGXFSZ = 9, 13, 15, 25

GRACE = 3.0  # seconds between TERM and KILL
LAST_WORDS = 0.3  # seconds for output of what outlives the program, such as tee in `exec > >(tee log)`
LONGEST_POLL = 3600.0  # seconds; poll() takes no more than 24 days
CHUNK = 65536

_leftovers: list[int] = []  # process groups that still held their output open when their leader had exited


class TimedOut(Exception):
    """The program was killed because its time was up. `status` as run() would have given it."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


def find_program(name: str, root: str = "/") -> str:
    """Give the path of a program of the image, or an empty string."""
    for folder in ("usr/local/sbin", "usr/local/bin", "usr/sbin", "usr/bin", "sbin", "bin"):
        path = os.path.join(root, folder, name)
        if os.access(path, os.X_OK) and os.path.isfile(path):
            return path
    return ""


def run(argv: list[str], env: Mapping[str, str], output: Output, deadline: float) -> int:
    """Run a program in our working directory and give its exit status, 128 + signal when one killed it.

    `deadline` is monotonic time. TimedOut when it passes; OSError when the program cannot be started.
    """
    readable, written = os.pipe()
    try:
        child = _spawn(argv, env, written)
    except BaseException:
        os.close(readable)
        raise
    finally:
        os.close(written)
    os.set_blocking(readable, False)
    exit_read, exit_written = os.pipe()
    waiter = threading.Thread(target=_wait, args=(child, exit_written), daemon=True)
    waiter.start()
    try:
        timed_out = _follow(child, readable, exit_read, output, deadline)
        status = int(os.read(exit_read, 16))
    finally:
        os.close(exit_read)
        waiter.join()
    if timed_out:
        raise TimedOut(status)
    return status


def kill_leftovers() -> None:
    """Kill what the steps left running and still tied to us: nothing may write while the machine is cleaned."""
    for group in _leftovers:
        _signal(group, SIGKILL)


def _spawn(argv: list[str], env: Mapping[str, str], output: int) -> int:
    files = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, output, 1),
        (os.POSIX_SPAWN_DUP2, output, 2),
    ]
    # Python ignores these two, and ignored signals stay ignored over exec: pipelines would never end.
    return os.posix_spawn(argv[0], argv, env, file_actions=files, setsid=True, setsigdef=(SIGPIPE, SIGXFSZ))


def _wait(child: int, written: int) -> None:
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    os.write(written, str(code if code >= 0 else 128 - code).encode())
    os.close(written)


def _signal(group: int, number: int) -> None:
    try:  # noqa: SIM105 - contextlib is imported by nothing else here
        os.killpg(group, number)
    except ProcessLookupError:
        pass


def _follow(child: int, readable: int, exited: int, output: Output, deadline: float) -> bool:
    """Take output until the program has exited; tell whether it had to be killed for its time. Closes `readable`."""
    poller = select.poll()
    poller.register(readable, select.POLLIN)
    poller.register(exited, select.POLLIN)
    signals = [SIGKILL, SIGTERM]
    while True:
        ready = poller.poll(min(LONGEST_POLL, max(0.0, deadline - time.monotonic())) * 1000)
        handles = [handle for handle, _ in ready]
        if readable in handles and not _take(readable, output):
            poller.unregister(readable)
        if exited in handles:
            break
        if signals and time.monotonic() >= deadline:
            _signal(child, signals.pop())
            deadline = time.monotonic() + GRACE
    timed_out = len(signals) < 2
    if timed_out:
        _signal(child, SIGKILL)  # those of the group that outlived its leader
    _last_words(child, readable, output)
    return timed_out


def _take(readable: int, output: Output) -> bool:
    """Pass on what can be read; False at the end of the output."""
    try:
        data = os.read(readable, CHUNK)
    except BlockingIOError:
        return True
    if data:
        output.feed(data)
    return bool(data)


def _last_words(child: int, readable: int, output: Output) -> None:
    """Read to the end of the output, or leave it to a thread when something left running holds it open."""
    poller = select.poll()
    poller.register(readable, select.POLLIN)
    until = time.monotonic() + LAST_WORDS
    while poller.poll(max(0.0, until - time.monotonic()) * 1000):
        if not _take(readable, output):
            os.close(readable)
            return
        if time.monotonic() >= until:
            break
    _leftovers.append(child)
    os.set_blocking(readable, True)
    threading.Thread(target=_swallow, args=(readable,), daemon=True).start()


def _swallow(readable: int) -> None:
    """Keep a pipe open, and empty, for a service that a step started: it would die of writing to a closed one."""
    while os.read(readable, CHUNK):
        pass
    os.close(readable)
