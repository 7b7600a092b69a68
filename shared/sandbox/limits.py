"""The memory and the number of processes of a sandbox: by control groups where they can be had, else by rlimits.

With rlimits alone, the memory of all processes together is measured a few times a second, and the sandbox ended when it
is more than its limit: a control group is exact, and a process of it is ended by the kernel instead.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path

MOUNT = Path("/sys/fs/cgroup")
MOST_PROCESSES = 1024  # and threads
REMOVED_WITHIN = 10.0  # seconds, after the end of the last process
PAUSE = 0.02


class SandboxLimits(ABC):
    """The limits of one sandbox."""

    how = ""  # for people
    resources: tuple[tuple[int, int], ...] = ()  # limits of setrlimit(2) for the first process

    @abstractmethod
    def apply(self, process: int) -> None:
        """Put a process under the limits, and all that it will start. OSError."""

    def is_exceeded(self, process: int) -> bool:
        """Return whether the descendants of a process have more memory than they may. Groups never let them."""
        return False


class Groups(SandboxLimits):
    """Control groups of this sandbox's own. They are removed by remove(), once they are empty."""

    def __init__(self, how: str, folders: list[Path]) -> None:
        self.how = how
        self.folders = folders

    def apply(self, process: int) -> None:  # noqa: D102 - as in SandboxLimits
        for folder in self.folders:
            (folder / "cgroup.procs").write_text(str(process))

    def remove(self) -> None:
        """End what is left in the groups, and remove them."""
        until = time.monotonic() + REMOVED_WITHIN
        left = list(self.folders)
        while left and time.monotonic() < until:
            left = [folder for folder in left if not _removed(folder)]
            if left:
                time.sleep(PAUSE)


class ResourceLimits(SandboxLimits):
    """rlimits, and a look at the memory of all."""

    def __init__(self, memory: int) -> None:
        self.how = "resource limits, and a look at its memory twice a second"
        self.resources = ((resource.RLIMIT_NPROC, MOST_PROCESSES),)
        self._memory = memory

    def apply(self, process: int) -> None:  # noqa: D102 - as in SandboxLimits
        pass  # the first process sets them itself, before its user namespace

    def is_exceeded(self, process: int) -> bool:  # noqa: D102 - as in SandboxLimits
        return sum(map(_anonymous, descendants(process))) > self._memory


def make_limits(name: str, memory: int, mount: Path = MOUNT) -> SandboxLimits:
    """Make the best limits that this process can have. `memory` in bytes; `name` is the machine's."""
    values = {"memory.max": memory, "memory.swap.max": 0, "pids.max": MOST_PROCESSES}
    if (mount / "cgroup.controllers").exists():
        found = _made("control groups (version 2)", [_parent_v2(mount) / f"goldsmith-{name}"], values)
    else:
        values = {
            "memory.limit_in_bytes": memory,
            "memory.memsw.limit_in_bytes": memory,
            "pids.max": MOST_PROCESSES,
        }
        folders = [mount / controller / f"goldsmith-{name}" for controller in ("memory", "pids")]
        found = _made("control groups (version 1)", folders, values)
    return found or ResourceLimits(memory)


def _parent_v2(mount: Path) -> Path:
    """Return the group below which one can be made: this process's own if it is delegated, else the topmost."""
    for line in Path("/proc/self/cgroup").read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers and os.geteuid():
            return mount / path.lstrip("/")
    return mount


def _made(how: str, folders: list[Path], values: dict[str, int]) -> Groups | None:
    """Make groups with these limits. Return None where that is not possible, after removing what was made."""
    groups = Groups(how, folders)
    needed = {"memory.max", "memory.limit_in_bytes", "pids.max"} & set(values)
    written = set()
    try:
        for folder in folders:
            folder.mkdir(exist_ok=True)
            for name, value in values.items():
                if (folder / name).exists():
                    with suppress(OSError):  # a kernel may count no swap
                        (folder / name).write_text(str(value))
                        written.add(name)
        if needed <= written:
            return groups
    except OSError:
        pass
    groups.remove()
    return None


def _removed(folder: Path) -> bool:
    """Remove a group; end its processes first, where there are any. Return whether it is gone."""
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        with suppress(OSError, ValueError):
            for text in (folder / "cgroup.procs").read_text().split():
                with suppress(ProcessLookupError):
                    os.kill(int(text), signal.SIGKILL)
        return False
    return True


def alive_pipe(limits: SandboxLimits) -> int:
    """Start the process that removes control groups; return the end of a pipe by which it sees that all is over.

    Without control groups there is nothing to remove, and no pipe: -1.
    """
    if not isinstance(limits, Groups):
        return -1
    read, write = os.pipe()
    watch_over(limits, read)
    os.close(read)
    return write


def watch_over(groups: Groups, alive: int) -> None:
    """Remove the groups when the sandbox has ended, however that comes: from a process of its own, which starts here.

    `alive` is the reading end of a pipe whose writing end the sandbox's processes have: it ends when they have.
    """
    if os.fork():
        return
    try:
        os.setsid()
        for name in list(os.scandir("/proc/self/fd")):
            if int(name.name) != alive:
                with suppress(OSError):
                    os.close(int(name.name))
        poller = select.poll()
        poller.register(alive, select.POLLIN)
        poller.poll()
        groups.remove()
    finally:
        os._exit(0)


def descendants(process: int) -> list[int]:
    """Return the processes that descend from one, itself among them."""
    found = [process]
    for each in found:
        with suppress(OSError):
            for task in Path(f"/proc/{each}/task").iterdir():
                text = (task / "children").read_text()
                found += [int(child) for child in text.split()]
    return found


def _anonymous(process: int) -> int:
    """Return a process's share of memory that no file on a disk backs, in bytes."""
    for name, counted in (("smaps_rollup", ("Pss_Anon:", "Pss_Shmem:")), ("status", ("RssAnon:", "RssShmem:"))):
        try:
            lines = Path(f"/proc/{process}/{name}").read_text(errors="replace").splitlines()
        except OSError:  # another one's memory, or it has ended
            continue
        return sum(int(line.split()[1]) << 10 for line in lines if line.startswith(counted))
    return 0
