"""The control group of a step, which holds all processes that the step has started.

A process can leave its parent, its session and its process group by itself, but its control group only by asking
systemd, as services do. The provisioner enters the group while it starts a program, so that the program is born there.
Both layouts work: cgroup v2 at /sys/fs/cgroup, and of v1 the hierarchy in which systemd keeps its units.
"""

from __future__ import annotations

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterator, List

SIGKILL, SIGTERM = 9, 15  # on every architecture of Compute Engine; the signal module is slow to import
MOUNT = "/sys/fs/cgroup"
GRACE = 3.0  # seconds between TERM and KILL
KILLED_WITHIN = 5.0  # seconds; a process that waits for a device may take longer
PAUSE = 0.05


class StepGroup:
    """A control group below this process's own. Where none can be made, all methods do nothing."""

    prefix: List[str] = []  # noqa: RUF012 - nothing changes it; the beginning of each command that the step runs

    def __init__(self, mount: str = MOUNT) -> None:
        self._own = self._path = ""
        try:
            own = own_group(mount)
            path = os.path.join(own, f"goldsmith-step-{os.getpid()}")
            os.makedirs(path, exist_ok=True)
        except OSError:  # not root, or no control groups
            return
        self._own, self._path = own, path

    def leave_network(self, unshare: str) -> None:
        """Run each program of the step in a network namespace of its own, which reaches nothing, by unshare(1)."""
        self.prefix = [*self.prefix, unshare, "-n", "--"]

    def enter(self) -> None:
        """Move this process into the group, until leave(): programs that it starts belong to the group."""
        if self._own:
            _move(self._path)

    def leave(self) -> None:
        """Move this process back into its own group."""
        if self._own:
            _move(self._own)

    def end(self) -> List[str]:
        """End all processes of the group, by TERM and then by KILL; return their names."""
        if not self._own:
            return []
        found = [_name(process) for process in self._processes()]
        for number, patience in ((SIGTERM, GRACE), (SIGKILL, KILLED_WITHIN)):
            until = time.monotonic() + patience
            while self._signal(number) and time.monotonic() < until:
                time.sleep(PAUSE)
                if number == SIGTERM:  # only once: a second one may cut short what the first one began
                    number = 0
        self._remove()
        return found

    def _signal(self, number: int) -> bool:
        """Send a signal to all processes; return whether there are any. 0 sends none."""
        left = False
        for process in self._processes():
            left = True
            try:  # noqa: SIM105 - nothing else here imports contextlib
                os.kill(process, number)
            except ProcessLookupError:
                pass
        return left

    def _processes(self) -> Iterator[int]:
        for folder, _, _ in os.walk(self._path):
            try:
                with open(os.path.join(folder, "cgroup.procs"), encoding="ascii") as file:
                    found = file.read().split()
            except OSError:  # removed meanwhile
                continue
            for text in found:
                if int(text) not in (0, os.getpid()):  # 0: of another namespace
                    yield int(text)

    def _remove(self) -> None:
        for folder, _, _ in os.walk(self._path, topdown=False):
            try:  # noqa: SIM105
                os.rmdir(folder)
            except OSError:  # something is still in it
                pass


def own_group(mount: str) -> str:
    """Return the folder of this process's group."""
    v1, v2 = "", ""
    with open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            _, controllers, path = line.rstrip("\n").split(":", 2)
            if controllers == "name=systemd":
                v1 = path
            elif not controllers:
                v2 = path
    if os.path.exists(os.path.join(mount, "cgroup.controllers")):
        return mount + v2
    return os.path.join(mount, "systemd") + v1


def _move(folder: str) -> None:
    try:
        with open(os.path.join(folder, "cgroup.procs"), "w", encoding="ascii") as file:
            file.write("0")
    except OSError:  # the group then stays empty, and _processes() leaves out this process
        pass


def _name(process: int) -> str:
    try:
        with open(f"/proc/{process}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return str(process)
