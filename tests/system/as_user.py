"""Run commands as the ordinary user of the tests, who may not be able to read this checkout, or its Python."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests.shared.sandbox.ordinary_user import NAME
from tests.system.command import ROOT

# In a mount namespace of its own: what is needed below a folder that others may not enter is shown in a new folder in
# its place. The arguments are pairs of such a folder and what is needed below it, then `--`, then the command.
_SCRIPT = """set -eu
stash=/mnt # in this namespace alone
mount -t tmpfs none "$stash"
pairs=0
for word; do
    [ "$word" != -- ] || break
    pairs=$((pairs + 1))
    eval "word$pairs=\\$word"
done
number=2
while [ "$number" -le "$pairs" ]; do
    eval "needed=\\$word$number"
    mkdir "$stash/$number"
    mount --bind "$needed" "$stash/$number"
    number=$((number + 2))
done
number=1
while [ "$number" -le "$pairs" ]; do
    eval "closed=\\$word$number"
    eval "needed=\\$word$((number + 1))"
    mountpoint -q "$closed" || mount -t tmpfs -o mode=755 none "$closed"
    mkdir -p "$needed"
    mount --bind "$stash/$((number + 1))" "$needed"
    number=$((number + 2))
done
if [ -e /dev/net/tun ]; then # open to all users, as udev makes it, which not every CI has
    mknod -m 666 "$stash/tun" c 10 200
    mount --bind "$stash/tun" /dev/net/tun
fi
shift $((pairs + 1))
umask 022
exec setpriv --reuid="$0" --regid="$0" --clear-groups "$@"
"""


def as_ordinary_user() -> tuple[str, ...]:
    """Return what comes before a command so that the ordinary user runs it; nothing where the tests run as such."""
    if os.geteuid():
        return ()
    closed = [pair for path in (ROOT, Path(sys.base_prefix)) for pair in _closed_above(path)]
    return ("unshare", "--mount", "--propagation", "private", "sh", "-c", _SCRIPT, NAME, *closed, "--")


def _closed_above(path: Path) -> tuple[str, ...]:
    """Return the topmost folder above a path that other users may not enter, and the path; nothing without one."""
    for folder in reversed(path.parents):
        if not folder.stat().st_mode & 0o001:
            return str(folder), str(path)
    return ()
