"""goldsmith builds: what has been built and what runs, on this machine or in a project on Google Cloud."""

from __future__ import annotations

import codecs
import sys
import time
from typing import TYPE_CHECKING, Any

from shared.build import Build
from shared.damage import Damaged, damaged_json, left_in, refuse_unfinished
from shared.errors import InputError, StoreError
from shared.events import to_json
from shared.requests import cancel as ask_to_cancel

from .exit_status import FAILED
from .home import open_factory, resume_all
from .home import resume as resume_one
from .places import Place, opened
from .tables import print_json, print_table, when
from .text import complain, printable_lines, say
from .words import summary

if TYPE_CHECKING:
    from shared.factory import CloudClient, LocalFactory


def list_builds(place: Place, *, as_json: bool) -> None:
    """Print all builds, newest first; why one cannot be read goes to standard error."""
    with opened(place) as factory:
        builds = factory.store.builds()
        whole = [build for build in builds if isinstance(build, Build)]
        interrupted = {build.id for build in whole if factory.is_interrupted(build)}
    for build in builds:
        if isinstance(build, Damaged):
            complain(build.why)
    if as_json:
        print_json([_document(build, interrupted) for build in builds])
        return
    print_table(("BUILD", "STATE", "OUTCOME", "REQUESTED", "TOOK"), [_row(build, interrupted) for build in builds])
    if interrupted:
        complain("what is interrupted was left by a killed process; finish it with: goldsmith builds resume")


def _document(build: Build | Damaged, interrupted: set[str]) -> dict[str, Any]:
    if isinstance(build, Damaged):
        return damaged_json(build)
    return {**to_json(build), "interrupted": build.id in interrupted}


def _row(build: Build | Damaged, interrupted: set[str]) -> tuple[str, ...]:
    if isinstance(build, Damaged):
        return (build.id, "damaged", "", "", "")
    took = f"{build.updated - build.created:.0f} s"
    return (build.id, _state(build, build.id in interrupted), build.outcome or "", when(build.created), took)


def _state(build: Build, interrupted: bool) -> str:
    return f"{build.state} (interrupted)" if interrupted else build.state


def resume(build_id: str | None, *, as_json: bool) -> int:
    """Finish builds of this machine that killed processes have left: one, or all; return the exit status."""
    with open_factory() as factory:
        if build_id is None:
            finished, left = resume_all(factory)
        else:
            ended = _resume(build_id, factory)
            finished, left = ([ended], []) if ended.finished else ([], [ended.id])
    if as_json:
        print_json({"builds": {build.id: build.outcome for build in finished}, "left": left})
        return FAILED if left else 0
    for build in finished:
        say(f"build {build.id} is {build.outcome}")
    if not finished and not left:
        say("nothing to resume")
    return FAILED if left else 0


def _resume(build_id: str, factory: LocalFactory) -> Build:
    build = find(factory, build_id, Place())
    if build.finished:
        raise InputError(f"build {build.id} is finished already: {build.outcome}")
    ended = resume_one(factory, build)
    if ended is None:
        raise InputError(f"build {build.id} is held by another process, which goes on with it")
    return ended


def show(build_id: str, place: Place, *, as_json: bool) -> None:
    """Print one build."""
    with opened(place) as factory:
        build = find(factory, build_id, place)
        logs = factory.logs_of(build.id)
        interrupted = factory.is_interrupted(build)
    if as_json:
        print_json({**to_json(build), "interrupted": interrupted})
        return
    lines = [
        ("build", build.id),
        ("state", _state(build, interrupted) + (f", {build.outcome}" if build.outcome else "")),
        ("requested", f"{when(build.created)}, deadline {when(build.deadline)}"),
        ("attempt", str(build.attempt)),
        ("left", ", ".join(f"{entry.kind} {entry.name}" for entry in build.ledger if not entry.keep) or "nothing"),
    ]
    for name, value in lines:
        say(f"{name + ':':<11} {value}")
    for record in (*build.steps, *build.verify_steps):
        took = "" if record.seconds is None else f"{record.seconds:.1f} s"
        status = "" if record.exit_status is None else f"exit status {record.exit_status}"
        say(f"  {record.name:<24} {record.action:<18} {record.status:<8} {took:>8}  {status}".rstrip())
    if build.outcome:
        say("\n".join(summary(build, logs)))


def logs(build_id: str, place: Place, *, follow: bool) -> None:
    """Print the console of the build's VMs, and go on until it is finished when asked to follow."""
    with opened(place) as factory:
        build = find(factory, build_id, place)
        console = factory.console(build.id)
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        silent = True
        while True:
            last = not follow or factory.is_finished(build.id)
            output = console.read()
            silent = silent and not output
            _write_console(output, decoder)
            if last:
                break
            time.sleep(console.poll)
        if silent and factory.is_finished(build.id):
            complain(f"nothing is in {factory.logs_of(build.id)}{_elsewhere(place)}")
        elif silent:
            complain(f"build {build.id} has written nothing yet; go on reading with --follow")


def _elsewhere(place: Place) -> str:
    """Where else to look: a project's default bucket may not be the one that its builds use."""
    return "; another bucket is named with --bucket" if place.project and not place.bucket else ""


def _write_console(output: bytes, decoder: codecs.IncrementalDecoder) -> None:
    """To a terminal, without what would steer it; to a file or program, byte for byte."""
    if sys.stdout.isatty():
        sys.stdout.write(printable_lines(decoder.decode(output)))
    else:
        sys.stdout.buffer.write(output)
    sys.stdout.flush()


def cancel(build_id: str, place: Place) -> None:
    """Ask whoever runs a build to end it, and wait; on this machine a build that no process runs is ended here."""
    with opened(place) as factory:
        build = find(factory, build_id, place)
        if build.finished:
            raise InputError(f"build {build.id} is finished already: {build.outcome}")
        ask_to_cancel(build.id, "cancelled by goldsmith builds cancel", factory.bus, factory.clock)
        ended = factory.wait_until_finished(build.id)
    say(f"build {ended.id} is {ended.outcome}")


def forget(build_id: str, place: Place) -> None:
    """Set a build aside that cannot be read, or that is finished, and name what it may have left."""
    with opened(place) as factory:
        found = _find(factory, build_id, place)
        refuse_unfinished(found)
        left = left_in(factory.forget(found.id))
    say(f"build {found.id} is forgotten; its record is kept, and no command shows it")
    if left:
        say(f"it may have left: {', '.join(left)}")
    elif left is None:
        say("what it has left is not in its record")
    if left != []:
        say("what carries its label is deleted when it expires" + ("" if place.project else ", by: goldsmith sweep"))


def find(factory: LocalFactory | CloudClient, build_id: str, place: Place) -> Build:
    """Find a build by its id or an unambiguous beginning of it. InputError; StoreError for one that cannot be read."""
    found = _find(factory, build_id, place)
    if isinstance(found, Damaged):
        raise StoreError(found.why)
    return found


def _find(factory: LocalFactory | CloudClient, build_id: str, place: Place) -> Build | Damaged:
    matching = [build for build in factory.store.builds() if build.id.startswith(build_id)]
    exact = [build for build in matching if build.id == build_id]
    if len(exact or matching) == 1:
        return (exact or matching)[0]
    if matching:
        raise InputError(
            f"{build_id} begins {len(matching)} builds: {', '.join(b.id for b in matching[:5])}; write more"
        )
    raise InputError(f"there is no build {build_id}; see: goldsmith builds list{place.options}")
