"""How often three values change files on their way: `python -m benchmarks.trips`.

A trip is followed call by call: each time that the running function lies in another file of ours than the one before,
the value has changed files. Calls of libraries and of tests are not counted. The figures depend on the code alone.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from benchmarks.example_builds import FAMILY, SOURCE, plan, report, request
from provisioner.protocol import STARTED
from shared.build import resources
from shared.build.plan import SourceImage
from shared.clock import SystemClock
from shared.engine.messages import read_report_message
from shared.host.build_folder import BuildFolder
from shared.images.catalogue import Catalogue
from shared.local.compute import LocalCompute
from shared.machines.machines import Machines
from shared.planning.plan import make_plan
from shared.planning.requests import admit
from shared.ports import ImageRequest
from shared.spec.read import check_file, parse_file
from tests.shared.disks.small_disks import os_tree, rooted
from tests.world.world import World

ROOT = Path(__file__).resolve().parents[1]
OURS = tuple(str(ROOT / folder) + "/" for folder in ("shared", "provisioner", "goldsmith", "functions"))
SPEC = f"""
name: hello
source: {{project: local, family: {FAMILY}}}
steps:
- {{name: greet, action: run-script, inputs: {{script: hello.sh}}}}
context: .
output: {{family: hello, labels: {{team: web}}, export: {{to: out/hello.tar.gz}}}}
"""


class Trip:
    """Counts the changes of files while it is followed."""

    def __init__(self) -> None:
        self.changes = 0
        self.files: Counter[str] = Counter()
        self._file = ""

    def follow(self, run: Callable[[], object]) -> None:
        """Run something, and count."""
        sys.setprofile(self._see)
        try:
            run()
        finally:
            sys.setprofile(None)

    def _see(self, frame: FrameType, event: str, _argument: object) -> None:
        if event not in ("call", "return"):
            return
        seen: FrameType | None = frame if event == "call" else frame.f_back
        if seen is None or not seen.f_code.co_filename.startswith(OURS):
            return
        file = seen.f_code.co_filename
        if file != self._file:
            self.changes += bool(self._file)
            self._file = file
            self.files[file] += 1


def spec_to_request(folder: Path) -> Trip:
    """Follow a spec from its file to BuildRequested."""
    (folder / "build.yaml").write_text(SPEC, encoding="utf-8")
    (folder / "hello.sh").write_text("#!/bin/sh\necho hello\n", encoding="utf-8")
    world, trip = World(), Trip()

    def run() -> None:
        [build] = check_file(parse_file(folder / "build.yaml")).builds
        source = SourceImage("local", SOURCE, "sha256-0001", family=FAMILY)
        now = world.clock.now()
        plan = make_plan(build.spec, source=source, context=None, request="one", requested=now, provisioner_version="1")
        admit(plan, world.backend)

    trip.follow(run)
    return trip


def report_to_state(_folder: Path) -> Trip:
    """Follow a report from its message to the build that is saved with it."""
    world, trip = World(), Trip()
    made = plan("hello-0123456789ab", world.clock.now())
    world.engine.request(request(made))
    world.handle()
    message = report(world.keys, made.build_id, 1, STARTED)
    trip.follow(lambda: world.engine.take(read_report_message(message), world.keys))
    return trip


def disk_to_archive(folder: Path) -> Trip:
    """Follow the disk of a stopped VM through its check and its list of packages to the archive."""
    (folder / "tree").mkdir()
    disk = rooted(folder / "disk.raw", os_tree(folder / "tree"))
    home, clock, trip = folder / "home", SystemClock(), Trip()
    catalogue = Catalogue(home, clock)
    catalogue.add(disk, SOURCE, transfer="copy", family=FAMILY)
    name = resources.boot_disk_name("hello-0123456789ab", 1, "build")
    BuildFolder(home, "hello-0123456789ab").disk(name).parent.mkdir(parents=True)
    disk.rename(BuildFolder(home, "hello-0123456789ab").disk(name))

    def run() -> None:
        compute.inspect_disk(name, SOURCE)
        compute.create_image(
            ImageRequest(
                "local",
                "hello-1",
                name,
                "local",
                "local",
                description="",
                labels={},
                licenses=(),
                architecture="x86_64",
            )
        )
        compute.packages("local", "hello-1")
        compute.export_image("local", "hello-1", str(folder / "out" / "hello.tar.gz"), "fast", lambda *_: None)

    with Machines(home, lambda _message: None) as machines:
        compute = LocalCompute(home, catalogue, machines, clock)
        trip.follow(run)
    return trip


TRIPS: dict[str, Callable[[Path], Trip]] = {
    "spec → BuildRequested": spec_to_request,
    "report → saved state": report_to_state,
    "disk → archive": disk_to_archive,
}


def main() -> None:
    """Print the table, and with -v the files of each trip."""
    print("| trip | changes of files | files |\n| --- | ---: | ---: |")
    for name, follow in TRIPS.items():
        with tempfile.TemporaryDirectory() as folder:
            trip = follow(Path(folder))
        print(f"| {name} | {trip.changes} | {len(trip.files)} |")
        if "-v" in sys.argv:
            for file, times in trip.files.most_common():
                print(f"    {times:5} {Path(file).relative_to(ROOT)}")


if __name__ == "__main__":
    main()
