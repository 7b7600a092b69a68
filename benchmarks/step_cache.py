"""Builds that begin after the steps of earlier ones, in both engines: `python -m benchmarks.step_cache`, as root.

Ten steps make an image with 1.5 GB of data. Then all of them are there, or only the last one was changed; and all of
ten steps that write a line each are there. The VM is held to a build that only boots and runs one short step. What it
costs to keep the result of a step that writes 300 MB is the difference between two builds of that step alone, one of
which keeps nothing. All take turns in one run.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from benchmarks.measure import Candidate, Sample, busy, compare, machine, met, table
from shared.clock import SystemClock
from shared.images.bootstrap.bootstrap import bootstrap_image
from shared.images.catalogue import Catalogue

ROOT = Path(__file__).parents[1]
GOLDSMITH = ROOT / ".venv/bin/goldsmith"
ENGINES = ("chroot", "vm")
ALL, SHORT, LAST, KEPT, PLAIN = (
    "all cached",
    "short steps, all cached",
    "last step changed",
    "300 MB, kept",
    "300 MB, --no-cache",
)
BOOT = "vm: one short step, --no-cache"
MOST_ALL, MOST_LAST, MOST_OVER, MOST_KEPT, MOST_SHARE = 2.0, 5.0, 3.0, 0.3, 0.05
DATA = "head -c {size} /dev/urandom >/opt/data{number}\n"
LINES = [f"echo {number} >/opt/step{number}\n" for number in range(10)]
TEN = [DATA.format(size=1_100_000_000, number=0), *LINES[1:]]


@dataclass(frozen=True)
class Place:
    """The specs of this run, each of which makes an image of its name."""

    home: Path
    folder: Path

    def candidate(self, title: str, name: str, engine: str, scripts: Sequence[str], *arguments: str) -> Candidate:
        """Return a build; a `{}` in its last script becomes another number each time."""
        context = self.folder / name
        context.mkdir(exist_ok=True)
        steps = [
            f"  - {{name: step{number}, action: run-script, inputs: {{script: {number}.sh}}, reads: []}}\n"
            for number in range(len(scripts))
        ]
        spec = context / "build.yaml"
        spec.write_text(
            f"name: {name}\nsource: {{project: local, family: debian-12}}\ncontext: .\nsteps:\n{''.join(steps)}"
            f"output: {{name: {name}}}\nlocal: {{network: false}}\n"
        )
        numbers = count()

        def afresh() -> None:
            Catalogue(self.home, SystemClock()).delete(name)
            for number, script in enumerate(scripts):
                (context / f"{number}.sh").write_text(script)
            with (context / f"{len(scripts) - 1}.sh").open("a") as last:
                last.write(f"echo {next(numbers) if title.endswith((LAST, KEPT)) else 0} >/opt/last\n")

        line: list[str | Path] = [GOLDSMITH, "build", spec, "--engine", engine, *arguments]
        return Candidate(title, [line], prepare=afresh, environment={"GOLDSMITH_HOME": str(self.home)})


def candidates(place: Place) -> list[Candidate]:
    """Return the builds of both engines."""
    found = []
    big = [DATA.format(size=300_000_000, number=0)]
    for engine in ENGINES:
        found += [
            place.candidate(f"{engine}: {ALL}", f"all-{engine}", engine, TEN),
            place.candidate(f"{engine}: {SHORT}", f"short-{engine}", engine, LINES),
            place.candidate(f"{engine}: {LAST}", f"last-{engine}", engine, TEN),
            place.candidate(f"{engine}: {KEPT}", f"kept-{engine}", engine, big),
            place.candidate(f"{engine}: {PLAIN}", f"plain-{engine}", engine, big, "--no-cache"),
        ]
    return [*found, place.candidate(BOOT, "boot", "vm", ["true\n"], "--no-cache")]


def kept_bytes(home: Path) -> dict[str, float]:
    """Return the space that a layer of 300 MB takes, by engine."""
    line: list[str | Path] = [GOLDSMITH, "cache", "list", "--json"]
    told = subprocess.run(line, env={"GOLDSMITH_HOME": str(home)}, stdout=subprocess.PIPE, check=True).stdout
    layers = [layer for layer in json.loads(told) if layer["build"].startswith("kept-")]
    return {engine: max(each["disk_bytes"] for each in layers if each["engine"] == engine) for engine in ENGINES}


def report(place: Place, rounds: int) -> None:
    """Measure all, and print the tables: times, and what they are held to."""
    place.home.mkdir(parents=True, exist_ok=True)
    catalogue = Catalogue(place.home, SystemClock())
    if not catalogue.list(family="debian-12"):
        bootstrap_image("debian-12", catalogue, home=place.home)
    samples = compare(candidates(place), rounds)
    print(f"ten steps, 1.5 GB; {rounds} rounds after one that fills the cache; {busy()}; {machine()}\n")
    print(table(samples, BOOT))
    print("\n| required | measured | met |\n| --- | --- | --- |")
    for what, name, most in (
        ("short steps, all cached", SHORT, MOST_ALL),
        ("last step changed", LAST, MOST_LAST),
    ):
        took = seconds(samples, f"chroot: {name}")
        print(f"| chroot, {what}: less than {most:g} s | {took:.2f} s | {met(took, most)} |")
    over = difference(samples, f"vm: {LAST}", BOOT)
    boot = f"less than {MOST_OVER:g} s more than the boot and one step"
    print(f"| VM, last step changed: {boot} | {over:.2f} s more | {met(over, MOST_OVER)} |")
    room = kept_bytes(place.home)
    for engine in ENGINES:
        more = difference(samples, f"{engine}: {KEPT}", f"{engine}: {PLAIN}")
        most = max(MOST_KEPT, MOST_SHARE * seconds(samples, f"{engine}: {PLAIN}"))
        print(
            f"| {engine}, a layer of 300 MB: at most {most:.2f} s more than without | {more:.2f} s more, "
            f"{room[engine] / 1e6:.0f} MB of disk | {met(more, most)} |"
        )


def seconds(samples: Mapping[str, Sequence[Sample]], name: str) -> float:
    """Return the median time of a build."""
    return statistics.median(sample.wall for sample in samples[name])


def difference(samples: Mapping[str, Sequence[Sample]], name: str, base: str) -> float:
    """Return how many seconds more a build takes than another one: the median of the differences of each round."""
    return statistics.median(a.wall - b.wall for a, b in zip(samples[name], samples[base], strict=True))


def main() -> None:
    """Measure in a home of its own, or in one that has the base already."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, help="a GOLDSMITH_HOME; by default a new one, with a new base")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="goldsmith-bench-"))
    try:
        report(Place(given.home or folder / "home", folder), given.rounds)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
