"""`goldsmith elements tree` of some 30 elements: `python -m benchmarks.elements_tree`.

The elements are diskimage-builder's own, as `make setup` unpacks them. Its part that finds out which elements belong to
an image, and reads no hook, takes turns with ours.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from benchmarks.measure import Candidate, busy, compare, machine, median, met, table
from tests.provisioner.elements.element_folders import ORIGINAL, PACKAGE

ROOT = Path(__file__).parents[1]
MOST = 0.3  # seconds
OURS, THEIRS = "goldsmith elements tree", "diskimage-builder: element_dependencies"
NAMES = (
    *("debian-minimal", "vm", "block-device-gpt", "openssh-server", "runtime-ssh-host-keys", "growroot", "devuser"),
    *("cloud-init-datasources", "local-config", "pip-and-virtualenv", "simple-init", "dynamic-login", "fail2ban"),
    *("stable-interface-names", "enable-serial-console", "dkms", "journal-to-console", "apt-preferences"),
)


def main() -> None:
    """Compare both, and print what took how long."""
    parser = argparse.ArgumentParser(prog="benchmarks.elements_tree", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    arguments = parser.parse_args()
    command = [
        sys.executable,
        "-m",
        "goldsmith",
        "elements",
        "tree",
        "--elements",
        ",".join(NAMES),
        "--path",
        str(ORIGINAL),
    ]
    found = subprocess.run([*command, "--json"], capture_output=True, check=True)
    count = len(json.loads(found.stdout)["elements"])
    environment = {"PYTHONPATH": str(PACKAGE), "ELEMENTS_PATH": str(ORIGINAL)}
    theirs = [sys.executable, "-m", "diskimage_builder.element_dependencies", *NAMES]
    samples = compare(
        [
            Candidate(OURS, [command]),
            Candidate(THEIRS, [theirs], environment=environment),
        ],
        rounds=arguments.rounds,
    )
    print(f"{busy()}; {machine()}", "", table(samples, THEIRS), "", sep="\n")
    took = median(samples[OURS]).wall
    print("| required | measured | met |\n| --- | ---: | --- |")
    print(f"| {count} elements: at most {MOST:g} s | {took:.2f} s | {met(took, MOST)} |")


if __name__ == "__main__":
    main()
