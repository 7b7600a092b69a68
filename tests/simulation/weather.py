"""What may happen at any call of an adapter, before or after its effect: the process stands still or dies, it fails.

A part of the seeds has each kind of mishap, so that the rarer ones are not drowned by the others.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from shared.errors import NoSpace, Permanent, Transient
from tests.simulation.processes import Processes
from tests.world.fakes import FakeClock
from tests.world.fuse import Died, Fuse

AT_ONCE = 5  # processes


@dataclass
class Weather:
    """How likely each mishap is, at one call."""

    suspends: float
    dies: float
    fails: float
    full: float  # no space
    refuses: float  # 403, of Compute Engine's calls
    refused: tuple[str, ...]  # methods that are refused whenever they are called
    stuck: tuple[str, ...]  # methods that fail for a passing reason, which never passes

    @classmethod
    def draw(cls, draw: random.Random) -> Weather:
        """Draw the weather of one run."""
        refusable = ("deprecate_image", "set_family", "label_image", "create_image", "create_machine", "packages")
        return cls(
            suspends=draw.choice([0.02, 0.1, 0.3]),
            dies=draw.choice([0.0, 0.0, 0.005, 0.02]),
            fails=draw.choice([0.0, 0.0, 0.01, 0.05]),
            full=draw.choice([0.0, 0.0, 0.0, 0.002]),
            refuses=draw.choice([0.0, 0.0, 0.0, 0.01]),
            refused=tuple(name for name in refusable if draw.random() < 0.04),
            stuck=("set_family",) if draw.random() < 0.04 else (),
        )


class WeatherFuse(Fuse):
    """Brings the weather to every call, until it is calm. What the simulation itself looks at is no call."""

    def __init__(self, draw: random.Random, weather: Weather, processes: Processes) -> None:
        super().__init__()
        self.calm = False
        self._draw = draw
        self._weather = weather
        self._processes = processes

    def touch(self) -> None:
        if self._processes.current is None:
            return
        self.count += 1
        if self.calm:
            return
        if len(self._processes.suspended) < AT_ONCE and self._draw.random() < self._weather.suspends:
            self._processes.suspend()
        drawn = self._draw.random()
        for likely, fault in (
            (self._weather.dies, Died),
            (self._weather.fails, Transient),
            (self._weather.full, NoSpace),
        ):
            if drawn < likely:
                raise fault(f"the weather, at call {self.count}")
            drawn -= likely


class Refusals(dict[str, Exception]):
    """Faults of the fake Compute, by method: those that the weather refuses, and those that never pass."""

    def __init__(self, draw: random.Random, weather: Weather, fuse: WeatherFuse) -> None:
        super().__init__()
        self._draw = draw
        self._weather = weather
        self._fuse = fuse

    def __contains__(self, method: object) -> bool:
        if method in self._weather.stuck:
            return True
        if self._fuse.calm:
            return method == "deprecate_image" and method in self._weather.refused
        return method in self._weather.refused or self._draw.random() < self._weather.refuses

    def pop(self, method: str, *_default: object) -> Exception:
        if method in self._weather.stuck:
            return Transient(f"{method}: 503, the backend is unavailable")
        return Permanent(f"{method} is not permitted; grant the role that has it")


class SimulatedClock(FakeClock):
    """A pause lets other processes run."""

    def __init__(self, processes: Processes) -> None:
        super().__init__()
        self._processes = processes
        self.draw: random.Random | None = None

    def pause(self, most: float) -> None:
        self.time += most
        if self.draw is not None and self._processes.current is not None and self.draw.random() < 0.2:
            self._processes.suspend()
