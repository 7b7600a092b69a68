"""Stop the machine's services as a shutdown does, before its disk is cleaned: the image then holds what they save.

A database writes its data when it is asked to end, and a log daemon closes its files. Later the power goes at once, and
leaves them no time for that. Services of the early boot, and those that the network needs, keep running: there are
reports to send. systemctl(1) is asked only where another service runs.
"""

from __future__ import annotations

import os

from ..system.process import find_program, output_of, run_quietly
from ..system.step_group import MOUNT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import AbstractSet, List, Set

ASKING_SECONDS = 30.0
SECONDS = 180  # for all to stop; systemd itself kills a service after 90, unless its unit says otherwise
STOPPED = (".service", ".socket", ".timer", ".path")
ACTIVE_UNITS = "run/systemd/units"  # holds a link invocation:UNIT for each active unit
KEPT = {
    *("NetworkManager", "networking", "wicked", "wickedd", "wickedd-nanny", "wickedd-auto4", "wickedd-dhcp4"),
    *("wickedd-dhcp6", "dhcpcd", "systemd-networkd", "systemd-resolved", "ifup@", "dbus", "dbus-broker"),
    *("systemd-journald", "systemd-udevd"),
}


def started(folder: str = "/" + ACTIVE_UNITS) -> Set[str]:
    """Return the units that are active now."""
    try:
        names = os.listdir(folder)
    except OSError:  # another init, or an older systemd
        return set()
    return {name.partition(":")[2] for name in names if name.startswith("invocation:")}


def stop_services(before: AbstractSet[str]) -> str:
    """Stop all services but those that are kept; return what is wrong, or "".

    `before` holds the units that were active when the job began.
    """
    own = own_unit()
    if not chosen([*working(MOUNT), *(started() - before)], own):
        return ""
    systemctl, timeout = find_program("systemctl"), find_program("timeout")
    # All units that are ordered after the early boot, as they are by default: a shutdown ends them before it.
    units = chosen(_listed(systemctl, "Before", "sysinit.target"), own)
    if not units:
        return "the services of the machine are unknown, and were not stopped"
    # Units that start services go first: else a socket starts a service again. Some are early, such as syslog's.
    starters = chosen(_listed(systemctl, "TriggeredBy", *units), own)
    starters += [unit for unit in units if not unit.endswith(".service")]
    services = [unit for unit in units if unit.endswith(".service")]
    stop = [timeout, str(SECONDS), systemctl, "stop"]
    worst = max([run_quietly([*stop, *batch]) for batch in (starters, services) if batch])
    return f"systemctl stop ended with {worst}: not all services were stopped" if worst else ""


def _listed(systemctl: str, relation: str, *units: str) -> List[str]:
    """Return the units to which some units have a relation, as systemctl(1) lists them."""
    told = output_of([systemctl, "show", f"--property={relation}", *units], ASKING_SECONDS).decode("utf-8", "replace")
    return [name for line in told.splitlines() for name in line.partition("=")[2].split()]


def chosen(units: List[str], own: str) -> List[str]:
    """Return the units that are to be stopped; `own` is the unit of this process."""
    return [
        unit
        for unit in units
        if unit != own and unit.endswith(STOPPED) and not {unit.rpartition(".")[0], unit.partition("@")[0] + "@"} & KEPT
    ]


def own_unit(path: str = "/proc/self/cgroup") -> str:
    """Return the name of this process's unit, or ""."""
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            for part in line.rstrip("\n").split("/"):
                if part.endswith(".service"):
                    return part
    return ""


def working(mount: str) -> Set[str]:
    """Return the services that have a control group, as every service with processes does."""
    found = set()
    for part in ("system.slice", "user.slice", "systemd/system.slice", "systemd/user.slice"):  # of v2, and of v1
        for folder, below, files in os.walk(os.path.join(mount, part)):
            name = os.path.basename(folder)
            if not name.endswith(".service"):
                continue
            below[:] = []
            if "cgroup.procs" in files:
                found.add(name)
    return found
