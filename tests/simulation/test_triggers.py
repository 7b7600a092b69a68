"""Triggers in any weather: uploads, new source images, ticks at once, messages twice and late, dying processes."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from shared.build.build import Build, Outcome, State
from shared.build.damage import readable_builds
from shared.build.identity import request_digest
from shared.build.trigger import Trigger, TriggeredBuild, read_trigger_of, request_of, trigger_id
from shared.errors import Passing
from shared.ports import Message
from shared.topology import REQUESTS_TOPIC
from shared.upkeep.triggers import pull_triggers
from tests.simulation.processes import Process, Processes
from tests.simulation.weather import SimulatedClock, Weather, WeatherFuse
from tests.world import values
from tests.world.fuse import Died
from tests.world.intake import BUCKET, PLAIN, SOURCE, Desk

DAY = 86_400.0
NAME = "specs/hello.yaml"
URI = f"gs://{BUCKET}/{NAME}"
STORM = 150  # things that happen


class TriggerStorm(Desk):
    """One run of a seed."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.draw = random.Random(seed)
        self.processes = Processes()
        drawn = replace(Weather.draw(self.draw), full=0.0)
        self.fuse = WeatherFuse(self.draw, drawn, self.processes)
        self.clock = SimulatedClock(self.processes)
        self.clock.draw, self.clock.time = self.draw, values.NOON
        self.world.store.fuse = self.world.bus.fuse = self.world.compute.fuse = self.fuse
        self.world.backend = replace(self.world.backend, clock=self.clock)
        self.intake._backend = self.world.backend
        self.intake._engine._clock = self.clock
        self.sources = [SOURCE.id]
        self.uploads: list[str] = []  # generations that have not been taken
        self.requests: list[Message] = []  # that have not been taken
        self.wanted: dict[str, TriggeredBuild] = {}  # all that was ever written down, by the text that asks for it
        self.of_upload: dict[str, str] = {}  # the generation that had been accepted then
        self._held: dict[Process, str | Message] = {}

    def run(self) -> None:
        """Bring the storm, then the calm."""
        self.upload_one()
        moves = (self.minute, self.minute, self.resume, self.resume, self.take, self.take, self.notify)
        rare = (self.upload_one, self.new_image, self.period, self.finish, self.finish)
        for _ in range(STORM):
            self.draw.choice(moves if self.draw.random() < 0.9 else rare)()
        self.fuse.calm, self.clock.draw = True, None
        while self.processes.suspended:
            self.resume()
        for _ in range(3):
            while self.uploads:
                self.notify()
            self.minute()
            while self.requests:
                self.take()

    def minute(self) -> None:
        """Let a minute pass, and one more tick begin."""
        self.clock.time += 60
        self._start("tick", lambda: self._tick())

    def resume(self) -> None:
        """Let a process go on, or find that it has died."""
        if self.processes.suspended:
            process = self.draw.choice(self.processes.suspended)
            process.doomed = not self.fuse.calm and self.draw.random() < 0.1
            self.processes.resume(process)
            self._after(process)

    def take(self) -> None:
        """Begin to take a request, perhaps one of its copies."""
        if self.requests:
            message = self.draw.choice(self.requests)
            if self.fuse.calm or self.draw.random() < 0.8:
                self.requests.remove(message)
            self._start("request", lambda: self._take(message), message)

    def notify(self) -> None:
        """Begin to take an upload, perhaps once more."""
        if self.uploads:
            generation = self.draw.choice(self.uploads)
            if self.fuse.calm or self.draw.random() < 0.8:
                self.uploads.remove(generation)
            self._start("upload", lambda: self._upload(generation), generation)

    def upload_one(self) -> None:
        """Upload the spec, changed or not."""
        text = f"{PLAIN}triggers: {{source_changed: true, every: 7d}}\n"
        self.uploads.append(self.put(NAME, text + f"description: the {self.draw.randrange(3)}th\n"))

    def new_image(self) -> None:
        """Put a newer image into the source family."""
        image = replace(SOURCE, name=f"debian-{len(self.sources)}", id=f"{4711 + len(self.sources)}")
        self.world.compute.all_images[image.name] = replace(image, created=self.clock.time + 1)
        self.sources.append(image.id)

    def period(self) -> None:
        """Let a period pass, or two."""
        self.clock.time += self.draw.choice([7 * DAY, 15 * DAY])

    def finish(self) -> None:
        """Let all builds come to their end, whatever that is."""
        store = self.world.store
        for build in self.built():
            if not build.finished:
                outcome = self.draw.choice([Outcome.SUCCEEDED, Outcome.FAILED, Outcome.UNCHANGED])
                ended = replace(build, state=State.FINISHED, outcome=outcome)
                store.save(ended, store.load(build.id).version)

    def _tick(self) -> None:
        pull_triggers(self.world.backend, self.clock.time + 1e9)

    def _take(self, message: Message) -> None:
        self.intake.published(message.data, "any")

    def _upload(self, generation: str) -> None:
        self.intake.uploaded(NAME, generation)

    def _start(self, what: str, work: object, brings: str | Message = "") -> None:
        assert callable(work)
        process = self.processes.start(what, work, calm=self.fuse.calm)
        if brings:
            self._held[process] = brings
        self._after(process)

    def _after(self, process: Process) -> None:
        """Look what is written down, what was published, and what has to be delivered again."""
        text = self.world.store.trigger_texts.get(trigger_id(URI))
        if text is not None:
            trigger = read_trigger_of(trigger_id(URI), text)
            self.wanted.update({request_of(trigger, each): each for each in trigger.asked})
            for each in trigger.asked:
                self.of_upload.setdefault(each.id, trigger.generation)
        published = self.world.bus.published
        self.requests += [message for message in published if message.topic == REQUESTS_TOPIC]
        published.clear()
        if not process.ended:
            return
        brings = self._held.pop(process, None)
        if process.fault is None:
            return
        assert isinstance(process.fault, Died | Passing), process.fault
        if isinstance(brings, Message):
            self.requests.append(brings)
        elif brings:
            self.uploads.append(brings)

    def trigger(self) -> Trigger:
        """The trigger as it is in the end."""
        found = self.world.store.trigger(trigger_id(URI))
        assert found is not None
        return found

    def built(self) -> list[Build]:
        """All builds."""
        return list(readable_builds(self.world.store.builds()))


@pytest.mark.parametrize("seed", range(40))
def test_each_cause_is_built_once(seed: int) -> None:
    storm = TriggerStorm(seed)
    storm.run()
    asked = {request_digest(text): each for text, each in storm.wanted.items()}
    triggered = [asked[build.request] for build in storm.built() if build.request in asked]
    causes = [(each.kind, each.cause, storm.of_upload[each.id]) for each in triggered]
    assert len(causes) == len(set(causes)), causes
    assert len({each.number for each in asked.values()}) == len(asked), "one number stands for one build"
    trigger = storm.trigger()
    assert trigger.seen_source == storm.sources[-1]
    assert trigger.period == int((storm.clock.time - trigger.since) // trigger.every)
    known = {build.id for build in storm.built()}
    assert {each.id for each in trigger.asked} <= known, "what is written down has begun"
    planned = [build.plan for build in storm.built() if build.plan is not None]
    assert storm.sources[-1] in {plan.source.id for plan in planned}, "the newest source image is built"


def test_the_storms_are_storms() -> None:
    """Processes die, builds of both kinds are asked for, and several ticks are at work at once."""
    storms = [TriggerStorm(seed) for seed in range(8)]
    for storm in storms:
        storm.run()
    kinds = {each.kind for storm in storms for each in storm.wanted.values()}
    assert kinds == {"every", "source"}
    assert sum(len(storm.wanted) for storm in storms) > 20
