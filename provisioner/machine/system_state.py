"""Find out whether the system on this machine has come up: its default target, an emergency, and the units that failed.

systemd also starts a unit when a target that it waits for has failed. So a running provisioner proves nothing: a system
with a missing disk runs it in emergency mode.
"""

from __future__ import annotations

import os
import time

from ..system.os_release import COS, system_id
from ..system.process import find_program, output_of
from .machine import SYSTEMD
from .services import ACTIVE_UNITS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Optional

PATIENCE = 300.0  # seconds to wait for the default target after the steps
PAUSE = 1.0  # seconds between two looks
SECONDS = 30.0  # that systemctl and journalctl may take
UNITS = ("etc/systemd/system", "run/systemd/system", "usr/lib/systemd/system", "lib/systemd/system")
DEFAULT = "default.target"
UNIT_WORD = "systemd.unit="  # in the kernel's command line
RUNLEVELS = (
    ("emergency", ("emergency", "-b")),
    ("rescue", ("rescue", "single", "-s", "s", "S", "1")),
    ("multi-user", ("2", "3", "4")),
    ("graphical", ("5",)),
)
MOST_LINKS = 8
DIRECT = "run/goldsmith/booted"  # a direct boot makes it
EMERGENCIES = ("emergency.target", "emergency.service", "rescue.target", "rescue.service")
ALIVE = ("active", "activating", "reloading")
REASONS = ("Timed out waiting for", "Dependency failed for", "Failed to start", "Failed to mount")
OF_SYSTEMD = ("_PID=1", "+", "_TRANSPORT=kernel", "SYSLOG_IDENTIFIER=systemd")  # the latter before journald runs
JOURNAL_LINES, SHOWN_REASONS, SHOWN_UNITS = "400", 4, 20


class SystemState:
    """The states that systemd reports for its units."""

    def __init__(self, target: str, units: Sequence[tuple[str, str]]) -> None:
        """Take pairs of a unit's name and its active state."""
        states = dict(units)
        self.target = target
        self.reached = states.get(target) in ALIVE
        self.emergency = next((name for name in EMERGENCIES if states.get(name) in ALIVE), "")
        self.failed = sorted(name for name, state in units if state == "failed")


def is_direct_boot(root: str) -> bool:
    """Return whether this machine was booted without the image's boot loader, as VMs of one machine may be."""
    return os.path.exists(os.path.join(root, DIRECT))


def read_system_state(root: str, target: str) -> Optional[SystemState]:
    """Ask the systemd of the machine below `root`; None where it is not the init, or does not answer.

    `target` is what default_target() returned before the steps: they may set another one for later boots.
    """
    program = find_program("systemctl", root)
    if not program or not os.path.isdir(os.path.join(root, SYSTEMD)):
        return None
    answer = output_of([program, "list-units", "--all", "--full", "--plain", "--no-legend", "--no-pager"], SECONDS)
    lines = [line.split() for line in answer.decode("utf-8", "replace").splitlines()]
    lines = [words[1:] if words and words[0] in ("●", "*") else words for words in lines]  # systemd before 246
    units = [(words[0], words[2]) for words in lines if len(words) > 3]
    return SystemState(target, units) if units else None


def default_target(root: str) -> str:
    """Return the name of the unit that this boot starts: from the kernel's command line, else the image's default."""
    name = _of_command_line(root) or DEFAULT
    for folder in UNITS:
        path = os.path.join(root, folder, name)
        if os.path.lexists(path):
            return os.path.basename(_followed(path, root))
    return "multi-user.target" if name == DEFAULT else name


def _of_command_line(root: str) -> str:
    """Return the unit in the kernel's command line, which may also be a runlevel that systemd maps; "" for none."""
    try:
        with open(os.path.join(root, "proc/cmdline"), encoding="utf-8", errors="replace") as file:
            words = file.read().split()
    except OSError:
        return ""
    levels = {word: f"{target}.target" for target, words in RUNLEVELS for word in words}
    named = [word[len(UNIT_WORD) :] if word.startswith(UNIT_WORD) else levels.get(word, "") for word in words]
    return ([""] + [name for name in named if name])[-1]


