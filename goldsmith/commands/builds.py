"""goldsmith builds: what has been built and what runs, on this machine or in a project on Google Cloud."""

from __future__ import annotations

import codecs
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from shared.build.build import Build, State, StepRecord
from shared.build.cost.usage import build_usage
from shared.build.damage import Damaged, damaged_json, left_in, refuse_unfinished
from shared.build.events import to_json
from shared.build.identity import is_build_id
from shared.build.resources import kept_disk, kept_disk_json
from shared.engine.history import followed_from_now
from shared.engine.script_table import ScriptRecord, nest_scripts, scripts_of, steps_with_scripts
from shared.errors import DamagedDocument, EnvironmentFault, InputError, NotFound, StoreError
from shared.names import meant, quoted
from shared.planning.line import Wait, waits_of
from shared.planning.remedies import remedy_of
from shared.planning.requests import ask_to_cancel as ask_to_cancel
from shared.runtime import opening

from ..exit_status import NOT_SUCCEEDED
from ..home import open_home, resume_all
from ..home import resume_build as resume_one
from ..places import Place, builds_at
from ..screen.script_lines import ScriptLines
from ..screen.tables import print_json, print_table, relative, when
from ..screen.text import complain, printable, printable_lines, say
from ..screen.times import took
from ..screen.words import release_lines, summary

if TYPE_CHECKING:
    from shared.runtime.opening import CloudClient, LocalBackend, LocalBuilds


ANSWERS_WITHIN = 120.0  # seconds; a cold function needs some ten
POLL = 1.0  # seconds


def list_builds(place: Place, *, as_json: bool) -> None:
    """Print all builds, newest first; why one cannot be read goes to standard error."""
    with builds_at(place) as known:
        builds = known.store.builds()
        whole = [build for build in builds if isinstance(build, Build)]
        interrupted = {build.id for build in whole if known.is_interrupted(build)}
        waits = waits_of(whole, known.store, known.family_concurrency)
    for build in builds:
        if isinstance(build, Damaged):
            complain(build.why)
    if as_json:
        print_json([_document(build, interrupted, waits) for build in builds])
        return
    rows = [_row(build, interrupted, waits) for build in builds]
    print_table(("BUILD", "STATE", "OUTCOME", "REQUESTED", "TOOK"), rows)
    if interrupted:
        complain("what is interrupted was left by a killed process; finish it with: goldsmith builds resume")


def _document(build: Build | Damaged, interrupted: set[str], waits: Mapping[str, Wait]) -> dict[str, Any]:
    if isinstance(build, Damaged):
        return damaged_json(build)
    wait = waits.get(build.id)
    return {
        **to_json(build),
        "interrupted": build.id in interrupted,
        "wait": asdict(wait) if wait else None,
        "kept_disk": kept_disk_json(build),
        "remedy": remedy_of(build),
        "usage": used.to_json() if (used := build_usage(build)) is not None else None,
    }


def _row(build: Build | Damaged, interrupted: set[str], waits: Mapping[str, Wait]) -> tuple[str, ...]:
    if isinstance(build, Damaged):
        return (build.id, "damaged", "", "", "")
    state = _state(build, build.id in interrupted, waits.get(build.id))
    return (build.id, state, build.outcome or "", relative(build.created), took(build.updated - build.created))


def _state(build: Build, interrupted: bool, wait: Wait | None) -> str:
    if interrupted:
        return f"{build.state} (interrupted)"
    if build.held and build.outcome is None:
        return f"{build.state} (held until {when(build.deadline)})"
    if build.state is State.HELD:
        kept = kept_disk(build) is not None
        return f"{build.state} ({f'disk kept until {when(build.disk_until)}' if kept else 'its disk is being deleted'})"
    return f"{build.state} ({wait})" if wait else build.state


