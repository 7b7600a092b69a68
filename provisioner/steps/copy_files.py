"""copy-files: put a file, a link or a folder's contents from the context into the image.

A destination that ends with a slash, or is a folder, gets the file under its own name; else it is the file's new name.
Each file is written under another name and renamed, so that it appears whole; it replaces a link instead of following
it. Existing folders keep their owner and mode.
"""

from __future__ import annotations

import os
import stat
import time
from contextlib import suppress

from ..protocol import CopyFiles
from ..system.process import TimedOut
from .step_context import StepContext, StepError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional

CHUNK = 1 << 20


def act(inputs: CopyFiles, context: StepContext) -> int:
    """Copy; return 0. StepError where that cannot be done."""
    source = context.in_context(inputs.source)
    copier = _Copier(*owner_ids(inputs.owner), _mode(inputs.mode), context.deadline)
    target = os.path.join(context.root, inputs.destination.lstrip("/"))
    if not inputs.destination.startswith("/"):
        raise StepError(f"destination {inputs.destination!r} must be an absolute path, such as /etc/motd")
    try:
        if os.path.isdir(source) and not os.path.islink(source):
            copier.folder(source, target.rstrip("/") or "/")
        else:
            if inputs.destination.endswith("/") or os.path.isdir(target):
                target = os.path.join(target, os.path.basename(inputs.source.rstrip("/")))
            copier.parents(os.path.dirname(target))
            copier.entry(source, target)
    except OSError as error:
        raise StepError(f"{error.filename or inputs.source}: {error.strerror}") from error
    context.output.say(f"{copier.copied} file(s) from {inputs.source} to {inputs.destination}")
    return 0


def owner_ids(owner: str) -> tuple[int, int]:
    """Return the ids of USER or USER:GROUP, by name or number. Without a group: the user's own. StepError."""
    import grp
    import pwd

    user, colon, group = owner.partition(":")
    try:
        if user.isdecimal():
            uid, gid = int(user), int(user)
        else:
            entry = pwd.getpwnam(user)
            uid, gid = entry.pw_uid, entry.pw_gid
        if colon:
            gid = int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid
    except KeyError as error:
        raise StepError(
            f"owner {owner!r}: this image has no such user or group; create it in an earlier step"
        ) from error
    return uid, gid


def _mode(text: Optional[str]) -> Optional[int]:
    if text is None:
        return None
    try:
        mode = int(text, 8)
    except ValueError as error:
        raise StepError(f'mode {text!r} is not octal; write it as "0644"') from error
    if not 0 <= mode <= 0o7777:
        raise StepError(f"mode {text!r} is not between 0 and 7777")
    return mode


class _Copier:
    def __init__(self, uid: int, gid: int, mode: Optional[int], deadline: float) -> None:
        self.copied = 0
        self._uid = uid
        self._gid = gid
        self._mode = mode
        self._deadline = deadline

    def parents(self, folder: str) -> None:
        """Make the folders above a destination; they belong to root, as those of a package do."""
        os.makedirs(folder, mode=0o755, exist_ok=True)

    def folder(self, source: str, target: str) -> None:
        """Copy a folder's contents."""
        if not os.path.isdir(target):
            self.parents(os.path.dirname(target))
            os.mkdir(target)
            os.chown(target, self._uid, self._gid)
            os.chmod(target, self._folder_mode(source))
        for name in sorted(os.listdir(source)):
            inner = os.path.join(source, name)
            if os.path.isdir(inner) and not os.path.islink(inner):
                self.folder(inner, os.path.join(target, name))
            else:
                self.entry(inner, os.path.join(target, name))

    def entry(self, source: str, target: str) -> None:
        """Copy a file or a link."""
        if time.monotonic() > self._deadline:
            raise TimedOut(1)
        found = os.lstat(source)
        temporary = f"{target}.goldsmith-new"
        with suppress(FileNotFoundError):
            os.unlink(temporary)  # left by an interrupted copy
        if stat.S_ISLNK(found.st_mode):
            os.symlink(os.readlink(source), temporary)
            os.lchown(temporary, self._uid, self._gid)
        elif stat.S_ISREG(found.st_mode):
            self._file(source, temporary, found)
        else:
            raise StepError(f"{source!r} is neither a file, a folder nor a link")
        os.replace(temporary, target)
        self.copied += 1

    def _file(self, source: str, target: str, found: os.stat_result) -> None:
        handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(source, "rb") as reader, open(handle, "wb") as writer:
            for data in iter(lambda: reader.read(CHUNK), b""):
                writer.write(data)
            writer.flush()
            os.fchown(handle, self._uid, self._gid)  # before the mode: a new owner clears set-user-id
            os.fchmod(handle, stat.S_IMODE(found.st_mode) if self._mode is None else self._mode)

    def _folder_mode(self, source: str) -> int:
        if self._mode is None:
            return stat.S_IMODE(os.stat(source).st_mode)
        return self._mode | (self._mode & 0o444) >> 2
