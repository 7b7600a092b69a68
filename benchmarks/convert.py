"""How long `goldsmith convert` takes, start-up and all, beside Python and pydantic: `python -m benchmarks.convert`.

All take turns in one run; the multiples of `python -c pass` are what can be compared between machines.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import Candidate, compare, machine, median, table

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "cos-customizer" / "cloudbuild.yaml"
PYTHON, PYDANTIC, SMALL, LARGE = "python -c pass", "import pydantic", "the example", "100 steps"
LIMIT = 0.3  # seconds for the example, on a machine that does nothing else
BUILDS, SCRIPTS = 10, 8  # of the large workflow: with start and finish as many steps as Cloud Build takes


def large_workflow() -> str:
    """Return a workflow of as many steps as Cloud Build takes, with values that refer to others."""
    image = "gcr.io/cos-cloud/cos-customizer"
    steps = []
    for build in range(BUILDS):
        source = [
            "-image-project=cos-cloud",
            "-image-family=cos-stable",
            "-gcs-bucket=${PROJECT_ID}_b",
            "-gcs-workdir=$_W",
        ]
        steps.append(["start-image-build", *source])
        steps += [["run-script", f"-script=s{n}.sh", f"-env=NUMBER={n},RELEASE=$_RELEASE"] for n in range(SCRIPTS)]
        output = ["-project=$PROJECT_ID", "-zone=us-west1-b", f"-image-name=image-{build}-$_RELEASE", "-labels=a=1,b=2"]
        steps.append(["finish-image-build", *output])
    substitutions = {"_W": "work", "_RELEASE": "12"}
    return json.dumps({"steps": [{"name": image, "args": args} for args in steps], "substitutions": substitutions})


def report(rounds: int) -> None:
    """Measure, and print the table and what it is held to."""
    goldsmith = [sys.executable, "-m", "goldsmith", "convert"]
    with tempfile.TemporaryDirectory() as folder:
        large = Path(folder) / "cloudbuild.json"
        large.write_text(large_workflow(), encoding="utf-8")
        samples = compare(
            [
                Candidate(PYTHON, [[sys.executable, "-c", "pass"]]),
                Candidate(PYDANTIC, [[sys.executable, "-c", "from pydantic import BaseModel"]]),
                Candidate(SMALL, [[*goldsmith, EXAMPLE]]),
                Candidate(LARGE, [[*goldsmith, large]]),
            ],
            rounds,
        )
    print(f"{rounds} rounds; {machine()}\n")
    print(table(samples, PYTHON))
    middle = median(samples[SMALL])
    print("\n| required, on a quiet machine | wall | CPU |\n| --- | ---: | ---: |")
    print(f"| {SMALL} under {LIMIT} s | {middle.wall:.2f} s | {middle.user + middle.system:.2f} s |")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.convert", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    report(parser.parse_args().rounds)


if __name__ == "__main__":
    main()
