"""Runs many seeds of the simulation: python -m tests.simulation.soak [SEEDS [FIRST]].

Exit status 1 when one has failed; it says which, and what was wrong.
"""

from __future__ import annotations

import logging
import sys
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

from tests.simulation.invariants import run

SEEDS = 20_000
PROCESSES = 2
AT_ONCE = 50  # seeds of one task
SHOWN = 100  # failing seeds, at most
LINE = 400  # characters of what is wrong with one


@dataclass
class Tally:
    """What some seeds came to."""

    runs: int = 0
    calls: int = 0
    deaths: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    failures: dict[int, list[str]] = field(default_factory=dict)

    def add(self, other: Tally) -> None:
        """Add what others came to."""
        self.runs += other.runs
        self.calls += other.calls
        self.deaths += other.deaths
        self.outcomes += other.outcomes
        self.failures |= other.failures


def tally(seeds: Iterable[int]) -> Tally:
    """Run seeds, whose faults are meant and would be logged without end."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        return _tally(seeds)
    finally:
        logging.disable(before)


def _tally(seeds: Iterable[int]) -> Tally:
    found = Tally()
    for seed in seeds:
        simulation, wrong = run(seed)
        found.runs += 1
        found.calls += simulation.fuse.count
        found.deaths += simulation.deaths
        found.outcomes.update(str(build.outcome) for build in simulation.built())
        found.outcomes.update("refused" for request in simulation.requests if request.refused)
        if wrong:
            found.failures[seed] = wrong
    return found


def soak(seeds: int, first: int) -> Tally:
    """Run seeds in several processes, and tell how far it is."""
    total = Tally()
    starts = range(first, first + seeds, AT_ONCE)
    with ProcessPoolExecutor(PROCESSES) as pool:
        for found in pool.map(tally, (range(start, min(start + AT_ONCE, first + seeds)) for start in starts)):
            total.add(found)
            for seed, wrong in found.failures.items():
                say(f"seed {seed}: {'; '.join(wrong)[:LINE]}")
            if total.runs % 1000 == 0:
                say(f"{total.runs} seeds, {len(total.failures)} failing")
    return total


def say(text: str) -> None:
    """Print a line for people."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main(arguments: list[str]) -> int:
    """Run as many seeds as the command line says."""
    seeds, first = [*map(int, arguments), *(SEEDS, 0)[len(arguments) :]]
    began = time.monotonic()
    total = soak(seeds, first)
    say(f"{total.runs} seeds in {time.monotonic() - began:.0f} s: {total.calls} calls, {total.deaths} deaths")
    say(", ".join(f"{name} {count}" for name, count in sorted(total.outcomes.items())))
    say(f"failing seeds: {list(total.failures)[:SHOWN] or 'none'}")
    return 1 if total.failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
