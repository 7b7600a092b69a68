"""The folder of one build on this machine, and the lock of the process that runs it.

HOME/builds/ID/lock           flocked by the process that runs the build; the kernel drops it with the process
HOME/builds/ID/labels.json    what its machines and disks are labelled with, written before they are made
HOME/builds/ID/context.tar    the packed context
HOME/builds/ID/disks/         boot disks
HOME/builds/ID/machines/      one folder a VM: cidata, console, reports
HOME/builds/ID/logs/          consoles of gone VMs, bills of materials, statements; all that stays of a finished build
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import re
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import InputError
from .scratch import faults, is_at

LOG = logging.getLogger(__name__)

_RESOURCE = re.compile(r"gs-(?P<build_id>.+)-a[0-9]+-[a-z]+[0-9]?")


class BuildFolder:
    """The folder of one build below `home`. Nothing is made before it is needed."""

    def __init__(self, home: Path, build_id: str) -> None:
        self.build_id = build_id
        self.path = home / "builds" / build_id
        self.context = self.path / "context.tar"
        self.logs = self.path / "logs"
        self._lock = self.path / "lock"
        self._labels = self.path / "labels.json"

    @classmethod
    def of_resource(cls, home: Path, name: str) -> BuildFolder:
        """The folder that a machine or disk is in, by its name. InputError when the name is not one of ours."""
        match = _RESOURCE.fullmatch(name)
        if match is None:
            raise InputError(f"{name} is not the name of a machine or disk of a build")
        return cls(home, match["build_id"])

    def disk(self, name: str) -> Path:
        """The path of a boot disk."""
        return self.path / "disks" / f"{name}.raw"

    def machine(self, name: str) -> Path:
        """The folder of a VM."""
        return self.path / "machines" / name

    def machines(self) -> list[str]:
        """The names of the VMs that have a folder."""
        return _names(self.path / "machines")

    def disks(self) -> list[str]:
        """The names of the boot disks."""
        return [name.removesuffix(".raw") for name in _names(self.path / "disks") if name.endswith(".raw")]

    def label(self, labels: Mapping[str, str]) -> None:
        """Write down the labels, whole or not at all."""
        self.path.mkdir(parents=True, exist_ok=True)
        staged = self._labels.with_suffix(".new")
        staged.write_text(json.dumps(dict(labels), sort_keys=True))
        staged.replace(self._labels)

    def labels(self) -> dict[str, str]:
        """The labels; empty before they were written, or when the file is damaged."""
        try:
            document = json.loads(self._labels.read_text())
        except (OSError, ValueError, RecursionError):
            return {}
        return {str(key): str(value) for key, value in document.items()} if isinstance(document, dict) else {}

    @contextmanager
    def running(self) -> Iterator[bool]:
        """Hold the build while this process runs it; gives False, and holds nothing, when another process does.

        NoSpace, EnvironmentFault.
        """
        with faults(self.path):
            descriptor = self._take_lock()
        if descriptor is None:
            yield False
            return
        try:
            yield True
        finally:
            os.close(descriptor)

    def _take_lock(self) -> int | None:
        """Lock the file of that name, not one that was tidied away after it was opened; None when another has it."""
        while True:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileExistsError):
                self.path.mkdir()
            try:
                descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except FileNotFoundError:  # the folder was tidied away at this moment
                continue
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                return None
            if is_at(descriptor, self._lock):
                return descriptor
            os.close(descriptor)

    def is_held(self) -> bool:
        """Return whether a process holds the build, without making anything.

        The look takes a shared lock for an instant. A process that wants the build just then finds it held, and looks
        again, or leaves it to the next command. One that cannot be looked at counts as held: it can be finished by no
        process that may not open its lock, and must not keep the others from that.
        """
        try:
            descriptor = os.open(self._lock, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        except OSError as error:
            LOG.warning("build %s: %s: %s; it is taken for one that a process runs", self.build_id, self._lock, error)
            return True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:  # another process has it, or the file system knows no locks
            return True
        finally:
            os.close(descriptor)
        return False

    def drop_disks(self) -> None:
        """Remove the disks, at once and without a word: what a build takes most room for."""
        shutil.rmtree(self.path / "disks", ignore_errors=True)

    def is_untidy(self) -> bool:
        """Return whether it holds anything but logs."""
        return _names(self.path) not in ([], [self.logs.name])

    def tidy(self, *, context: bool = False) -> None:
        """Remove all but the logs, and the context where it may still be needed. EnvironmentFault."""
        with faults(self.path):
            self._tidy({self.logs, self._lock} | ({self.context} if context else set()))

    def _tidy(self, kept: Collection[Path]) -> None:
        for entry in list(self.path.iterdir()) if self.path.is_dir() else []:
            if entry in kept:
                continue
            if entry.is_dir():
                shutil.rmtree(entry)
            else:
                entry.unlink(missing_ok=True)
        self._lock.unlink(missing_ok=True)  # last: from here on the folder may be another holder's
        try:
            self.path.rmdir()
        except OSError as error:  # there are logs, or a user wants to run it again
            if error.errno not in (errno.ENOTEMPTY, errno.ENOENT):
                raise


def build_ids(home: Path) -> list[str]:
    """The ids of all builds that have a folder."""
    return _names(home / "builds")


def _names(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []
