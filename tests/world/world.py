"""A whole backend in memory with an engine, its workers and guests: builds run from request to announcement.

    world = World(guest=Guest(...))
    build = world.run(plan(...))

Every message may be taken in any order (`pick`), twice, or by a process that dies at any call (`burn_at`); a message
whose handler did not end well waits for its next delivery, as on any bus.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from provisioner.protocol import (
    COMPLETED,
    DISK_WANTED,
    ELEMENTS_ACTION,
    EXPORT,
    EXPORT_DISK,
    FAILED,
    HEARTBEAT,
    SCRIPTS,
    SERIAL_MARK,
    STARTED,
    STEP_FAILED,
    STEP_FINISHED,
    STEP_STARTED,
    ExportedObject,
    Job,
    Report,
    ScriptFact,
    Step,
    encode,
    encode_exported,
    encode_script,
    sign,
)
from shared.backend import Backend, ReportTarget
from shared.build.build import Build
from shared.build.damage import readable_builds
from shared.build.events import CancelRequested, Stop
from shared.build.orders import Order
from shared.build.plan import Plan
from shared.engine.engine import Engine
from shared.engine.messages import event_message, read_message, report_message
from shared.errors import Transient
from shared.keys import Keys
from shared.planning.turns import give_turns
from shared.ports import Message
from shared.topology import FINISHED_TOPIC
from shared.upkeep.watch import watch
from shared.workers.carry_out import carry_out
from tests.world import values
from tests.world.fakes import FakeClock, FakeCompute, FakeDisk, FakeMachine, MemoryBus
from tests.world.fuse import Died, Fuse
from tests.world.memory_bucket import MemoryBucket
from tests.world.memory_store import MemoryStore

MASTER = b"m" * 32
TICK = 60.0  # seconds
TICKS = 400  # enough for every deadline here; a build that is not finished by then is stuck


def _no_progress(what: str, done: int, total: int) -> None:
    """Show nothing."""


@dataclass
class Guest:
    """What happens inside the VMs. The defaults: every step is done, and the VM powers itself off."""

    fails_at: int | None = None  # index of the step that fails for good
    ends_at: int | None = None  # index of the step at which the first VM of the build stops, how:
    ends: Stop = "preempted"
    silent: bool = False  # the VM hangs before its provisioner says a word
    attempts: int = 9  # in which it does; those after them are as by default
    offline: bool = False  # nothing it says arrives but on its report port
    stays_on: bool = False  # claims to be done and does not power off
    phase: str = "build"  # the one that the above is about
    machine: str = ""  # and the verifier; "" for all VMs of that phase
    identities: dict[str, tuple[str, ...]] = field(default_factory=dict)  # of VMs, by phase or verifier
    bucket: MemoryBucket | None = None  # that a VM writes an image's files to
    lies: str = ""  # the format of a file of which it says what it has not written

    def run(self, machine: FakeMachine, disk: FakeDisk, publish: Callable[[Message], None]) -> bool:
        """Do the job, or say that it waits for a larger disk: False, as long as it does."""
        job = machine.request.job
        if self._is_concerned(job) and self.silent and job.attempt <= self.attempts:
            return True
        if not machine.waits:
            self._say(machine, disk, publish, kind=STARTED, resumed_at=len(disk.steps_done) or None)
            self._say(machine, disk, publish, kind=HEARTBEAT)
        if job.phase == EXPORT and EXPORT_DISK not in machine.attached:
            if not machine.waits:
                self._say(machine, disk, publish, kind=DISK_WANTED)
            machine.waits = True
            return False
        if job.layout is not None and disk.gigabytes << 30 < (job.layout.disk_size or 0):
            if not machine.waits:
                self._say(machine, disk, publish, kind=DISK_WANTED)
            machine.waits = True
            return False
        self._steps(machine, disk, publish)
        return True

    def _steps(self, machine: FakeMachine, disk: FakeDisk, publish: Callable[[Message], None]) -> None:
        """Do the steps; those that the disk's journal has as done are not done again."""
        job = machine.request.job
        concerned = self._is_concerned(job)
        for index in range(len(job.steps)):
            mark = f"{job.phase}{index}"
            if mark in disk.steps_done:
                continue
            self._say(machine, disk, publish, kind=STEP_STARTED, step=index, tries=1)
            if job.steps[index].action == ELEMENTS_ACTION:
                script = {
                    "step": index,
                    "tries": 1,
                    "output": encode_script(ScriptFact("install.d", "10-a", "a", 0.1, 0)),
                }
                self._say(machine, disk, publish, kind=SCRIPTS, **script)
            if concerned and self.ends_at == index and job.attempt == 1:
                machine.stop(self.ends)
                return
            if concerned and self.fails_at == index:
                failure = {"step": index, "tries": 1, "exit_status": 3, "final": True, "output": "no such file"}
                self._say(machine, disk, publish, kind=STEP_FAILED, **failure)
                last = {**failure, "message": f"step {job.steps[index].name} failed"}
                self._say(machine, disk, publish, kind=FAILED, **last)
                machine.stop()
                return
            disk.steps_done.add(mark)
            done = {
                "step": index,
                "tries": 1,
                "exit_status": 0,
                "seconds": 0.5,
                "message": self._write(job.steps[index]),
            }
            self._say(machine, disk, publish, kind=STEP_FINISHED, **done)
        self._say(machine, disk, publish, kind=COMPLETED, identity=self.identities.get(job.machine or job.phase, ()))
        if not (concerned and self.stays_on):
            machine.stop()

    def _write(self, step: Step) -> str:
        """Write the object of a step that exports a disk, by its session; return the step's note."""
        if step.action != "export-disk":
            return ""
        assert self.bucket is not None
        known, uri = step.inputs["format"], step.inputs["session"].partition("object=")[2]
        data = f"a disk as {known}".encode()
        self.bucket.objects[uri] = data[: -1 if known == self.lies else None]
        sha256, md5 = hashlib.sha256(data).hexdigest(), hashlib.md5(data, usedforsecurity=False).hexdigest()
        return encode_exported(ExportedObject(known, len(data), sha256, md5, 10 << 30))

    def _say(
        self, machine: FakeMachine, disk: FakeDisk, publish: Callable[[Message], None], kind: str, **more: object
    ) -> None:
        job = machine.request.job
        if kind != HEARTBEAT:
            disk.sequence += 1
        number = 0 if kind == HEARTBEAT else disk.sequence
        said = Report(job.build_id, job.attempt, job.phase, number, kind, values.NOON, machine=job.machine)
        message, line = signed(replace(said, **more), job)  # type: ignore[arg-type]  # fields of Report, by name
        machine.serial[3] += line
        if not (self.offline and self._is_concerned(job)):
            publish(message)

    def _is_concerned(self, job: Job) -> bool:
        return job.phase == self.phase and self.machine in ("", job.machine)


