"""Wait for an apt that the image runs by itself, such as apt-daily's after the boot, so that its locks fail no step."""

from __future__ import annotations

import errno
import fcntl
import os
import time

from ..system.process import TimedOut

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict

    from .step_context import StepContext

LOCK_SECONDS = 600  # a freshly booted image may be updating itself
LOCK_PAUSE = 0.5
LOCKS = ("var/lib/apt/lists/lock", "var/lib/dpkg/lock-frontend", "var/lib/dpkg/lock")
CONFIGURATION = f'DPkg::Lock::Timeout "{LOCK_SECONDS}";\n'


def wait_for_apt(context: StepContext) -> Dict[str, str]:
    """Wait until no apt and no dpkg runs; return an environment in which apt waits for one that starts later.

    The image's own configuration overrides the setting in there. TimedOut; OSError.
    """
    if not os.path.isdir(os.path.join(context.root, "var/lib/dpkg")):
        return {}
    for lock in LOCKS:
        wait_for_lock(os.path.join(context.root, lock), context)
    path = os.path.join(os.path.dirname(context.folder), "apt.conf")
    with open(path, "w", encoding="ascii") as file:
        file.write(CONFIGURATION)
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
