"""What the statement about an image's origin, and its signature, add to a build: `python -m benchmarks.signing`.

The same build in a sandbox, as a command: as it is, and with neither the digest of the image's disk nor a key that
signs, which no option can leave out. What is left of the statement then is a few kilobytes of JSON.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.measure import LIMITS_HEAD, Candidate, Sample, busy, compare, machine, met, table
from shared.clock import SystemClock
from shared.images.bootstrap.bootstrap import bootstrap_image
from shared.images.catalogue import Catalogue

MOST = 0.3  # seconds
SIGNED, BARE = "signed", "without digest and signature"
SPEC = """\
name: signed
source: {project: local, family: debian-12}
context: context
steps:
  - {name: one, action: run-script, inputs: {script: one.sh}}
output: {name: signed}
local: {engine: chroot, network: false}
"""
BARE_LINES = """\
import sys

from shared.local import compute
from shared.runtime import one_machine


class NoDigest:
    def __init__(self, disk):
        pass

    def result(self):
        return None


compute.BegunDigest = NoDigest
one_machine.SigningKey = lambda home: None
"""
MAIN_LINES = "from goldsmith.__main__ import main\n\nsys.exit(main())\n"


def candidate(name: str, lines: str, spec: Path, home: Path, afresh: Callable[[], None]) -> Candidate:
    """Return the build of the spec, by a process that begins with these lines."""
    command: list[str | Path] = [sys.executable, "-c", lines + MAIN_LINES, "build", spec]
    return Candidate(name, [command], prepare=afresh, environment={"GOLDSMITH_HOME": str(home)})


def added(samples: dict[str, list[Sample]], seconds: Callable[[Sample], float]) -> float:
    """Return the median of the differences of each round's pair."""
    pairs = zip(samples[SIGNED], samples[BARE], strict=True)
    return statistics.median(seconds(signed) - seconds(bare) for signed, bare in pairs)


def main() -> int:
    """Print the tables; return 1 where the limit is not kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, help="a GOLDSMITH_HOME; by default a new one, with a new base")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="goldsmith-bench-") as name:
        folder = Path(name)
        home = (options.home or folder / "home").absolute()
        home.mkdir(parents=True, exist_ok=True)
        catalogue = Catalogue(home, SystemClock())
        if not catalogue.list(family="debian-12"):
            bootstrap_image("debian-12", catalogue, home=home)
        (folder / "context").mkdir()
        (folder / "context" / "one.sh").write_text("echo one >/etc/one\n")
        spec = folder / "signed.yaml"
        spec.write_text(SPEC)

        def afresh() -> None:
            catalogue.delete("signed")

        both = [
            candidate(SIGNED, "import sys\n", spec, home, afresh),
            candidate(BARE, BARE_LINES, spec, home, afresh),
        ]
        samples = compare(both, options.rounds)
        afresh()
    print(f"{machine()}, {busy()}\n")
    print(table(samples, BARE))
    print(LIMITS_HEAD)
    wall, cpu = added(samples, lambda each: each.wall), added(samples, lambda each: each.user + each.system)
    print(f"| what signing adds, under {MOST} s | {wall:.2f} s | {cpu:.2f} s | {met(wall, MOST)} |")
    return 0 if wall <= MOST else 1


if __name__ == "__main__":
    sys.exit(main())
