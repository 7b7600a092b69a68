"""The consoles of a build's VMs: what they write while they run, and what is kept of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from flask import Response, request

from provisioner.protocol import BUILD, EXPORT, PHASES, VERIFY

from ...build.build import Build
from ...build.resources import machine_name
from ...errors import CloudError, InputError, NotFound
from ..web.pages import PageDocument
from ..web.saved_files import saved_data, saved_object
from ..web.served import Served
from .ansi import StyledText, terminal_lines

CONSOLE_PORT = 1  # the serial port that is the console
SHOWN_BYTES = 128 << 10  # of a console that one answer has
DOWNLOAD_BYTES = 16 << 20  # of a console that is saved: its end
MOST_MACHINES = 40  # that are named
_TEXT = "text/plain"


@dataclass(frozen=True)
class ConsoleMachine:
    """A VM that a build may have had."""

    name: str
    title: str  # for people
    zone: str


@dataclass(frozen=True)
class ConsolePiece:
    """Some output: whole lines, and from where on the next piece begins."""

    start: int
    end: int
    data: bytes

    @property
    def lines(self) -> list[list[StyledText]]:
        """Return it for people."""
        return terminal_lines(self.data)


def console_machines(build: Build) -> list[ConsoleMachine]:
    """List the VMs that a build may have had, in the order of their making."""
    plan = build.plan
    if plan is None:
        return []
    found = []
    for attempt in range(max(1, build.attempt - MOST_MACHINES // 4), build.attempt + 1):
        for phase in PHASES:
            if (phase == EXPORT and plan.exporter is None) or (phase == VERIFY and plan.verify_steps is None):
                continue
            verifiers = [each.name for each in plan.verify_machines] if phase == VERIFY else []
            for number, verifier in enumerate(verifiers or [""], start=1 if verifiers else 0):
                zones = {each.name: each.zone for each in build.verifiers}
                title = {BUILD: "steps", VERIFY: "verification", EXPORT: "export"}[phase]
                found.append(
                    ConsoleMachine(
                        machine_name(build.id, attempt, phase, number),
                        " · ".join(filter(None, [title, verifier, f"attempt {attempt}" if build.attempt > 1 else ""])),
                        zones.get(verifier, "") or build.zone,
                    )
                )
    return found[:MOST_MACHINES]


def current_machine(build: Build) -> str:
    """Return the VM whose console is looked at first: of the phase that a build is in, or has failed in."""
    machines = console_machines(build)
    verifying = any(step.status in ("running", "failed") for _, table in build.verify_tables for step in table)
    phase = VERIFY if verifying else BUILD
    wanted = [each.name for each in machines if each.name.startswith(machine_name(build.id, build.attempt, phase))]
    return (wanted or [each.name for each in machines] or [""])[0]


def read_piece(served: Served, build: Build, machine: str, start: int | None = None) -> ConsolePiece:
    """Read what a VM has written from an offset on, or its end. A line that has not ended is left to the next piece.

    InputError for a VM that the build has not.
    """
    known = {each.name: each for each in console_machines(build)}
    if machine not in known:
        raise InputError(f"build {build.id} has no VM {machine[:63]}; it has: {', '.join(known) or 'none'}")
    output, end = _output(served, build, known[machine], -SHOWN_BYTES if start is None else start, SHOWN_BYTES)
    if start is None:
        output = output[-SHOWN_BYTES:]
        begins_in_a_line = len(output) < end
        output = output[output.find(b"\n") + 1 if begins_in_a_line else 0 :]
    elif len(output) > SHOWN_BYTES:
        output, end = output[:SHOWN_BYTES], start + SHOWN_BYTES
    if not build.ended:
        whole = output.rfind(b"\n") + 1
        end -= len(output) - whole
        output = output[:whole]
    return ConsolePiece(end - len(output), end, output)


def _output(served: Served, build: Build, machine: ConsoleMachine, start: int, most: int) -> tuple[bytes, int]:
    """Return the output from an offset on, which counts from the end where it is negative, and where that ends.

    A VM that runs is asked for all that its serial port has; of a console that is kept, no more than `most` is read.
    """
    running = _serial_output(served, build, machine, max(start, 0))
    if running is not None:
        return running
    try:
        output, size = served.backend.bucket.read_part(_kept_at(served, build, machine), start, most)
    except NotFound:
        return b"", max(start, 0)
    begin = start if start >= 0 else max(0, size + start)
    return output, begin + len(output)


def _serial_output(served: Served, build: Build, machine: ConsoleMachine, start: int) -> tuple[bytes, int] | None:
    """Return the output of a VM that runs, from an offset on, and where that ends; None for one that is gone."""
    if build.ended or not machine.zone or build.plan is None:
        return None
    compute, project = served.backend.compute, build.plan.machine.project
    try:
        return compute.serial_output(machine.name, project, machine.zone, CONSOLE_PORT, start)
    except NotFound:
        return None  # its console was kept before


def _kept_at(served: Served, build: Build, machine: ConsoleMachine) -> str:
    return f"{served.backend.logs.format(build_id=build.id)}/{machine.name}.log"


def log_page(served: Served, arguments: Mapping[str, str], build_id: str) -> PageDocument:
    """Return some of the console of one VM of a build. NotFound, InputError, DamagedDocument."""
    build = served.backend.store.load(build_id).build
    return {"id": build_id, "ended": build.ended, **log_of(served, build, arguments)}


def log_of(served: Served, build: Build, arguments: Mapping[str, str]) -> PageDocument:
    """Return the lines of a console: from `start` on, or the last ones; and why they cannot be read. InputError."""
    machines = [{"name": each.name, "title": each.title} for each in console_machines(build)]
    machine = arguments.get("machine", "") or current_machine(build)
    text = arguments.get("start", "")
    if text and not (text.isascii() and text.isdecimal() and len(text) < 13):
        raise InputError(f"start: {text[:20]!r} is no number of bytes; write 0 or more")
    piece, problem = ConsolePiece(0, 0, b""), ""
    if machine:
        try:
            piece = read_piece(served, build, machine, int(text) if text else None)
        except CloudError as error:  # all else of the build can be shown
            problem = str(error)
    lines = [[list(segment) for segment in line] for line in piece.lines]
    place = {"machine": machine, "machines": machines, "start": piece.start, "next": piece.end}
    return place | {"lines": lines, "problem": problem}


def whole_log(served: Served, build_id: str) -> Response:
    """Return the console of one VM as plain text, to be saved. NotFound, InputError, DamagedDocument."""
    build = served.backend.store.load(build_id).build
    machine = request.args.get("machine", "") or current_machine(build)
    known = {each.name: each for each in console_machines(build)}
    if machine not in known:
        raise InputError(f"build {build.id} has no VM {machine[:63]}; it has: {', '.join(known) or 'none'}")
    file, running = f"{machine}.log", _serial_output(served, build, known[machine], 0)
    if running is not None:
        return saved_data(running[0][-DOWNLOAD_BYTES:], file, _TEXT)
    try:
        kept = _kept_at(served, build, known[machine])
        return saved_object(served.backend.bucket, kept, file, _TEXT, last=DOWNLOAD_BYTES)
    except NotFound:
        return saved_data(b"", file, _TEXT)