def signed(report: Report, job: Job) -> tuple[Message, bytes]:
    """A report as it goes over the bus, and its line on the report port."""
    data = encode(report)
    signature = sign(job.key, data)
    line = f"{SERIAL_MARK} {base64.b64encode(data).decode()} {signature}\n".encode()
    return report_message(report, data, signature), line


class World:
    """One backend; `pick` chooses which of the waiting messages is handled next."""

    def __init__(
        self,
        guest: Guest | None = None,
        pick: Callable[[int], int] = lambda _count: 0,
        concurrency: int | None = None,
    ) -> None:
        self.guest = guest or Guest()
        self.pick = pick
        self.clock = FakeClock()
        self.store = MemoryStore()
        self.bus = MemoryBus()
        self.bucket = self.guest.bucket = MemoryBucket()
        self.compute = FakeCompute(self.clock, self.bucket)
        self.keys = Keys(MASTER)
        self.booted: set[str] = set()
        self.announced: list[Message] = []
        self.dropped: list[str] = []  # why, of events that changed nothing
        self.deaths = 0
        self.calls = 0  # of all adapters, in the last run
        self.backend = Backend(
            compute=self.compute,
            store=self.store,
            bucket=self.bucket,
            bus=self.bus,
            clock=self.clock,
            keys=self.keys,
            reports=ReportTarget("http://169.254.169.254/publish", None),
            logs="logs/{build_id}",
            progress=_no_progress,
            adopted_families=("*",),
            concurrency=concurrency,
        )
        self.engine = Engine(self.store, self.bus, self.clock)
        self._leased: list[Message] = []

    def burn_at(self, call: int | None) -> Fuse:
        """Kill the process at this call of any adapter, counted from now."""
        fuse = Fuse(call)
        self.store.fuse = self.bus.fuse = self.bucket.fuse = self.compute.fuse = fuse
        return fuse

    def build(self, build_id: str = values.BUILD_ID) -> Build:
        return self.store.load(build_id).build

    def run(self, plan: Plan, burn_at: int | None = None) -> Build:
        """Request a build and work until it is finished; a process that dies is started again."""
        fuse = self.burn_at(burn_at)
        request = values.requested(plan=plan)
        while not self.survives(lambda: self.engine.request(request)):
            pass
        self.finish()
        self.calls = fuse.count
        self.burn_at(None)
        return self.build(plan.build_id)

    def finish(self) -> None:
        """Work and let time pass until every build is finished and nothing waits."""
        for _ in range(TICKS):
            if self.survives(self.settle) and self.survives(self.tick) and self._is_idle():
                return
        stuck = [(build.id, build.state, build.outbox) for build in readable_builds(self.store.builds(unfinished=True))]
        raise AssertionError(f"not finished after {TICKS} ticks: {stuck}, {self.bus.waiting}")

    def settle(self) -> None:
        """Handle messages and boot machines until nothing moves but time."""
        passing = 0  # messages in a row that wait for something
        while self.bus.waiting and passing < len(self.bus.waiting):
            passing = 0 if self.handle() else passing + 1
            self.boot()

    def tick(self) -> None:
        """A minute passes: what expire_builds does."""
        self.clock.time += TICK
        give_turns(self.backend, math.inf)
        for build in readable_builds(self.store.builds(unfinished=True)):
            self.engine.tick(build.id, heard=watch(build, self.backend))

    def handle(self) -> bool:
        """Handle one message; False when it has to wait, and goes to the end of the line.

        While it is handled it is leased: only a copy of it may be handled by others, and goes on waiting if they die.
        """
        free = list(self.bus.waiting)
        for message in self._leased:
            if message in free:
                free.remove(message)
        if not free:
            return True
        message = free[self.pick(len(free))]
        self._leased.append(message)
        try:
            self.deliver(message)
        except Transient:
            self._take(message)
            self.bus.waiting.append(message)
            return False
        finally:
            self._leased.remove(message)
        self._take(message)
        return True

    def _take(self, message: Message) -> None:
        if message in self.bus.waiting:  # else another process has handled it at the same time
            self.bus.waiting.remove(message)

    def deliver(self, message: Message) -> None:
        """Do what the subscription of a message's topic does."""
        if message.topic == FINISHED_TOPIC:
            self.announced.append(message)
            return
        read = read_message(message)
        if isinstance(read, Order):
            carry_out(read, self.backend)
        else:
            self.dropped.append(self.engine.take(read, self.keys))

    def boot(self) -> None:
        """Let the guests of new machines run."""
        for name, machine in list(self.compute.machines.items()):
            if name not in self.booted and machine.status == "running":
                disk = self.compute.disks[machine.request.boot_disk]
                if self.guest.run(machine, disk, lambda message: self._from_guest(message)):
                    self.booted.add(name)

    def cancel(self, build_id: str = values.BUILD_ID) -> None:
        self.bus.publish(event_message(cancelled(build_id)))

    def left(self) -> dict[str, list[str]]:
        """What is still there: machines, disks, and objects but logs; images."""
        return {
            "machines": sorted(self.compute.machines),
            "disks": sorted(self.compute.disks),
            "images": sorted(self.compute.all_images),
            "objects": sorted(uri for uri in self.bucket.objects if not uri.startswith("logs/")),
        }

    def _is_idle(self) -> bool:
        fuse, self.store.fuse = self.store.fuse, Fuse()  # our own look, not a call of the process
        unfinished = self.store.builds(unfinished=True)
        self.store.fuse = fuse
        return not unfinished and not self.bus.waiting

    def _from_guest(self, message: Message) -> None:
        self.bus.waiting.append(message)  # not a call of our process: no fuse
        self.bus.published.append(message)

    def survives(self, work: Callable[[], object]) -> bool:
        """Do some work of the process; False when it died of it, and another took its place."""
        try:
            work()
        except Died:
            self.deaths += 1
            self.engine = Engine(self.store, self.bus, self.clock)  # a new process
            return False
        return True


def cancelled(build_id: str = values.BUILD_ID) -> CancelRequested:
    return replace(values.cancel_requested(), build_id=build_id)