def resume(build_id: str | None, *, as_json: bool) -> int:
    """Finish builds of this machine that killed processes have left: one, or all; return the exit status."""
    with open_home() as backend:
        if build_id is None:
            finished, left = resume_all(backend)
        else:
            ended = _resume(build_id, backend)
            finished, left = ([ended], []) if ended.finished else ([], [ended.id])
    if as_json:
        print_json({"builds": {build.id: build.outcome for build in finished}, "left": left})
        return NOT_SUCCEEDED if left else 0
    for build in finished:
        say(f"build {build.id} is {build.outcome}")
    if not finished and not left:
        say("nothing to resume")
    return NOT_SUCCEEDED if left else 0


def _resume(build_id: str, backend: LocalBackend) -> Build:
    build = find_by_id(opening.builds_here(backend), build_id, Place())
    if build.finished:
        raise InputError(f"build {build.id} is finished already: {build.outcome}")
    ended = resume_one(backend, build)
    if ended is None:
        raise InputError(f"build {build.id} is held by another process, which goes on with it")
    return ended


def show_build(build_id: str, place: Place, *, as_json: bool) -> None:
    """Print one build."""
    with builds_at(place) as known:
        build = find_by_id(known, build_id, place)
        logs = known.logs_of(build.id)
        interrupted = known.is_interrupted(build)
        waits = waits_of([build], known.store, known.family_concurrency)
        scripts = scripts_of(build, known.store)
    if as_json:
        print_json(nest_scripts(_document(build, {build.id} if interrupted else set(), waits), scripts))
        return
    used = build_usage(build)
    lines = [
        ("build", build.id),
        ("state", _state(build, interrupted, waits.get(build.id)) + (f", {build.outcome}" if build.outcome else "")),
        ("requested", f"{when(build.created)}, {relative(build.created)}; deadline {when(build.deadline)}"),
        *([("retry of", build.retry_of)] if build.retry_of else []),
        *([("author", build.plan.author)] if build.plan is not None and build.plan.author else []),
        ("attempt", str(build.attempt)),
        *([("used", used.text), ("cost", used.cost_text)] if used is not None else []),
        ("left", ", ".join(f"{entry.kind} {entry.name}" for entry in build.ledger if not entry.keep) or "nothing"),
    ]
    for name, value in lines:
        say(f"{name + ':':<11} {value}")
    for record, of_step in steps_with_scripts(build, scripts):
        say(_step_line(2, record.name, record.action, record))
        for script in of_step:
            say(_step_line(4, printable(f"{script.phase}/{script.file}"), printable(script.element), script))
    if build.outcome:
        say("\n".join(summary(build, logs)))


def _step_line(indent: int, name: str, what: str, record: StepRecord | ScriptRecord) -> str:
    """Return the line of a step, or of a script of an element below it."""
    took = "" if record.seconds is None else f"{record.seconds:.1f} s"
    status = "" if record.exit_status is None else f"exit status {record.exit_status}"
    width = 26 - indent
    return f"{' ' * indent}{name:<{width}} {what:<18} {record.status:<8} {took:>8}  {status}".rstrip()


def logs(build_id: str, place: Place, *, follow: bool, script: str | None = None) -> None:
    """Print the console of the build's VMs, and go on until it is finished when asked to follow.

    With the PHASE/FILE of a script of an element, only its lines. InputError for a script that there is not.
    """
    lines = None if script is None else ScriptLines(script)
    with builds_at(place) as known:
        build = find_by_id(known, build_id, place)
        followed = followed_from_now(known.store, build.id)
        console = known.console(followed)
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        silent = True
        while True:
            last = not follow or followed.build.ended
            output = console.read()
            silent = silent and not output
            _write_console(lines.pick(output, last=last) if lines else output, decoder)
            if last:
                break
            time.sleep(console.poll)
            followed.look()
        if silent and followed.build.ended:
            complain(f"nothing is in {known.logs_of(build.id)}{_elsewhere(place)}")
        elif silent:
            complain(f"build {build.id} has written nothing yet; go on reading with --follow")
        elif lines is not None and not lines.found:
            raise InputError(
                f"--script {script}: the console of build {build.id} has no such script of an element; "
                f"its scripts: goldsmith builds show {build.id}{place.options}"
            )


