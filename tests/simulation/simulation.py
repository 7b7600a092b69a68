"""Several builds at once through the real engine, workers, watch, expiry and sweep; anything happens at any call.

    Simulation(seed).run()    the seed says everything: specs, guests, weather, who runs when, what a person does

First a storm: messages in any order, twice and late, several processes that stand still or die at any call, calls that
fail, cancellations, deadlines, lost VMs. Then calm, in which every build has to come to its end. What must hold then,
and whenever an image joins a family, is in invariants.py.
"""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from provisioner.protocol import ELEMENTS_ACTION
from shared.build.build import ANNOUNCED, Build, State
from shared.build.events import read_build
from shared.build.limits import Limits
from shared.build.plan import SourceImage
from shared.build.resources import waits_with_disk
from shared.engine.engine import Engine
from shared.engine.family_turn import is_publishing
from shared.errors import EnvironmentFault, GoldsmithError, InputError, NameTaken, PoisonMessage
from shared.intake.intake import Intake
from shared.intake.retry import wanted_retry
from shared.planning.plan import make_plan
from shared.planning.requests import admit
from shared.planning.retries import RETRY_PHASES, ask_for_retry, retry_id
from shared.planning.turns import give_turns
from shared.ports import Image, Message
from shared.spec.model import Spec
from shared.upkeep.expiry import _pass_time
from shared.upkeep.sweep import sweep_project
from tests.simulation.processes import Process, Processes
from tests.simulation.weather import Refusals, SimulatedClock, Weather, WeatherFuse
from tests.world import values
from tests.world.fuse import Died
from tests.world.intake import Place
from tests.world.uploaded import MemoryObjects
from tests.world.world import Guest, World

FAMILY = "golden"
HELD_DISK = 3600.0  # seconds
STORM = 220  # things that happen in a storm
SOURCE = SourceImage("local", "debian-12-20261101", "sha256-0001", family="debian-12")


@dataclass
class Request:
    """One request of the simulation."""

    number: int
    spec: Spec
    guest: Guest
    late: bool  # not before all others have come to their end
    begun: bool = False
    build_id: str = ""
    refused: str = ""


class Images(dict[str, Image]):
    """The project's images, which call back before an image joins a family."""

    joins: Callable[[Image], None] | None = None

    def __setitem__(self, name: str, image: Image) -> None:
        before = self.get(name)
        if self.joins is not None and image.family is not None and (before is None or before.family != image.family):
            self.joins(image)
        super().__setitem__(name, image)


