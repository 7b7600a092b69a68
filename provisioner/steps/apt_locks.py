"""Let apt work in a step: wait for one that the image runs by itself, such as apt-daily's, and lend it its settings."""

from __future__ import annotations

import errno
import fcntl
import os
import time

from ..machine.sandbox import CONDITIONAL_SHIMS, SHIMS
from ..system.process import TimedOut

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict

    from .step_context import StepContext

LOCK_SECONDS = 600  # a freshly booted image may be updating itself
LOCK_PAUSE = 0.5
LOCKS = ("var/lib/apt/lists/lock", "var/lib/dpkg/lock-frontend", "var/lib/dpkg/lock")
FOLDER = "run/goldsmith"  # memory: the settings may hold the password of a proxy
CONFIGURATION = f'DPkg::Lock::Timeout "{LOCK_SECONDS}";\n'
PROGRAMS = "/usr/sbin:/usr/bin:/sbin:/bin"  # apt's own DPkg::Path
RENEW_SHIMS = (
    f"if cd {CONDITIONAL_SHIMS}; then for name in *; do "
    f"if [ -x /usr/sbin/$name ]; then ln -sf {CONDITIONAL_SHIMS}/$name {SHIMS}; else rm -f {SHIMS}/$name; fi; done; "
    "fi 2>/dev/null; true"
)
"""What one run of dpkg has brought, the next has a shim for: apt unpacks in the first, and configures in the second."""
IN_SANDBOX = (
    f'DPkg::Path "{SHIMS}:{PROGRAMS}";\n'
    f'DPkg::Options {{ "--pre-invoke={RENEW_SHIMS}"; "--post-invoke={RENEW_SHIMS}"; }};\n'
)
"""The scripts of packages get their PATH from apt, whatever its own is: kernels have an initrd and GRUB's menu made."""


def wait_for_apt(context: StepContext) -> Dict[str, str]:
    """Wait until no apt and no dpkg runs; return an environment in which apt waits for one that starts later.

    The image's own configuration overrides the setting in there. TimedOut; OSError.
    """
    if not os.path.isdir(os.path.join(context.root, "var/lib/dpkg")):
        return {}
    for lock in LOCKS:
        wait_for_lock(os.path.join(context.root, lock), context)
    return apt_settings(context)


def apt_settings(context: StepContext) -> Dict[str, str]:
    """Return an environment in which apt has this try's settings. OSError."""
    folder = os.path.join(context.root, FOLDER)
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, "apt.conf")
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(handle, "w", encoding="utf-8") as file:
        file.write(CONFIGURATION + context.apt_settings)
        if os.path.isdir(os.path.join(context.root, SHIMS.lstrip("/"))):
            file.write(IN_SANDBOX)
    return {"APT_CONFIG": path}


def wait_for_lock(path: str, context: StepContext) -> None:
    """Wait until a lock is free: apt has an option to wait for the lock on packages, but not for the one on lists."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EROFS):  # nothing can be installed here, so no apt runs
            return
        raise
    waiting = False
    try:
        while True:
            try:
                fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                if time.monotonic() > context.deadline:
                    raise TimedOut(100) from None
                if not waiting:
                    context.output.say(f"waiting for another apt or dpkg, which holds {path}")
                waiting = True
                time.sleep(LOCK_PAUSE)
            else:
                return
    finally:
        os.close(handle)
