"""Run one program: capture its output, limit its time, and do not wait for the processes that it leaves running.

posix_spawn instead of subprocess, whose import costs 30 ms on an emulated CPU, a tenth of the provisioner's start.
Python 3.6 and 3.7 have no posix_spawn, and use subprocess.
"""

from __future__ import annotations

import os
import select
import threading
import time

from .step_group import GRACE, KILLED_WITHIN, PAUSE, SIGKILL, SIGTERM

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from .output import ProgramOutput
    from .step_group import StepGroup


SIGPIPE, SIGXFSZ = 13, 25

LAST_WORDS = 0.3  # seconds for output of processes that outlive the program, such as tee in `exec > >(tee log)`
LONGEST_POLL = 3600.0  # seconds; poll() takes no more than 24 days
CHUNK = 65536
MOST_PRINTED = 4 << 20  # bytes that output_of() reads
QUIET = {"LC_ALL": "C", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}  # for programs that the provisioner itself needs

_leftovers: list[int] = []  # process groups that held their output open after their leader had exited


class TimedOut(Exception):
    """The program was killed because its time was up. `status` is what run_captured() would have returned."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


def find_program(name: str, root: str = "/") -> str:
    """Return the path of a program of the image, or ""."""
    for folder in ("usr/local/sbin", "usr/local/bin", "usr/sbin", "usr/bin", "sbin", "bin"):
        path = os.path.join(root, folder, name)
        if os.access(path, os.X_OK) and os.path.isfile(path):
            return path
    return ""


def run_captured(
    argv: list[str], env: Mapping[str, str], output: ProgramOutput, deadline: float, group: StepGroup
) -> int:
    """Run a program in the present working directory; return its exit status, 128 + signal when one killed it.

    All that it starts is in `group`. `deadline` is monotonic time. TimedOut when it passes; OSError when the program
    cannot be started.
    """
    readable, written = os.pipe()
    group.enter()
    try:
        child = _spawn(argv, env, written, setsid=True)
    except BaseException:
        os.close(readable)
        raise
    finally:
        group.leave()
        os.close(written)
    os.set_blocking(readable, False)
    exit_read, exit_written = os.pipe()
    waiter = threading.Thread(target=_wait, args=(child, exit_written), daemon=True)
    waiter.start()
    try:
        timed_out = _follow(child, readable, exit_read, output, deadline)
        status = int(os.read(exit_read, 16))
    except KeyboardInterrupt:  # by a person at the shell of a held machine
        _signal(child, SIGKILL)
        os.read(exit_read, 16)
        raise
    finally:
        os.close(exit_read)
        waiter.join()
    if timed_out:
        raise TimedOut(status)
    return status


def leave_no_core() -> None:
    """Have this process, and what it starts from here on, leave no file with its memory when it crashes."""
    import resource  # few jobs need it

    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, most))


def kill_leftovers() -> None:
    """Kill processes of the steps that still hold their output open: none may write while the machine is cleaned."""
    for group in _leftovers:
        _signal(group, SIGKILL)


def run_quietly(argv: list[str]) -> int:
    """Run a program without its output; return its exit status, 128 + signal when one killed it. OSError."""
    silent = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        return _exit_status(_spawn(argv, QUIET, silent, setsid=False))
    finally:
        os.close(silent)


def output_of(argv: list[str], seconds: float) -> bytes:
    """Run a program and return its output; after `seconds` it is killed, and the output so far returned. OSError."""
    readable, written = os.pipe()
    try:
        child = _spawn(argv, QUIET, written, setsid=False)
    finally:
        os.close(written)
    poller = select.poll()
    poller.register(readable, select.POLLIN)
    until = time.monotonic() + seconds
    printed = b""
    while len(printed) < MOST_PRINTED and poller.poll(max(0.0, until - time.monotonic()) * 1000):
        data = os.read(readable, CHUNK)
        if not data:
            break
        printed += data
    else:
        os.kill(child, SIGKILL)
    os.close(readable)
    _exit_status(child)
    return printed


def _spawn(argv: list[str], env: Mapping[str, str], output: int, *, setsid: bool) -> int:
    """Start the program at the path argv[0], with an empty standard input; return its process id. OSError."""
    if not hasattr(os, "posix_spawn"):
        return _spawn_as_of_old(argv, env, output, setsid=setsid)
    files = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, output, 1),
        (os.POSIX_SPAWN_DUP2, output, 2),
    ]
    # Python ignores these two signals, and exec keeps that: pipelines would never end.
    return os.posix_spawn(argv[0], argv, env, file_actions=files, setsid=setsid, setsigdef=(SIGPIPE, SIGXFSZ))


def _spawn_as_of_old(argv: list[str], env: Mapping[str, str], output: int, *, setsid: bool) -> int:
    """Do the same by subprocess, which resets these signals as well."""
    import subprocess

    child = subprocess.Popen(
        argv, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=setsid
    )
    child.returncode = 0  # _exit_status() waits for it: Popen would collect its status at some later time
    return child.pid


def _exit_status(child: int) -> int:
    """Wait for a program to end. os.waitstatus_to_exitcode() is newer than Python 3.6."""
    _, status = os.waitpid(child, 0)
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def _wait(child: int, written: int) -> None:
    os.write(written, str(_exit_status(child)).encode())
    os.close(written)


def _signal(group: int, number: int) -> bool:
    """Send a signal to a process group; return whether it had a process."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    return True


def _follow(child: int, readable: int, exited: int, output: ProgramOutput, deadline: float) -> bool:
    """Read output until the program has exited; return whether it ran out of time. Closes `readable`."""
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
        _kill_group(child)
    _last_words(child, readable, output)
    return timed_out


def _kill_group(group: int) -> None:
    """Kill the processes that outlived their leader, and wait until they are gone: they are not left running."""
    until = time.monotonic() + KILLED_WITHIN
    while _signal(group, SIGKILL) and time.monotonic() < until:
        time.sleep(PAUSE)


def _take(readable: int, output: ProgramOutput) -> bool:
    """Pass on the bytes that are there; return False at the end of the output."""
    try:
        data = os.read(readable, CHUNK)
    except BlockingIOError:
        return True
    if data:
        output.feed(data)
    return bool(data)


def _last_words(child: int, readable: int, output: ProgramOutput) -> None:
    """Read to the end of the output; where another process holds it open, leave the rest to a thread."""
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
    """Keep a pipe open and empty for a service that a step has started: writing to a closed pipe would kill it."""
    while os.read(readable, CHUNK):
        pass
    os.close(readable)
