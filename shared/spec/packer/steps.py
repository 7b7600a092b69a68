"""The steps that provisioners come to."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Mapping

from ...names import nearest, quoted
from ...quantities import format_duration
from ..cloudbuild.native_draft import Origin
from .language.scope import Varying
from .option_reader import OptionReader
from .options import OTHER_PROVISIONERS, PROVISIONERS
from .parts import PackerPart
from .playbooks import local_playbooks, remote_playbooks
from .shell import shell_steps
from .step_maker import SHARED, StepMaker, fit_name

_RETRIES_LIMIT = 10
_CONNECTS = re.compile(r"\b(ssh|scp|rsync|sftp|ansible|pyinfra|salt|qmp_capabilities)")
_DURATION = re.compile(r"(?:([0-9]{1,6})h)?(?:([0-9]{1,6})m)?(?:([0-9]{1,6})(?:\.[0-9]*)?s)?")
_FOLDERS = ("/etc", "/opt", "/srv", "/root", "/usr/local/bin", "/usr/bin", "/etc/systemd/system")
"""Folders that are there, which a file goes into by its own name."""


def add_steps(maker: StepMaker, component: PackerPart) -> None:
    """Add the steps of a provisioner."""
    table = PROVISIONERS.get(component.kind)
    if table is None:
        _other(maker, component)
        return
    options = OptionReader(component, table, maker.draft)
    maker.readers.append(options)
    options.asked |= {"only", "except", "override"}
    before = len(maker.steps)
    if component.kind in _KINDS:
        _KINDS[component.kind](maker, options)
        _limits(maker, options, range(before, len(maker.steps)))
    options.finish()


def _other(maker: StepMaker, component: PackerPart) -> None:
    """Tell what becomes of a provisioner that is not taken over."""
    placement = OTHER_PROVISIONERS.get(component.kind)
    if placement is None:
        near = nearest(component.kind, [*PROVISIONERS, *OTHER_PROVISIONERS])
        maker.draft.fault((), f"is no provisioner here; {near}", component.place)
    elif placement.verdict == "refused" or _reaches_machine(component):
        maker.draft.fault((), f"is not taken over: {placement.text}", component.place)
    else:
        text = f"{component.place.shown}: not taken over: {placement.text}"
        maker.notes.append((component.place.position, text))


def _reaches_machine(component: PackerPart) -> bool:
    """Return whether a shell-local works on the VM, for all that its texts say."""
    if component.kind != "shell-local":
        return False
    for name in ("inline", "command", "script", "scripts", "environment_vars", "env"):
        value = component.settings[name].known if name in component.settings else None
        parts = value if isinstance(value, list) else value.values() if isinstance(value, dict) else [value]
        if any(isinstance(part, Varying) or _CONNECTS.search(str(part)) for part in parts):
            return True
    return False


def _limits(maker: StepMaker, options: OptionReader, steps: range) -> None:
    """Set the limits of a provisioner's steps."""
    timeout, retries = options.text("timeout"), options.number("max_retries")
    if retries is not None and not 0 <= retries <= _RETRIES_LIMIT:
        options.fault("max_retries", f"cannot be {retries}; write {_RETRIES_LIMIT} at most")
        retries = None
    for index in steps:
        if timeout is not None and (duration := seconds_of(timeout)):
            maker.draft.put(("steps", index, "timeout"), format_duration(duration), options.place("timeout"))
        elif timeout is not None:
            options.fault("timeout", f"{quoted(timeout)} is no duration; write one such as 10m")
        if retries:
            maker.draft.put(("steps", index, "retries"), retries, options.place("max_retries"))


def _copies(maker: StepMaker, options: OptionReader) -> None:
    """Copy files and folders into the machine."""
    destination = options.text("destination") or ""
    if (options.text("direction") or "upload") != "upload":
        for name in options.component.settings:
            options.asked.add(name)
        text = f"{options.component.place.shown}: not taken over: it fetches a file; take it from the finished image"
        maker.notes.append((options.component.place.position, text))
        return
    if destination.startswith("~/"):
        destination = f"/root/{destination[2:]}"
        options.note("destination", f"becomes {destination}: scripts have that home, too")
    if not destination.startswith("/"):
        what = f"{quoted(destination)} is in a home that is not there; write an absolute path, and in scripts too"
        options.fault("destination", what)
        return
    content = options.setting("content")
    if content is not None:
        _content(maker, options, destination)
    for key in ("source", "sources"):
        for path in options.texts(key):
            found = maker.path(options, key, path)
            if found is not None:
                _copied(maker, path, found, destination, options.place(key), several=key == "sources")
    maker.shares |= SHARED.match(destination) is not None


def _content(maker: StepMaker, options: OptionReader, destination: str) -> None:
    """Copy a text into the machine."""
    text = options.text("content") or ""
    name = posixpath.basename(destination).strip(".") or "content"
    path = maker.make(fit_name(name), text)
    inputs = {"source": path, "destination": destination, "mode": "0644"}
    maker.put(f"copy-{name}", "copy-files", inputs, options.place("content"), reads=[])


def _copied(maker: StepMaker, path: str, found: str, destination: str, place: Origin, *, several: bool) -> None:
    """Copy as scp does: a folder without / at its end comes with its name, a file goes into a folder."""
    name = posixpath.basename(path.rstrip("/"))
    is_folder = maker.places.is_folder(path)
    goes_into = destination.endswith(("/", "/tmp")) or destination in _FOLDERS or several  # noqa: S108 - there
    if (is_folder and not path.endswith("/")) or (not is_folder and goes_into):
        destination = posixpath.join(destination, name)
    inputs = {"source": found, "destination": posixpath.normpath(destination)}
    maker.put(f"copy-{name}", "copy-files", inputs, place, reads=[])


def seconds_of(text: str) -> int:
    """Return the seconds of one of Go's durations; 0 for another text."""
    match = _DURATION.fullmatch(text)
    if match is None:
        return 0
    hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return hours * 3600 + minutes * 60 + seconds


_KINDS: Mapping[str, Callable[[StepMaker, OptionReader], None]] = {
    "shell": shell_steps,
    "file": _copies,
    "ansible-local": local_playbooks,
    "ansible": remote_playbooks,
}
