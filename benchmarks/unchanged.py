"""What a build costs that has nothing to do: `python -m benchmarks.unchanged`.

On one machine: `goldsmith build` of a spec with `rebuild: changed` whose image is there, and `goldsmith triggers run`
when nothing is due. On Google Cloud: what start_build takes for such a request, and expire_builds for 500 specs with
triggers, over a world in memory; Google's answers come on top.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from benchmarks.measure import LIMITS_HEAD, Candidate, compare, machine, median, met, table
from shared.build.build import ImageRecord, Outcome, State
from shared.build.trigger import MOST_TRIGGERS
from shared.clock import SystemClock
from shared.images.bootstrap.bootstrap import bootstrap_image
from shared.images.catalogue import Catalogue
from shared.ports import Image
from shared.upkeep.triggers import pull_triggers
from tests.world.intake import PLAIN, SOURCE, Desk, planned

GOLDSMITH = [sys.executable, "-m", "goldsmith"]
PYTHON, BUILD, TRIGGERS = "python -c pass", "build, unchanged", "triggers run, nothing due"
MOST_COMMAND, MOST_FUNCTION = 2.0, 1.0  # seconds
SPEC = """\
name: unchanged
source: {project: local, family: debian-12}
context: context
steps:
  - {name: one, action: run-script, inputs: {script: one.sh}}
output: {family: unchanged}
rebuild: changed
triggers: {source_changed: true, every: 366d}
local: {engine: chroot, network: false}
"""


def candidates(home: Path, folder: Path) -> list[Candidate]:
    """Make the image, and return the commands that find it."""
    spec, environment = folder / "unchanged.yaml", {"GOLDSMITH_HOME": str(home)}
    (folder / "context").mkdir()
    (folder / "context" / "one.sh").write_text("echo one >/etc/one\n")
    spec.write_text(SPEC)
    for words in (["triggers", "add", spec], ["triggers", "run"]):
        subprocess.run([*GOLDSMITH, *words], env=environment, check=True, capture_output=True)
    return [
        Candidate(PYTHON, [[sys.executable, "-c", "pass"]]),
        Candidate(BUILD, [[*GOLDSMITH, "build", spec]], environment=environment),
        Candidate(TRIGGERS, [[*GOLDSMITH, "triggers", "run"]], environment=environment),
    ]


def seconds_of(work: Callable[[], object], times: int) -> float:
    """Return the median of some runs."""
    found = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return statistics.median(found)


def of_start_build(times: int) -> float:
    """Return what start_build takes for a published request whose image is there, from its text to the build."""
    desk = Desk()
    spec = json.loads(json.dumps({"name": "hello", "source": {"project": "my-images", "family": "debian-12"}}))
    spec = {**spec, "steps": [], "rebuild": "changed", "output": {"family": "hello"}}
    made = desk.publish("first", spec=spec)
    image = planned(made).image
    there = Image("my-project", image.name, "77", desk.world.clock.time, family="hello", labels=image.labels)
    desk.world.compute.all_images[image.name] = there
    stored = desk.world.store.load(made.id)
    record = ImageRecord("my-project", image.name, "77")
    ended = replace(stored.build, state=State.FINISHED, outcome=Outcome.SUCCEEDED, image=record)
    document = replace(desk.world.store.image("my-project", image.name), id="77", state="published")  # type: ignore[type-var]
    desk.world.store.save(ended, stored.version, None, document)
    numbers = iter(range(10**6))

    def ask() -> None:
        build = desk.publish(f"again-{next(numbers)}", spec=spec)
        assert build.outcome is Outcome.UNCHANGED, build.reason

    return seconds_of(ask, times)


def of_expire_builds(times: int) -> float:
    """Return what a minute takes in which none of the most specs with triggers that there may be is due."""
    desk = Desk()
    for number in range(MOST_TRIGGERS):
        text = PLAIN.replace("hello", f"hello-{number}") + "triggers: {source_changed: true, every: 7d}\n"
        desk.upload(text, f"specs/hello-{number}.yaml")
    assert SOURCE.id == "4711"
    backend = desk.world.backend
    assert pull_triggers(backend, 1e12) == []
    return seconds_of(lambda: pull_triggers(backend, 1e12), times)


def main() -> int:
    """Print the tables; return 1 where a limit is not kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, help="a GOLDSMITH_HOME; by default a new one, with a new base")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="goldsmith-bench-") as name:
        folder = Path(name)
        home = (options.home or folder / "home").absolute()
        home.mkdir(parents=True, exist_ok=True)
        catalogue = Catalogue(home, SystemClock())
        if not catalogue.list(family="debian-12"):
            bootstrap_image("debian-12", catalogue, home=home)
        samples = compare(candidates(home, folder), options.rounds)
        forget = [*GOLDSMITH, "triggers", "remove", str(folder / "unchanged.yaml")]
        subprocess.run(forget, env={"GOLDSMITH_HOME": str(home)}, check=True, capture_output=True)
    print(machine())
    print(table(samples, PYTHON))
    print(LIMITS_HEAD)
    build = median(samples[BUILD])
    asked, minute = of_start_build(21), of_expire_builds(7)
    rows = [
        (f"{BUILD}, under {MOST_COMMAND:.0f} s", build.wall, MOST_COMMAND),
        (f"start_build under {MOST_FUNCTION:.0f} s", asked, MOST_FUNCTION),
        (f"expire_builds, {MOST_TRIGGERS} specs, under {MOST_FUNCTION:.0f} s", minute, MOST_FUNCTION),
    ]
    for what, took, most in rows:
        cpu = build.user + build.system if what.startswith(BUILD) else took
        print(f"| {what} | {took * 1000:.0f} ms | {cpu * 1000:.0f} ms | {met(took, most)} |")
    return 0 if all(took <= most for _what, took, most in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
