"""How long commands take that do next to nothing, against Python itself: `python -m benchmarks.start_up`.

All take turns in one run; the multiples of `python -c pass` are what can be compared between machines.
"""

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from benchmarks.measure import Candidate, compare, machine, median, table
from shared.build.build import Build, Outcome, State, StepRecord
from shared.build.events import BuildRequested
from shared.build.plan import ImagePlan, MachinePlan, Plan, SourceImage
from shared.local.database import Database
from shared.local.store import LocalStore

PYTHON, TYPER, HELP, LIST, DOCUMENTS = "python -c pass", "import typer", "--help", "builds list", "builds list --json"
BUILDS = 200
LIMITS = {HELP: 0.25, LIST: 0.35}  # seconds, on a machine that does nothing else
REQUESTED = 1_795_176_000.0  # Unix seconds


def candidates(home: Path) -> list[Candidate]:
    """Python alone, with the command line's library alone, and the commands, with the builds in `home`."""
    goldsmith = [sys.executable, "-m", "goldsmith"]
    environment = {"GOLDSMITH_HOME": str(home)}
    return [
        Candidate(PYTHON, [[sys.executable, "-c", "pass"]]),
        Candidate(TYPER, [[sys.executable, "-c", "import typer"]]),
        *(Candidate(name, [[*goldsmith, *name.split()]], environment=environment) for name in (HELP, LIST, DOCUMENTS)),
    ]


def fill(home: Path) -> None:
    """Write finished builds of five steps each."""
    with Database(home / "state.db") as database:
        store = LocalStore(database)
        for number in range(BUILDS):
            build = finished(f"hello-{number:012x}", REQUESTED + number)
            assert build.plan is not None, "finished() gives one"
            event = BuildRequested(build_id=build.id, event_id="request", time=build.created, plan=build.plan)
            store.create(build, event)


def finished(build_id: str, created: float) -> Build:
    """Return a build as a run leaves it."""
    plan = Plan(
        build_id=build_id,
        request="0" * 64,
        name="hello",
        requested=created,
        source=SourceImage("local", "debian-12-20261101", "sha256-0001", family="debian-12"),
        content_digest="1" * 64,
        image=ImagePlan("local", build_id, family="hello"),
        machine=MachinePlan("local"),
        steps=(),
    )
    build = Build(build_id, "hello", plan.request, plan, State.FINISHED, created, created + 60, created, created)
    steps = tuple(StepRecord(f"step-{number}", "run-script", "done", 1, 0, 1.5) for number in range(5))
    return replace(build, outcome=Outcome.SUCCEEDED, steps=steps)


def report(rounds: int) -> None:
    """Measure all, and print the table and what it is held to."""
    with tempfile.TemporaryDirectory() as folder:
        fill(Path(folder))
        samples = compare(candidates(Path(folder)), rounds)
    print(f"{BUILDS} builds; {rounds} rounds; {machine()}\n")
    print(table(samples, PYTHON))
    print("\n| required, on a quiet machine | wall | CPU |\n| --- | ---: | ---: |")
    for name, limit in LIMITS.items():
        middle = median(samples[name])
        print(f"| {name} under {limit} s | {middle.wall:.2f} s | {middle.user + middle.system:.2f} s |")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.start_up", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    report(parser.parse_args().rounds)


if __name__ == "__main__":
    main()
