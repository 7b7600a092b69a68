"""goldsmith dib: a command line of disk-image-create, run: converted to a spec, built, and its files named as there."""

from __future__ import annotations

import fcntl
import glob
import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Self, TextIO

from shared.build.build import Build, Outcome
from shared.build.events import Event
from shared.build.export_formats import CHECKSUM
from shared.errors import InputError
from shared.host.scratch import if_abandoned
from shared.quantities import MIB
from shared.spec.diskimage_builder.command_line import placed_words, read_image_command
from shared.spec.diskimage_builder.draft import IMAGE_TYPES, OriginalFiles
from shared.spec.diskimage_builder.options import ONLY_SHOW, OPTIONS, ImageOrder
from shared.spec.read import SpecBuild, SpecFile

from ...home import open_home
from ...screen.text import complain, say
from ...screen.view import PlainView, View, view
from ...screen.words import summary
from ..build import BuildFlags, build_all
from .image_orders import ConvertedOrder, convert_orders

NAME = "goldsmith dib"
_HIDDEN = ".{name}.goldsmith-dib-"  # begins the name of the folder in which files are made, beside their place
_OLD = "%Y.%m.%d-%H.%M.%S"

EXAMPLE_OF_DIB = "goldsmith dib -o out/my-image -t qcow2,raw vm debian-minimal my-app"


def dib(words: Sequence[str]) -> int:
    """Build the image of a command line; give the exit status, which of a failed script is that script's."""
    if not words or any(word in ONLY_SHOW for word in words):
        for line in _usage():
            say(line)
        return 0
    order, run = read_image_command(placed_words([NAME, *words])), uuid.uuid4().hex[:12]
    (converted,) = convert_orders([order], NAME, os.environ, (), Path(), lambda name: _staged(Path(name), run))
    files = converted.draft.files
    with _screen(files, order) as screen, _staging(_staged(Path(files.name), run)) as folder:
        for note in converted.draft.notes:
            complain(note)
        status = _build(converted, screen)
        if status == 0:
            for path in _reveal(folder, files):
                say(f"Image file {path} created...")
            _forget(screen.build)
            return 0
        return _status_of_script(screen.build) or status


def _usage() -> Iterator[str]:
    yield "Usage: goldsmith dib [OPTION]... ELEMENT..."
    yield "Makes an image of elements, as disk-image-create of diskimage-builder does. The options are its own:"
    yield ""
    for option in OPTIONS.values():
        value = f" {option.key.upper()}" if option.takes_value else ""
        yield f"  {option.flag}{value}"
    yield "  --path FOLDER   elements beside those of ELEMENTS_PATH; may be given several times"
    yield ""
    yield f"Types: {', '.join(IMAGE_TYPES)}. See docs/diskimage-builder.md for what each option comes to."
    yield ""
    yield "Example:"
    yield f"  {EXAMPLE_OF_DIB}"


def _build(converted: ConvertedOrder, screen: KeptView) -> int:
    """Build the spec; give the exit status."""
    now = SpecFile(converted.parsed, Path(), (converted.build,)), (converted.build,)

    def read() -> tuple[SpecFile, tuple[SpecBuild, ...]]:
        return now

    options = BuildFlags(None, None, None, show=lambda _: screen)
    return build_all(read, f"{NAME} {uuid.uuid4()}", options, now)


def _status_of_script(build: Build | None) -> int:
    """Return the exit status of the step that failed; 0 for none."""
    failed = [step.exit_status for step in build.steps if step.status == "failed"] if build else []
    return next((status for status in failed if status is not None and 0 < status < 256), 0)


def _forget(build: Build | None) -> None:
    """Delete the image from the catalogue: what was asked for are its files."""
    if build is None or build.image is None:
        return
    with open_home() as backend:
        if backend.catalogue.get(build.image.name) is not None:
            backend.catalogue.delete(build.image.name)


# What is shown