def _followed(path: str, root: str) -> str:
    """Return the path at the end of a unit's links: systemd lists units by that name, and not by their aliases."""
    for _ in range(MOST_LINKS):
        try:
            link = os.readlink(path)
        except OSError:  # a regular file, or nothing
            break
        folder = root if link.startswith("/") else os.path.dirname(path)
        path = os.path.join(folder, link.lstrip("/"))
    return path


def trouble(root: str, target: str) -> str:
    """Return why no step may run: an emergency, or a default target that cannot be reached any more; else ""."""
    if not _may_be_lost(root):
        return ""
    state = read_system_state(root, target)
    if state is None or not _is_lost(state, root):
        return ""
    return _why(state, root)


def _may_be_lost(root: str) -> bool:
    """Return whether systemd has to be asked, which takes as long as a short step on an emulated CPU.

    Whatever keeps a system from coming up starts an emergency unit, which is then among the active units.
    """
    folder = os.path.join(root, ACTIVE_UNITS)
    if not os.path.isdir(folder):  # systemd before 236
        return True
    return any(os.path.lexists(os.path.join(folder, f"invocation:{name}")) for name in EMERGENCIES)


def incomplete(root: str, target: str, allowed: Optional[Sequence[str]]) -> tuple[str, str]:
    """Wait for the default target; return why the system is not complete, and a note. Both are "" where all is well.

    Failed units are a reason, but for those that `allowed` names. Where `allowed` is None, they are the note.
    """
    until = time.monotonic() + PATIENCE
    state = read_system_state(root, target)
    while state is not None and not state.reached and not _is_lost(state, root) and time.monotonic() < until:
        if _never_waits(root):
            break
        time.sleep(PAUSE)
        state = read_system_state(root, target)
    if state is None:
        return "", ""
    if state.emergency or not (state.reached or _never_waits(root)):
        return _why(state, root), ""
    failed = [name for name in state.failed if name not in (allowed or ())]
    told = f"failed units: {_listed(failed)}" if failed else ""
    if allowed is None or not told:
        return "", told
    return f"{told}{_reasons(root, failed)}; mend them, or name them in verify.allow_failed", ""


def _is_lost(state: SystemState, root: str) -> bool:
    """Return whether the system cannot come up any more."""
    if state.emergency:
        return True
    return not state.reached and not _never_waits(root) and not _is_starting(state.target, root)


def _never_waits(root: str) -> bool:
    """Return whether the default target may come late or never: before 125, that of COS waits for a registry."""
    return system_id(root) == COS


def _is_starting(target: str, root: str) -> bool:
    answer = output_of([find_program("systemctl", root), "show", "--property=Job", target], SECONDS)
    return answer.strip() not in (b"", b"Job=", b"Job=0")


def _why(state: SystemState, root: str) -> str:
    how = f"it is in emergency mode ({state.emergency})" if state.emergency else f"{state.target} is not reached"
    units = f"; failed units: {_listed(state.failed)}" if state.failed else ""
    return f"the system has not come up: {how}{units}{_reasons(root, state.failed)}"


def _listed(units: Sequence[str]) -> str:
    more = f" and {len(units) - SHOWN_UNITS} more" if len(units) > SHOWN_UNITS else ""
    return ", ".join(units[:SHOWN_UNITS]) + more


def _reasons(root: str, failed: Sequence[str]) -> str:
    """Return the first lines that systemd has logged about this boot's failures and about failed units."""
    program = find_program("journalctl", root)
    if not program:
        return ""
    argv = [program, "--boot", "--output=cat", "--no-pager", f"--lines={JOURNAL_LINES}", *OF_SYSTEMD]
    lines = output_of(argv, SECONDS).decode("utf-8", "replace").splitlines()
    begins = (*REASONS, *(f"{unit}: " for unit in failed))
    found = [line[:200] for line in dict.fromkeys(lines) if line.startswith(begins)][:SHOWN_REASONS]
    return "".join(f"; {line.rstrip('.')}" for line in found)
