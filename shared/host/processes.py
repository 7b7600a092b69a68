"""Identify a process, and check that it still runs. A pid alone is not enough: pids are reused, and outlive a boot."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

_DEAD = {"Z", "X"}  # proc(5): a zombie has ended, and only waits for its parent to notice


def this_process() -> str:
    """Name this process like no other, before or after it: `BOOT:PID:START`, START in clock ticks since the boot."""
    return name_of(os.getpid())


def name_of(pid: int) -> str:
    """Name another process in the same way; what names one that has ended is never alive again."""
    return f"{boot_id()}:{pid}:{_start(pid)}"


def pid_of(name: str) -> int:
    """Return the pid in a name."""
    return int(name.split(":")[1])


def is_alive(name: str) -> bool:
    """Return whether the process that this_process() named is still running. False for any other text."""
    boot, _, rest = name.partition(":")
    pid, _, start = rest.partition(":")
    return boot == boot_id() and pid.isdecimal() and start != "" and _start(int(pid)) == start


def _start(pid: int) -> str:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except (FileNotFoundError, ProcessLookupError):  # the latter when it ends while it is being read
        return ""
    fields = text.rpartition(")")[2].split()  # the second field, the program's name, may hold spaces and brackets
    return "" if fields[0] in _DEAD else fields[19]  # the 22nd field of all


@cache
def boot_id() -> str:
    """Name this boot of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