class Simulation(World):
    """One run. What is wrong is in `wrong`, and what happened in `trace`."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed
        self.draw = random.Random(seed)
        self.trace: list[str] = []
        self.wrong: list[str] = []
        self.processes = Processes()
        self.weather = Weather.draw(self.draw)
        self.fuse = WeatherFuse(self.draw, self.weather, self.processes)
        self.clock: SimulatedClock = SimulatedClock(self.processes)
        self.clock.draw = self.draw
        self.store.fuse = self.bus.fuse = self.bucket.fuse = self.compute.fuse = self.fuse
        self.compute._clock = self.clock
        self.images = self.compute.all_images = Images()
        self.compute.faults = Refusals(self.draw, self.weather, self.fuse)
        self.concurrency = self.draw.choice([None, None, 1, 1, 2])
        self.backend = replace(self.backend, clock=self.clock, adopted_families=(), concurrency=self.concurrency)
        self.publishing = 0  # builds of one family that were seen to publish at once, at most
        self.requests = requests(self.draw)
        self.foreign: dict[str, Image] = {}
        self.deaths = 0
        self.taken = 0  # VMs
        self.jumped = False  # over a deadline
        self._cancels = self.draw.choice([0, 0, 0, 1, 2])
        self._jumps = self.draw.choice([0, 0, 0, 0, 0, 1, 2])
        self._retries = self.draw.choice([2, 4, 8])
        self.refused: list[str] = []  # wishes to retry a build
        self._seen: dict[str, tuple[int, Build]] = {}
        self._held: dict[Process, Message] = {}

    def log(self, text: str) -> None:
        self.trace.append(f"{self.clock.time - values.NOON:8.1f} {text}")

    def run_all(self) -> Simulation:
        """Run it: the storm, then calm until nothing is left to do."""
        for number in range(self.draw.choice([0, 0, 1])):
            self.plant(f"planted-{number}")
        for _ in range(STORM):
            self.happen()
            if self.is_over():
                break
        self.fuse.calm, self.clock.draw = True, None
        while self.processes.suspended:
            self.resume()
        for _ in range(2000):  # a day for each of several builds, of which one begins after the other
            self.calm()
            if self.is_over():
                return self
        stuck = [(build.id, build.state, build.reason) for build in self.built() if not build.finished]
        self.wrong.append(f"does not come to its end: {stuck}, {[m.attributes for m in self.bus.waiting][:5]}")
        return self

    def happen(self) -> None:
        """Let one thing happen."""
        self.clock.time += self.draw.random()
        moves: list[tuple[float, Callable[[], None]]] = [
            (4, self.resume),
            (8, self.take),
            (4, self.boot),
            (2, self.minute),
            (1, self.queue),
            (1.5, self.begin),
            (0.3, self.take_vm),
            (0.3, self.cancel_one),
            (0.3, self.jump),
            (0.1, self.plant),
        ]
        if any(is_retried(build) for build in self.built()):
            moves += [(2.0, self.retry_one)]
        if any(build.state is State.PUBLISHING for build in self.built()):  # where it matters most
            moves += [(1.0, self.cancel_one), (1.0, self.jump)]
        moves += self.more_moves()
        weights, moved = zip(*moves, strict=True)
        self.draw.choices(moved, weights)[0]()

    def more_moves(self) -> list[tuple[float, Callable[[], None]]]:
        """Return what else may happen, each with its weight."""
        return []

    def calm(self) -> None:
        """Handle all messages, then let a minute pass, or more where builds wait for a day to pass."""
        for request in self.requests:
            if not request.begun and not request.refused:
                self.begin()
        for _ in range(20 if self.weather.stuck else 300):  # what is stuck comes again and again
            self.boot()
            if not self.bus.waiting:
                break
            self.take()
        begun = [build for build in self.built() if not build.finished and build.state is not State.QUEUED]
        cleaning = begun and all(build.state in (State.CLEANING, State.HELD) for build in begun)
        committed = begun and all(build.committed for build in begun)
        long = 7200.0 if cleaning else 900.0 if committed else 60.0
        self.clock.time += long if self.draw.random() < 0.3 else 60.0
        for build in self.built():
            if not build.finished:
                self.tick_one(build)
        self.process("queue", self._turns)
        self.process("sweep", lambda: self._sweep())

    # what may happen

    def begin(self) -> None:
        """Take up a request."""
        waiting = [request for request in self.requests if not request.begun and not request.refused]
        if any(not build.finished for build in self.built()):
            waiting = [request for request in waiting if not request.late]
        if waiting:
            request = self.draw.choice(waiting)
            self.process(f"request {request.number}", lambda: self._begin(request))

    def take(self) -> None:
        """Begin to handle a message that no process handles, perhaps one of its copies."""
        free = list(self.bus.waiting)
        for message in self._held.values():
            if message in free:
                free.remove(message)
        if not free:
            return
        message = self.draw.choice(free)
        if not self.fuse.calm and self.draw.random() < 0.1:
            self.bus.waiting.append(message)
        attributes = message.attributes
        kind = attributes.get("order") or attributes.get("kind")
        process = self.process(f"{kind} of {attributes['build_id']}", lambda: self.deliver(message), message)
        if not process.ended:
            self._held[process] = message

    def resume(self) -> None:
        """Let a suspended process go on, or find that it has died."""
        if self.processes.suspended:
            process = self.draw.choice(self.processes.suspended)
            process.doomed = not self.fuse.calm and self.draw.random() < self.weather.dies * 5
            self.log(f"  on: {process.what}")
            self.processes.resume(process)
            self._after(process, self._held.get(process))

    def minute(self) -> None:
        """Let time pass, and one of the builds look at the clock."""
        self.clock.time += self.draw.choice([1.0, 5.0, 60.0])
        unfinished = [build for build in self.built() if not build.finished]
        if unfinished and self.draw.random() < 0.8:
            self.tick_one(self.draw.choice(unfinished))
        else:
            self.process("sweep", self._sweep)

    def queue(self) -> None:
        """Let those builds begin whose turn has come."""
        if any(build.state is State.QUEUED for build in self.built()):
            self.process("queue", self._turns)

    def jump(self) -> None:
        """Let the deadline of a build pass, in which time all VMs that run say what they have to say."""
        unfinished = [build for build in self.built() if not build.finished]
        if unfinished and self._jumps:
            for name in self.running():
                self.boot_one(name)
            self._jumps -= 1
            self.jumped = True
            build = self.draw.choice(unfinished)
            self.clock.time = max(self.clock.time, build.deadline)
            self.tick_one(build)

    def cancel_one(self) -> None:
        """Let a person want the end of a build."""
        open_ = [build for build in self.built() if not build.finished or self.clock.time < build.kept_until]
        if open_ and self._cancels:
            self._cancels -= 1
            build = self.draw.choice(open_)
            self.log(f"cancel {build.id}, which is {build.state}")
            self.cancel(build.id)

    def retry_one(self) -> None:
        """Let a person retry a build, also one that keeps nothing, from a phase that may be too late."""
        builds = self.built()
        if not builds or not self._retries:
            return
        self._retries -= 1
        kept = [build for build in builds if is_retried(build)]
        build = self.draw.choice(kept if kept and self.draw.random() < 0.8 else builds)
        start = self.draw.choice([None, None, *RETRY_PHASES.values()])
        guest = guest_of(self.draw)
        if self.draw.random() < 0.5:
            self.process(f"retry {build.id} from {start}", lambda: self._retry(build, start, guest))
            return
        message = f"{self.seed}-{self._retries}"
        for _ in range(self.draw.choice([1, 2])):
            what = f"message {message}: retry {build.id} from {start}"
            self.process(what, lambda: self._retry_by_message(build, start, guest, message))

    def take_vm(self) -> None:
        """Let a VM be preempted, or vanish."""
        running = self.running()
        if running:
            name = self.draw.choice(running)
            self.log(f"taken: {name}")
            self.taken += 1
            self.compute.machines[name].stop(self.draw.choice(["preempted", "lost"]))

    def boot(self) -> None:
        """Let the guest of a new machine run."""
        running = self.running()
        if running:
            self.boot_one(self.draw.choice(running))

    def plant(self, name: str = "") -> None:
        """Let another program put an image into the family, with labels that look like ours."""
        name = name or f"foreign-{len(self.foreign)}"
        builds = [build.id for build in self.built()]
        labels = {"goldsmith-build": self.draw.choice([*builds, "another"]), "goldsmith-expires": "1"}
        self.foreign[name] = Image("local", name, f"theirs-{name}", self.clock.time - 86400, FAMILY, labels=labels)
        dict.__setitem__(self.images, name, self.foreign[name])
        self.log(f"plant {name} {labels}")

    # how it is done

    def running(self) -> list[str]:
        """Return the machines that run and whose guests have not run to their end."""
        return [n for n, m in self.compute.machines.items() if m.status == "running" and n not in self.booted]

    def boot_one(self, name: str) -> None:
        """Let the guest of a machine run, until it waits for a larger disk."""
        machine = self.compute.machines[name]
        disk = self.compute.disks[machine.request.boot_disk]
        guest = next(r.guest for r in self.requests if r.build_id == machine.request.job.build_id)
        if guest.run(machine, disk, self._from_guest):
            self.booted.add(name)

    def process(self, what: str, work: Callable[[], None], message: Message | None = None) -> Process:
        """Begin a process."""
        self.log(what)
        process = self.processes.start(what, work, calm=self.fuse.calm)
        self._after(process, message)
        return process

    def tick_one(self, build: Build) -> None:
        self.process(f"tick {build.id}, which is {build.state}", lambda: _pass_time(build.id, self.backend, 1e12))

    def built(self) -> list[Build]:
        """All builds as they are, oldest first. The simulation's own look: no call."""
        return [self._look(request.build_id) for request in self.requests if request.build_id in self.store._documents]

    def _look(self, build_id: str) -> Build:
        document = self.store._documents[build_id]
        if (
            build_id not in self._seen or self._seen[build_id][0] != document.version
        ):  # reading takes longer than all else here
            self._seen[build_id] = document.version, read_build(document.text)
        return self._seen[build_id][1]

    def is_harmless(self, build_id: str) -> bool:
        """Return whether all that has happened to a build only costs time."""
        guest = next(request.guest for request in self.requests if request.build_id == build_id)
        stops = guest.ends_at is not None and guest.ends in ("panicked", "powered-off")
        weather = self.weather
        refused = weather.refused or weather.refuses or weather.full or weather.stuck
        return not (stops or refused or guest.silent or guest.fails_at is not None or self.taken)

    def is_over(self) -> bool:
        """Return whether nothing is left to do."""
        asked = all(request.begun or request.refused for request in self.requests)
        return asked and not self.bus.waiting and not self.processes.suspended and all(b.finished for b in self.built())

    def _turns(self) -> None:
        give_turns(self.backend, math.inf)

    def _sweep(self) -> None:
        sweep_project("local", self.backend)

    def _begin(self, request: Request) -> None:
        plan = make_plan(
            request.spec,
            source=SOURCE,
            context=None,
            request=f"request {request.number}",
            requested=self.backend.clock.now(),
            provisioner_version="1",
        )
        image = replace(plan.image, own_labels=request.number % 3 != 0)
        export = replace(image, export_to=f"out/{request.number}/{image.name}.tar.gz")
        try:
            keep = 1800.0 if request.number % 4 < 2 else 0.0
            plan = replace(plan, image=export if request.number % 2 else image, keep_disk=keep)
            disk = HELD_DISK if request.number % 5 < 3 else 0.0
            plan = replace(plan, retry_for=86_400.0 if request.number % 3 else 0.0, retry_disk_for=disk)
            if request.number % 3 == 1:  # whose scripts are reported, too
                plan = replace(plan, steps=(replace(plan.steps[0], action=ELEMENTS_ACTION), *plan.steps[1:]))
            event = admit(plan, self.backend)
        except InputError as error:
            request.refused = str(error)
            return
        request.build_id = event.build_id
        try:
            Engine(self.store, self.bus, self.clock).request(replace(event, result=f"results/{request.number}.json"))
            give_turns(self.backend, math.inf)
        finally:  # also of one that has died on the way: what asked for it asks again, as long as there is no build
            request.begun = event.build_id in self.store._documents

    def _retry(self, first: Build, start: str | None, guest: Guest) -> None:
        asked = next(request for request in self.requests if request.build_id == first.id)
        number = len(self.requests)
        try:
            event = ask_for_retry(first, start, self.backend)
            if not any(request.build_id == event.build_id for request in self.requests):
                again = Request(number, asked.spec, guest, late=False, begun=True, build_id=event.build_id)
                self.requests.append(again)
            result = f"results/retry-of-{first.id}.json"
            Engine(self.store, self.bus, self.clock).request(replace(event, result=result))
        except (InputError, EnvironmentFault, NameTaken) as error:
            self.refused.append(str(error))

    def _retry_by_message(self, first: Build, start: str | None, guest: Guest, message: str) -> None:
        """Take a message as start_build does; what it rejects is a build, too."""
        asked = next(request for request in self.requests if request.build_id == first.id)
        place = Place(project="local", limits=Limits(retry_for=86_400.0, retry_disk_for=HELD_DISK, max_keep=1800.0))
        for build_id in (retry_id(first), wanted_retry(first.id, first, message, place.bucket).id):
            if not any(request.build_id == build_id for request in self.requests):
                again = Request(len(self.requests), asked.spec, guest, late=False, begun=True, build_id=build_id)
                self.requests.append(again)
        document = {"retry": first.id, **({} if start is None else {"from": start})}
        data = json.dumps(document).encode()
        for build in Intake(self.backend, MemoryObjects(), place).published(data, message):
            if build.plan is None:
                self.refused.append(build.reason)

    def _count_publishing(self) -> None:
        """Note how many builds of one family are in their publication at once, and committed to it."""
        committed = [build for build in self.built() if build.committed and is_publishing(build, self.clock.time)]
        plans = [build.plan for build in committed if build.plan is not None and build.plan.image.family is not None]
        families = Counter((plan.image.project, plan.image.family) for plan in plans)
        self.publishing = max([self.publishing, *families.values()])

    def _count(self) -> None:
        """See that no more builds are at work than may be: one more where one of them may have waited for a maker."""
        over = (State.QUEUED, State.CLEANING, *ANNOUNCED)
        begun = [build for build in self.built() if not build.retry_of]  # a retry has looked, and has not waited
        at_work = [build.plan for build in begun if build.plan is not None and build.state not in over]
        waited = any(plan.rebuild == "changed" or not plan.image.numbered for plan in at_work)
        if self.concurrency is not None and len(at_work) > self.concurrency + waited:
            ids = [plan.build_id for plan in at_work]
            self.wrong.append(f"{ids} are at work at once, of which {self.concurrency} may be")

    def deliver(self, message: Message) -> None:
        self.engine = Engine(self.store, self.bus, self.clock)
        super().deliver(message)

    def _after(self, process: Process, message: Message | None) -> None:
        if not process.ended:
            self.log(f"  suspended: {process.what}")
            return
        self._count()
        self._count_publishing()
        held = self._held.pop(process, message)
        fault = process.fault
        if fault is not None:
            self.log(f"  {type(fault).__name__}: {fault}")
        if isinstance(fault, Died):
            self.deaths += 1
        elif fault is not None and not isinstance(fault, GoldsmithError):
            self.wrong.append(f"{process.what} raised {fault!r}")
            raise fault
        if held is not None and held in self.bus.waiting and (fault is None or isinstance(fault, PoisonMessage)):
            self.bus.waiting.remove(held)


