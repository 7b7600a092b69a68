"""What the pages show in tests: builds of this machine, led through their lives by the real lifecycle.

Each tale is a list of events with their times. lifecycle.py decides what they come to, and the store of a real
GOLDSMITH_HOME keeps it: nothing here writes a state or an outcome.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from provisioner.protocol import (
    COMPLETED,
    ELEMENTS_ACTION,
    FAILED,
    SCRIPTS,
    STARTED,
    STEP_FAILED,
    STEP_FINISHED,
    STEP_STARTED,
    ScriptFact,
    Step,
    encode_script,
)
from shared.build.build import Build
from shared.build.events import BuildRejected, BuildRequested, CleanedUp, Event
from shared.build.plan import Plan
from shared.build.resources import image_document
from shared.engine.lifecycle import begin, decide
from shared.host.build_folder import BuildFolder
from shared.ports import Store
from tests.world import values

MARKUP = "<script>document.title='broken'</script>"
"""What no page may run, wherever it stands."""

STEPS = (
    Step("packages", "install-packages", {"packages": ["nginx", "ca-certificates"]}),
    Step("configure", "run-script", {"script": "configure.sh", "env": {"RELEASE": "2"}}),
    Step("warm-cache", "run-script", {"script": "warm.sh", "env": {}}),
)


VERIFY_STEPS = (Step("answers", "run-script", {"script": "check.sh", "env": {}}),)
CONSOLE = (
    "[    0.000000] Linux version 6.1.0-18-cloud-amd64\r\n"
    "[    1.204911] systemd[1]: Started provisioner.\r\n"
    "\x1b[1mstep packages\x1b[0m\r\n"
    "Get:1 https://deb.debian.org bookworm InRelease [151 kB]\r\n"
    "\x1b[32mok\x1b[0m nginx is installed\r\n"
    "progress 10%\rprogress 60%\rprogress 100%\r\n"
    f"\x1b]0;title\x07\x1b[2J{MARKUP} \x1b[31mred\x1b[0m \u202etext\r\n"
).encode()


class Tale:
    """The events of one build. `at` is the time of the next one, in Unix seconds."""

    def __init__(self, build_id: str, at: float, **plan: Any) -> None:
        self.plan: Plan = values.plan(build_id=build_id, requested=at, **{"steps": STEPS, **plan})
        self.at = at
        self.events: list[Event] = []
        self.sequence = 0
        self.add(values.requested(plan=self.plan))

    def add(self, event: Event, after: float = 0.0) -> Tale:
        self.at += after
        number = len(self.events)
        self.events.append(replace(event, build_id=self.plan.build_id, event_id=f"e{number:04d}", time=self.at))
        return self

    def say(self, kind: str, after: float = 0.0, phase: str = "build", attempt: int = 1, **more: Any) -> Tale:
        self.sequence += 1
        said: dict[str, Any] = {"attempt": attempt, "phase": phase, "sequence": self.sequence}
        return self.add(values.reported(kind=kind, build_id=self.plan.build_id, **said, **more), after)

    def boots(self, after: float = 8.0, phase: str = "build", attempt: int = 1) -> Tale:
        self.sequence = 0
        self.add(values.machine_started(phase=phase, attempt=attempt), after)
        return self.say(STARTED, 6.0, phase, attempt)

    def step(self, index: int, seconds: float, phase: str = "build", attempt: int = 1) -> Tale:
        self.say(STEP_STARTED, 0.2, phase, attempt, step=index, tries=1)
        return self.step_ends(index, seconds, phase, attempt)

    def step_ends(self, index: int, seconds: float, phase: str = "build", attempt: int = 1) -> Tale:
        done: dict[str, Any] = {"step": index, "tries": 1, "exit_status": 0, "seconds": seconds}
        return self.say(STEP_FINISHED, seconds, phase, attempt, **done)

    def fails(self, index: int, seconds: float, output: str, status: int = 1) -> Tale:
        self.say(STEP_STARTED, 0.2, step=index, tries=1)
        failure: dict[str, Any] = {"step": index, "tries": 1, "exit_status": status, "final": True, "output": output}
        self.say(STEP_FAILED, seconds, seconds=seconds, **failure)
        self.say(FAILED, 0.3, **failure, message=f"step {self.plan.steps[index].name} failed")
        return self.add(values.cleaned_up(), 3.0)

    def completes(self, phase: str = "build", attempt: int = 1) -> Tale:
        self.say(COMPLETED, 1.0, phase, attempt)
        if phase == "build":
            return self
        return self.add(values.machine_stopped(phase=phase, attempt=attempt, claim="completed"), 2.0)

    def makes_image(self) -> Tale:
        return self.add(values.image_exported(image=values.image_record(name=self.plan.image.name)), 21.0)

    def publishes(self) -> Tale:
        if self.plan.verify_steps is None:
            self.makes_image()
        self.add(values.publication_staged(), 1.0)
        self.add(values.image_published(), 1.0)
        return self.add(values.cleaned_up(), 2.0)


def write_events(store: Store, events: Iterable[Event]) -> Iterator[Build]:
    """Lead a build through its events, as the engine does, and keep each step of it in a store."""
    for event in events:
        if isinstance(event, BuildRequested | BuildRejected):
            build = begin(event).build
            store.create(build, event, image_document(build))
        else:
            stored = store.load(event.build_id)
            if isinstance(event, CleanedUp):  # its order's number says that it is the newest
                event = replace(event, event_id=f"o{stored.build.cleaning}-CleanedUp")
            decision = decide(stored.build, event)
            assert not decision.ignored, f"{event.build_id}, {event.event_id}: {decision.ignored}"
            build = replace(decision.build, outbox=())
            store.save(build, stored.version, event, image_document(build))
        yield build


def tell(store: Store, tale: Tale) -> Build:
    """Write a whole tale; return the build as it is then."""
    return list(write_events(store, tale.events))[-1]


def names(build_id: str, number: int = 0, **image: Any) -> dict[str, Any]:
    """Return what a plan has of its own for a build: the spec's name, and its image."""
    name = build_id.rpartition("-")[0]
    base = values.plan().image
    return {"name": name, "image": replace(base, name=f"{name}-2026112{number}", family=name, **image)}