def _elsewhere(place: Place) -> str:
    """Return a hint: the default bucket of a project may not be the one that its builds use."""
    return "; another bucket is named with --bucket" if place.project and not place.bucket else ""


def _write_console(output: bytes, decoder: codecs.IncrementalDecoder) -> None:
    """To a terminal, without what would steer it; to a file or program, byte for byte."""
    if sys.stdout.isatty():
        sys.stdout.write(printable_lines(decoder.decode(output)))
    else:
        sys.stdout.buffer.write(output)
    sys.stdout.flush()


def cancel(build_id: str, place: Place) -> None:
    """Ask the process that runs a build to end it, and wait. A build of this machine that no process runs ends here."""
    with builds_at(place) as known:
        build = find_by_id(known, build_id, place)
        if build.finished and place.project is not None and known.clock.now() < build.kept_until:
            _give_image_up(build, known)
            return
        if build.finished:
            raise InputError(f"build {build.id} is finished already: {build.outcome}")
        ask_to_cancel(build.id, "cancelled by goldsmith builds cancel", known.bus, known.clock)
        for line in release_lines(build):
            say(line)
        ended = known.wait_until_finished(build.id)
    say(f"build {ended.id} is {ended.outcome}")


def _give_image_up(build: Build, known: LocalBuilds | CloudClient) -> None:
    """End the time of an image that waits for a retry. EnvironmentFault where no function of the project answers."""
    ask_to_cancel(build.id, "given up by goldsmith builds cancel", known.bus, known.clock)
    give_up = time.monotonic() + ANSWERS_WITHIN
    while known.store.load(build.id).build.kept_until == build.kept_until:
        if time.monotonic() > give_up:
            raise EnvironmentFault(f"build {build.id} still keeps its image; look at the logs of advance_build")
        time.sleep(POLL)
    say(f"build {build.id} keeps its image no longer; the next tick deletes it, unless a retry has taken it over")


def forget_build(build_id: str, place: Place) -> None:
    """Set a build aside that cannot be read, or that is finished, and name what it may have left."""
    with builds_at(place) as known:
        found = _find(known, build_id, place)
        refuse_unfinished(found)
        left = left_in(known.forget(found.id))
    say(f"build {found.id} is forgotten; its record is kept, and no command shows it")
    if left:
        say(f"it may have left: {', '.join(left)}")
    elif left is None:
        say("what it has left is not in its record")
    if left != []:
        say("what carries its label is deleted when it expires" + ("" if place.project else ", by: goldsmith sweep"))


def find_by_id(known: LocalBuilds | CloudClient, build_id: str, place: Place) -> Build:
    """Find a build by its id or an unambiguous beginning of it. InputError; StoreError for one that cannot be read."""
    found = _find(known, build_id, place)
    if isinstance(found, Damaged):
        raise StoreError(found.why)
    return found


def _find(known: LocalBuilds | CloudClient, build_id: str, place: Place) -> Build | Damaged:
    """Read the one build of a whole id; all of them where there is none, as an id may begin another one."""
    if is_build_id(build_id):
        try:
            return known.store.load(build_id).build
        except NotFound:
            pass
        except DamagedDocument as error:
            return Damaged(build_id, str(error))
    if not build_id.strip():  # an unset variable of a script begins every id
        raise InputError(f"no build is named; write how its id begins; see: goldsmith builds list{place.options}")
    builds = known.store.builds()
    matching = [build for build in builds if build.id.startswith(build_id)]
    exact = [build for build in matching if build.id == build_id]
    if len(exact or matching) == 1:
        return (exact or matching)[0]
    if matching:
        raise InputError(
            f"{build_id} begins {len(matching)} builds: {', '.join(b.id for b in matching[:5])}; write more"
        )
    near = meant(build_id, (build.id for build in builds))
    raise InputError(f"there is no build {quoted(build_id)}{near}; see: goldsmith builds list{place.options}")
