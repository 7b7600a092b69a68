"""install-packages: install packages with the distribution's own package manager."""

from __future__ import annotations

import os

from ..protocol import InstallPackages
from ..system.process import find_program
from .apt_locks import LOCK_SECONDS, apt_settings, wait_for_lock
from .step_context import StepContext, StepError

APT_ENVIRONMENT = {
    "DEBIAN_FRONTEND": "noninteractive",
    "APT_LISTCHANGES_FRONTEND": "none",
    "NEEDRESTART_SUSPEND": "1",  # it restarts services, and asks before that
}
APT = (
    "-y",
    "-q",
    f"-oDPkg::Lock::Timeout={LOCK_SECONDS}",
    "-oDpkg::Options::=--force-confdef",  # keep a changed configuration file, without a question
    "-oDpkg::Options::=--force-confold",
)


def act(inputs: InstallPackages, context: StepContext) -> int:
    """Return the package manager's exit status."""
    if not inputs.packages:
        return 0
    for name, install in (("apt-get", _apt), ("dnf", _dnf), ("zypper", _zypper)):
        program = find_program(name, context.root)
        if program:
            return install(program, inputs.packages, context)
    raise StepError("this image has none of apt-get, dnf and zypper; install its packages with a run-script step")


def _apt(program: str, packages: tuple[str, ...], context: StepContext) -> int:
    lists = os.path.join(context.root, "var/lib/apt/lists")
    install = [program, *APT, "install", "--", *packages]
    environment = {**APT_ENVIRONMENT, **apt_settings(context)}
    if _has_lists(lists):
        if context.run(install, environment) == 0:
            return 0
        context.output.say("apt-get failed with the package lists that came with the image: trying with new ones")
    wait_for_lock(os.path.join(lists, "lock"), context)
    status = context.run([program, *APT, "update"], environment)
    return status or context.run(install, environment)


def _has_lists(folder: str) -> bool:
    try:
        return any(name.endswith("Release") for name in os.listdir(folder))
    except FileNotFoundError:
        return False


def _dnf(program: str, packages: tuple[str, ...], context: StepContext) -> int:
    return context.run([program, "-y", "install", "--", *packages], {})


def _zypper(program: str, packages: tuple[str, ...], context: StepContext) -> int:
    environment = {"ZYPP_LOCK_TIMEOUT": str(LOCK_SECONDS)}
    status = context.run([program, "--non-interactive", "install", "--", *packages], environment)
    # zypper has installed everything, and advises a reboot (102) or a restart of itself (103)
    return 0 if status in (102, 103) else status
