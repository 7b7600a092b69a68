"""A sandbox: an image's root file system in namespaces of its own, in which no system was booted.

Its processes are init, the shell of bootstrap.sh, which init waits for, the provisioner, and what the steps start.
"""

from __future__ import annotations

import os

from ..protocol import SHELL_HANDLE
from ..system.process import find_program, kill_leftovers
from ..system.step_group import StepGroup
from .machine import NoMachine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import FrozenSet, Iterator, Mapping

INIT = 1
SHIMS = "/run/goldsmith/shims"  # programs in place of those that need a booted system
CONDITIONAL_SHIMS = "/run/goldsmith/conditional-shims"  # of which SHIMS has those whose real one is in the image


class Sandbox(NoMachine):
    """The sandbox that this process runs in."""

    no_restart = (
        "it asks for a reboot (exit status 194), and a sandbox cannot be rebooted; write local.engine: vm, or end the "
        "step with status 0"
    )
    uses_reserve = False  # the kernel keeps them for root of the first user namespace
    layers_end = True
    environment: Mapping[str, str] = {
        "PATH": f"{SHIMS}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "SYSTEMD_OFFLINE": "1",  # systemctl(1): units are changed as files
        "NEEDRESTART_SUSPEND": "1",
    }

    def step_group(self) -> StepGroup:
        """Return the group of all processes but those that lead to this one."""
        return SandboxGroup()

    def nested_group(self) -> StepGroup:
        """Return the group of all processes that begin from now on."""
        return SandboxGroup(frozenset(SandboxGroup().processes()))

    def keep_shell_port(self) -> None:
        """Keep the port of shell_port() from the steps."""
        os.set_inheritable(SHELL_HANDLE, False)

    def shell_port(self) -> int:
        """Return the inherited connection to the host. OSError."""
        os.fstat(SHELL_HANDLE)
        return SHELL_HANDLE

    def silence(self) -> list[str]:
        """End what the steps have left running."""
        kill_leftovers()
        SandboxGroup().end()
        return []


class SandboxGroup(StepGroup):
    """All processes of the sandbox but those that lead to this one: none of them leaves it."""

    def __init__(self, spared: FrozenSet[int] = frozenset()) -> None:
        """Leave the processes `spared` alone."""
        self._own, self._path = "sandbox", ""
        self._spared = spared
        unshare = find_program("unshare")
        self.prefix = [unshare, "-m", "--"] if unshare else []  # what a step mounts does not hide files from clean()

    def enter(self) -> None:
        """Make programs that this process starts the first to end where memory is short, and this one the last."""
        _write("500")

    def leave(self) -> None:
        """Undo that for this process."""
        _write("0")

    def processes(self) -> Iterator[int]:
        """Yield the group's processes."""
        return self._processes()

    def _processes(self) -> Iterator[int]:
        ours = (INIT, os.getppid(), os.getpid())
        for name in os.listdir("/proc"):
            if name.isdigit() and int(name) not in ours and int(name) not in self._spared:
                yield int(name)

    def _remove(self) -> None:
        pass


def _write(preference: str) -> None:
    with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write(preference)