def is_retried(build: Build) -> bool:
    """Return whether a build has ended and keeps, or has kept, what a retry begins with."""
    return build.ended and (build.kept_until > 0 or waits_with_disk(build))


def requests(draw: random.Random) -> list[Request]:
    """Draw what people ask for: builds of the same spec, content, name or family at once."""
    made = []
    rebuild = draw.choice(["always", "changed"])
    named = draw.choice([None, None, None, "the-name"])
    for number in range(draw.choice([1, 2, 2, 3, 4])):
        content = draw.choice(["a", "a", "a", "b"])
        output: dict[str, Any] = {"family": draw.choice([FAMILY, FAMILY, "other"]), "labels": {"team": "infra"}}
        if named:
            output["name"] = named
        if draw.random() < 0.6:
            output["deprecate_old"] = {"keep": draw.choice([0, 1])}
        step = {"name": "greet", "action": "install-packages", "inputs": {"packages": [content]}}
        document = {
            "name": draw.choice(["hello", "hello", "bye"]),
            "source": {"project": "local", "family": "debian-12"},
            "steps": [step],
            "output": output,
            "rebuild": rebuild,
            "build": {"timeout": draw.choice(["15m", "1h", "1h"]), "attempts": 3},
        }
        if draw.random() < 0.3:
            document["verify"] = {"steps": draw.choice([[], [step]])}
        made.append(Request(number, Spec.model_validate(document), guest_of(draw), late=draw.random() < 0.4))
    return made


def guest_of(draw: random.Random) -> Guest:
    """Draw what happens inside the VMs: most of the time, what should."""
    if draw.random() < 0.6:
        return Guest()
    return Guest(
        fails_at=draw.choice([None, None, 0]),
        ends_at=draw.choice([None, 0]),
        ends=draw.choice(["preempted", "lost", "panicked", "powered-off"]),
        silent=draw.random() < 0.1,
        offline=draw.random() < 0.3,
        phase=draw.choice(["build", "verify"]),
    )
