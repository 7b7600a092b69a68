"""Scripts of elements against the same scripts run by hand: `python -m benchmarks.element_scripts`.

Each script does nothing. Both ways are builds in the chroot engine: a step with `action: elements`, and a step that
runs a loop with each script after chroot(8). What a build costs once is left out: the time of a build with few scripts
is subtracted from that of one with many.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.measure import Candidate, Sample, busy, compare, machine, met, table
from provisioner.elements.hooks import INSTALL
from shared.clock import SystemClock
from shared.images.bootstrap.bootstrap import bootstrap_image
from shared.images.catalogue import Catalogue
from tests.provisioner.elements.element_folders import element

GOLDSMITH = Path(__file__).parents[1] / ".venv/bin/goldsmith"
FEW, MANY = 20, 220
MOST = 0.010  # seconds of one script more than by hand
SCRIPT = "#!/bin/sh\n"
STEPS = {
    "elements": "action: elements, inputs: {elements: [many], path: [elements]}",
    "by hand": "action: run-script, inputs: {script: by-hand.sh}",
}
BY_HAND = f"""#!/bin/sh
set -e
cp -r elements/many/{INSTALL} /opt/scripts
for script in /opt/scripts/*; do chroot / "$script"; done
"""
SPEC = """\
name: scripts
source: {{project: local, family: debian-12}}
context: .
steps:
  - {{name: run, {step}}}
output: {{name: scripts}}
local: {{engine: chroot, network: false}}
"""


def candidate(home: Path, folder: Path, way: str, count: int) -> Candidate:
    """Return a build of so many scripts."""
    files = {f"{INSTALL}/{number:03}-script": SCRIPT for number in range(count)}
    element(folder / "elements", "many", files)
    (folder / "by-hand.sh").write_text(BY_HAND)
    spec = folder / "build.yaml"
    spec.write_text(SPEC.format(step=STEPS[way]))

    def afresh() -> None:
        Catalogue(home, SystemClock()).delete("scripts")

    line: list[str | Path] = [GOLDSMITH, "build", spec, "--no-cache"]
    return Candidate(title(way, count), [line], prepare=afresh, environment={"GOLDSMITH_HOME": str(home)})


def title(way: str, count: int) -> str:
    """Return the name of a candidate."""
    return f"{way}, {count} scripts"


def of_one(samples: Mapping[str, Sequence[Sample]]) -> float:
    """Return the seconds that one script takes more than by hand: the median over the rounds."""

    def each(way: str) -> list[float]:
        pairs = zip(samples[title(way, MANY)], samples[title(way, FEW)], strict=True)
        return [(many.wall - few.wall) / (MANY - FEW) for many, few in pairs]

    return statistics.median(ours - theirs for ours, theirs in zip(each("elements"), each("by hand"), strict=True))


def main() -> None:
    """Compare both, and print what one script costs."""
    parser = argparse.ArgumentParser(prog="benchmarks.element_scripts", description=__doc__)
    parser.add_argument("--home", type=Path, help="a GOLDSMITH_HOME; by default a new one, with a new base")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="goldsmith-bench-") as folder:
        home = given.home or Path(folder, "home")
        catalogue = Catalogue(home, SystemClock())
        if not catalogue.list(family="debian-12"):
            bootstrap_image("debian-12", catalogue, home=home)
        found = []
        for way in STEPS:
            for count in (FEW, MANY):
                place = Path(folder, f"{way.replace(' ', '-')}-{count}")
                place.mkdir()
                found.append(candidate(home, place, way, count))
        samples = compare(found, given.rounds)
    print(f"{given.rounds} rounds after one that does not count; {busy()}; {machine()}\n")
    print(table(samples, title("by hand", MANY)))
    more = of_one(samples)
    print("\n| required | measured | met |\n| --- | ---: | --- |")
    print(f"| one script: at most {MOST * 1e3:g} ms more | {more * 1e3:.1f} ms | {met(more, MOST)} |")


if __name__ == "__main__":
    main()
