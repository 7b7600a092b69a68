"""install-packages: with the distribution's own package manager."""

from __future__ import annotations

import fcntl
import os
import time

from ..process import TimedOut, find_program
from ..protocol import InstallPackages
from . import StepError, Workshop

LOCK_SECONDS = 600  # a freshly booted image may be updating itself
LOCK_PAUSE = 0.5

APT_ENVIRONMENT = {
    "DEBIAN_FRONTEND": "noninteractive",
    "APT_LISTCHANGES_FRONTEND": "none",
    "NEEDRESTART_SUSPEND": "1",  # it would restart services, and asks about it
}
APT = (
    "-y",
    "-q",
    f"-oDPkg::Lock::Timeout={LOCK_SECONDS}",
    "-oDpkg::Options::=--force-confdef",  # a changed configuration file stays as it is, and nobody is asked
    "-oDpkg::Options::=--force-confold",
)


def act(inputs: InstallPackages, workshop: Workshop) -> int:
    """Give the package manager's exit status."""
    if not inputs.packages:
        return 0
    for name, install in (("apt-get", _apt), ("dnf", _dnf), ("zypper", _zypper)):
        program = find_program(name, workshop.root)
        if program:
            return install(program, inputs.packages, workshop)
    raise StepError("this image has none of apt-get, dnf and zypper; install its packages with a run-script step")


def _apt(program: str, packages: tuple[str, ...], workshop: Workshop) -> int:
    lists = os.path.join(workshop.root, "var/lib/apt/lists")
    install = [program, *APT, "install", "--", *packages]
    if _has_lists(lists):
        if workshop.run(install, APT_ENVIRONMENT) == 0:
            return 0
        workshop.output.say("apt-get failed with the package lists that came with the image: trying with new ones")
    _wait_for_lock(os.path.join(lists, "lock"), workshop.deadline)
    status = workshop.run([program, *APT, "update"], APT_ENVIRONMENT)
    return status or workshop.run(install, APT_ENVIRONMENT)


def _has_lists(folder: str) -> bool:
    try:
        return any(name.endswith("Release") for name in os.listdir(folder))
    except FileNotFoundError:
        return False


def _wait_for_lock(path: str, deadline: float) -> None:
    """Wait for another apt: it has an option for the lock on packages, but none for the one on lists."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        while True:
            try:
                fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                if time.monotonic() > deadline:
                    raise TimedOut(100) from None
                time.sleep(LOCK_PAUSE)
            else:
                return
    finally:
        os.close(handle)


def _dnf(program: str, packages: tuple[str, ...], workshop: Workshop) -> int:
    return workshop.run([program, "-y", "install", "--", *packages], {})


def _zypper(program: str, packages: tuple[str, ...], workshop: Workshop) -> int:
    environment = {"ZYPP_LOCK_TIMEOUT": str(LOCK_SECONDS)}
    status = workshop.run([program, "--non-interactive", "install", "--", *packages], environment)
    # zypper's way to say that it installed everything, and that a reboot or a restart of itself is advised
    return 0 if status in (102, 103) else status
