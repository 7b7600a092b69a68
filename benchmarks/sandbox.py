"""A whole build in a sandbox against one by hand, and against a VM: `python -m benchmarks.sandbox`, as root.

By hand is what no way without a VM can do without: a copy of the source's disk, its root mounted through a loop device
in a mount namespace, and the script in a chroot. It has no isolation, no check of the result and no record. All take
turns in one run; compare no times across runs.
"""

import argparse
import shutil
import tempfile
from pathlib import Path

from benchmarks.measure import Candidate, compare, machine, ratio, table
from shared.clock import SystemClock
from shared.disks.disk import Disk
from shared.images.bootstrap.bootstrap import bootstrap_image
from shared.images.catalogue import Catalogue

ROOT = Path(__file__).parents[1]
SANDBOX, VM, BY_HAND = "goldsmith build --engine chroot", "goldsmith build", "by hand"
MOST = 3.0  # times by hand
SCRIPT = '#!/bin/bash\nset -eu\necho "hello from $(uname --machine)" > /var/lib/hello\n'
SPEC = """\
name: hello
source: {project: local, family: debian-12}
context: .
steps:
  - {name: greet, action: run-script, inputs: {script: hello.sh}}
output: {name: hello}
local: {network: false}
"""
LINES = """set -eu
cp --sparse=always --reflink=auto "$0" "$1"
chmod u+w "$1"
mount -o loop,offset="$2" "$1" "$3"
cp "$4" "$3/tmp/hello.sh"
chroot "$3" /bin/bash /tmp/hello.sh
rm "$3/tmp/hello.sh"
umount "$3"
"""


def candidates(home: Path, folder: Path) -> list[Candidate]:
    """Return the sandbox, the VM, and the script by hand."""
    catalogue = Catalogue(home, SystemClock())
    disk = catalogue.disk(bootstrap_image("debian-12", catalogue, home=home).name)
    (folder / "spec").mkdir()
    (folder / "mounted").mkdir()
    (folder / "spec" / "build.yaml").write_text(SPEC)
    script = folder / "spec" / "hello.sh"
    script.write_text(SCRIPT)
    build: list[str | Path] = [ROOT / ".venv/bin/goldsmith", "build", folder / "spec" / "build.yaml"]
    here = {"GOLDSMITH_HOME": str(home)}
    with Disk(disk) as opened:
        offset = opened.root.partition.start

    def afresh() -> None:
        Catalogue(home, SystemClock()).delete("hello")
        (folder / "by-hand.raw").unlink(missing_ok=True)

    lines: list[str | Path] = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child"]
    lines += ["sh", "-c", LINES, disk, folder / "by-hand.raw", str(offset), folder / "mounted", script]
    return [
        Candidate(SANDBOX, [[*build, "--engine", "chroot"]], prepare=afresh, environment=here),
        Candidate(VM, [build], prepare=afresh, environment=here),
        Candidate(BY_HAND, [lines], prepare=afresh),
    ]


def report(home: Path, folder: Path, rounds: int) -> None:
    """Measure all, and print the tables: times, and what they are held to."""
    samples = compare(candidates(home, folder), rounds)
    print(f"one script on a cached base; {rounds} rounds after one that does not count; {machine()}\n")
    print(table(samples, BY_HAND))
    print("\n| required | measured |\n| --- | --- |")
    print(f"| at most {MOST:g} times by hand | {ratio(samples, SANDBOX, BY_HAND):.2f} times |")
    print(f"| faster than a VM | {ratio(samples, SANDBOX, VM):.2f} times |")


def main() -> None:
    """Measure in a home of its own, or in one that has the base already."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, help="a GOLDSMITH_HOME; by default a new one, with a new base")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="goldsmith-bench-"))
    try:
        report(given.home or folder / "home", folder, given.rounds)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