def fill(home: Path, store: Store, now: float) -> None:
    """Write the builds that all pages are shown with, and what their VMs have written."""
    fill_store(store, now)
    for build_id in ("nginx-0123456789ab", "docker-0123456789ac", "hostile-0123456789ae"):
        logs = BuildFolder(home, build_id).logs
        logs.mkdir(parents=True)
        (logs / f"gs-{build_id}-a1-vm.log").write_bytes(CONSOLE)
    console = running_console(home)
    console.parent.mkdir(parents=True)
    console.write_bytes(CONSOLE)


REJECTED = "typo-0123456789af"
PREEMPTED = "spot-0123456789ba"
ELEMENTS = "dib-0123456789bb"
RUNNING = "cos-gpu-0123456789ad"


def running(now: float) -> Tale:
    """A build whose second step runs."""
    tale = Tale(RUNNING, now - 95, **names(RUNNING, 2)).boots()
    return tale.step(0, 38).say(STEP_STARTED, 0.2, step=1, tries=1)


OUTPUT = """\x1b[1mReading package lists...\x1b[0m
Building dependency tree...
\x1b[31mE:\x1b[0m Unable to locate package dokcer.io
configure.sh: line 12: apt-get install: exit status 100
"""


def _hostile_steps() -> tuple[Step, ...]:
    return (Step(MARKUP, "run-script", {"script": MARKUP, "env": {"X": MARKUP}}),)


def running_console(home: Path) -> Path:
    """Where the VM of the running build writes."""
    return BuildFolder(home, RUNNING).machine(f"gs-{RUNNING}-a1-vm") / "console.log"


def preempted(at: float) -> Tale:
    """A build whose first VM was preempted in its second step."""
    tale = Tale(PREEMPTED, at, **names(PREEMPTED, 4)).boots().step(0, 40)
    tale.say(STEP_STARTED, 0.2, step=1, tries=1)
    tale.add(values.machine_stopped(how="preempted", claim=None), 25.0)
    tale.boots(30.0, attempt=2).step(1, 50, attempt=2).step(2, 20, attempt=2)
    return tale.completes(attempt=2).publishes()


def of_elements(at: float) -> Tale:
    """A build of elements, whose scripts are told."""
    steps = (Step("elements", ELEMENTS_ACTION, {"elements": ["vm", "debian"], "path": []}), STEPS[1])
    tale = Tale(ELEMENTS, at, **names(ELEMENTS, 5), steps=steps).boots()
    tale.say(STEP_STARTED, 0.2, step=0, tries=1)
    facts = [
        ScriptFact("extra-data.d", "10-ssh-keys", "local-config", 1.2, 0),
        ScriptFact("pre-install.d", "05-sources", "debian", 6.5, 0),
        ScriptFact("install.d", f"20-{MARKUP}", "vm", 31.0, 0),
        ScriptFact("post-install.d", "99-autoremove", "dpkg", 4.0, 0),
    ]
    tale.say(SCRIPTS, 44.0, step=0, tries=1, output="\n".join(encode_script(each) for each in facts))
    tale.say(STEP_FINISHED, 0.5, step=0, tries=1, exit_status=0, seconds=44.7)
    return tale.step(1, 8).completes().publishes()


def fill_store(store: Store, now: float) -> None:
    """Write these builds."""
    good = Tale("nginx-0123456789ab", now - 5400, **names("nginx-0123456789ab"), verify_steps=VERIFY_STEPS).boots()
    good.step(0, 31).step(1, 12).step(2, 74).completes().makes_image()
    tell(store, good.boots(4.0, "verify").step(0, 9, "verify").completes("verify").publishes())
    bad = Tale("docker-0123456789ac", now - 3000, **names("docker-0123456789ac", 1)).boots().step(0, 44)
    tell(store, bad.fails(1, 12, OUTPUT, 100))
    tell(store, running(now))
    reject = values.rejected(build_id=REJECTED, name="typo", time=now - 86_400, reason=f"build.yaml:1:1: {MARKUP}")
    list(write_events(store, (reject, replace(values.cleaned_up(), build_id=REJECTED, time=now - 86_399))))
    hostile = Tale("hostile-0123456789ae", now - 7200, **names("hostile-0123456789ae", 3), steps=_hostile_steps())
    tell(store, hostile.boots().fails(0, 3, f"before {MARKUP} after", 1))
    tell(store, preempted(now - 9000))
    tell(store, of_elements(now - 12_000))