class KeptView:
    """A view that keeps the build that it has shown, and can write it into a file, too."""

    def __init__(self, views: Sequence[View]) -> None:
        self._views = views
        self.build: Build | None = None

    def __enter__(self) -> Self:
        for each in self._views:
            each.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        for each in reversed(self._views):
            each.__exit__(*error)

    def event(self, build: Build, event: Event) -> None:
        """Show an event."""
        for each in self._views:
            each.event(build, event)

    def progress(self, what: str, done: int, total: int) -> None:
        """Show progress."""
        for each in self._views:
            each.progress(what, done, total)

    def console(self, lines: list[str]) -> None:
        """Show lines."""
        for each in self._views:
            each.console(lines)

    def aside(self) -> AbstractContextManager[None]:
        """Leave the terminal to another."""
        return self._views[0].aside()

    def end(self, build: Build, logs: str) -> None:
        """Show the end; of a build that has succeeded what is to be known of it, beside its files."""
        self.build = build
        if build.outcome is Outcome.SUCCEEDED and build.plan is not None:
            plan = replace(build.plan, image=replace(build.plan.image, export_to=None))
            for line in summary(replace(build, plan=plan), logs)[1:]:
                say(line)
            return
        for each in self._views:
            each.end(build, logs)


@contextmanager
def _screen(files: OriginalFiles, order: ImageOrder) -> Iterator[KeptView]:
    """Show a build on the terminal, or in the file that --logfile names; with DIB_QUIET=0 in both."""
    if files.logfile is None:
        yield KeptView([view(False)])
        return
    quiet = order.environment.get("DIB_QUIET")
    try:
        log: TextIO = Path(files.logfile).open("a", encoding="utf-8")  # noqa: SIM115 - closed below
    except OSError as error:
        raise InputError(f"--logfile {files.logfile}: {error.strerror}; name a file that can be written") from error
    with log:
        say(f"Output logs going to: {files.logfile}")
        yield KeptView([PlainView(log), *([view(False)] if quiet and quiet.text == "0" else [])])


# Files


def _staged(name: Path, run: str) -> Path:
    """Return where a run makes the files of an image, beside their place."""
    return name.parent / f"{_HIDDEN.format(name=name.name)}{run}" / name.name


@contextmanager
def _staging(staged: Path) -> Iterator[Path]:
    """Hold the folder in which files are made; it is gone in the end, as are those of runs that were killed.

    A build that a killed run has left may be finished by this one, and writes its files then. InputError.
    """
    folder = staged.parent
    try:
        folder.mkdir(mode=0o700)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise InputError(
            f"-o {folder.parent / staged.name}: {error.strerror}; name a place that can be written"
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield folder
    finally:
        os.close(descriptor)
        for left in folder.parent.glob(f"{glob.escape(_HIDDEN.format(name=staged.name))}*"):
            with if_abandoned(left) as abandoned:  # as this run's own is by now
                if abandoned and left.stat().st_uid == os.geteuid():
                    shutil.rmtree(left, ignore_errors=True)


def _reveal(folder: Path, files: OriginalFiles) -> Iterator[Path]:
    """Yield the files as they get their names, those that are there others; write the checksums that are asked for."""
    name = Path(files.name)
    for ending, original in files.endings.items():
        made = folder / f"{name.name}{ending}"
        target = name.with_name(f"{name.name}{original}")
        if not files.overwrite:
            _rename_old(target)
        made.replace(target)
        _write_checksums(made.with_name(made.name + CHECKSUM), target, files.checksums)
        yield target
    for other in folder.iterdir():  # the manifest and the bill of materials
        if not other.name.endswith(CHECKSUM):
            other.replace(name.with_name(other.name))


def _rename_old(target: Path) -> None:
    """Rename a file that is there to one with the time, and its checksums too."""
    if not target.exists():
        return
    old = target.with_name(f"{target.stem}-{time.strftime(_OLD)}{target.suffix}")
    say(f"Old image found. Renaming it to {old}")
    target.rename(old)
    for kind in (".md5", CHECKSUM):
        beside = target.with_name(target.name + kind)
        if beside.exists():
            beside.rename(old.with_name(old.name + kind))


def _write_checksums(written: Path, target: Path, kinds: Sequence[str]) -> None:
    """Write the checksums of a file; that by SHA-256 is known already."""
    if "sha256" in kinds:
        digest = written.read_text(encoding="utf-8").split()[0]
        target.with_name(f"{target.name}{CHECKSUM}").write_text(f"{digest}  {target.name}\n", encoding="utf-8")
    if "md5" in kinds:
        sum_of = hashlib.md5(usedforsecurity=False)
        with target.open("rb") as file:
            while data := file.read(MIB):
                sum_of.update(data)
        target.with_name(f"{target.name}.md5").write_text(f"{sum_of.hexdigest()}  {target.name}\n", encoding="utf-8")
