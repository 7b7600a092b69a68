"""How soon a deployment acts, and how much it takes at once, on the emulator: `python -m benchmarks.cloud`.

Whole builds, one after the other: from an object's upload to the instances.insert call, and from the VM's last report
to the images.insert call. The times come from the services: the bucket, Pub/Sub, Compute Engine's operations.
Then reports of builds that have no VM, all published at once, until advance_build has recorded them in Firestore.

Everything shares the cores of this machine: the functions, Google's emulators, the router, and the VMs.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence, Set
from datetime import datetime
from pathlib import Path
from typing import Any

import requests
from google.pubsub_v1.types import PubsubMessage

from benchmarks.example_builds import build_in, plan, report, request
from benchmarks.measure import machine
from benchmarks.processes import command_line, cpu_seconds, with_children
from emulator.cloud.cloud import DEPLOYED_ZONES, Cloud
from provisioner.protocol import BUILD, COMPLETED, STARTED, STEP_FINISHED, STEP_STARTED
from shared.build.build import Build, Outcome, State
from shared.build.damage import readable_builds
from shared.build.identity import build_id
from shared.build.resources import machine_name
from shared.clock import SystemClock
from shared.engine.engine import Engine
from shared.engine.history import each_event
from shared.engine.messages import read_report_message
from shared.gcp.storage import GoogleBucket
from shared.images.bootstrap.bootstrap import bootstrap_image
from shared.images.catalogue import Catalogue
from shared.ports import Message
from shared.runtime.cloud import CloudBackend
from shared.runtime.opening import cloud as cloud_backend
from shared.submission import object_request
from shared.topology import REPORTS_TOPIC, SPECS, function

SCRIPT = b"#!/bin/bash\nset -eu\necho hello > /var/lib/hello\n"
SPEC = """\
name: hello
source: {project: local, family: debian-12}
context: .
steps:
  - {name: greet, action: run-script, inputs: {script: hello.sh}}
output: {name: bench-%d}
"""
WARM_UP = 1  # builds that do not count: after one, every function has imported what it needs
PATIENCE = 300.0  # seconds for a build, or for all reports
STEPS = 32  # of the builds whose reports are counted
REPORTS = {1: 64, 8: 32, 32: 16}  # of each build, by how many there are at once
LOOK = 0.05  # seconds between two looks at what is waited for
PARTS = ("advance_build", "Firestore", "Pub/Sub", "router")
TO_INSERT, TO_IMAGE, STOPPED = (
    "upload to instances.insert",
    "last report to images.insert",
    "of it, until the VM has stopped",
)


class Bench:
    """A cloud, and what a measurement asks of it."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._pubsub = cloud.pubsub
        self._backend: CloudBackend = cloud_backend(cloud.function_environment(function("advance_build")))
        self._own_subscription = cloud.pubsub.subscription("benchmark")
        cloud.pubsub.subscriber.create_subscription(
            name=self._own_subscription, topic=cloud.pubsub.topic(REPORTS_TOPIC)
        )

    def builds(self, count: int) -> Mapping[str, Sequence[float]]:
        """Run so many builds, one after the other; return the seconds of each, by the moments between."""
        bucket = GoogleBucket(self._backend.settings)
        bucket.write(f"gs://{self._cloud.bucket}/{SPECS}bench/hello.sh", SCRIPT)
        uploads: dict[str, tuple[float, str]] = {}
        for number in range(WARM_UP + count):
            name, spec = f"{SPECS}bench/{number}.yaml", (SPEC % number).encode()
            generation = bucket.upload(f"gs://{self._cloud.bucket}/{name}", spec, {})
            build = self._finished(build_id("hello", object_request(self._cloud.bucket, name, generation)))
            if build.image is None or build.outcome is not Outcome.SUCCEEDED:
                raise RuntimeError(f"build {build.id}: {build.reason}")
            if number >= WARM_UP:
                uploads[build.id] = int(generation) / 1e6, build.image.name  # generations are microseconds
        inserted, stopped, completed = *self._operations(), self._completed(set(uploads))
        seconds: dict[str, list[float]] = {TO_INSERT: [], TO_IMAGE: [], STOPPED: []}
        for one, (uploaded, image) in uploads.items():
            vm = machine_name(one, 1, BUILD)
            seconds[TO_INSERT].append(inserted[vm] - uploaded)
            seconds[TO_IMAGE].append(inserted[image] - completed[one])
            seconds[STOPPED].append(stopped[vm] - completed[one])
        return seconds

    def events(self, count: int, each: int) -> Mapping[str, float]:
        """Have reports of so many builds recorded, `each` of every build; give events a second and what they took."""
        ids = [self._standing_build() for _ in range(count)]
        messages = [message for row in zip(*(self._reports(one, each) for one in ids), strict=True) for message in row]
        pids = self._pids()
        before = {part: sum(cpu_seconds(pids[part])) for part in PARTS}
        self._cloud.router.courier.history.clear()
        began = time.time()
        sent = [
            PubsubMessage(data=one.data, attributes=dict(one.attributes), ordering_key=one.ordering_key)
            for one in messages
        ]
        self._pubsub.publisher.publish(topic=self._pubsub.topic(REPORTS_TOPIC), messages=sent)
        answers = self._answers(len(messages))
        used = {part: sum(cpu_seconds(pids[part])) - before[part] for part in PARTS}
        for one in ids:
            recorded = len(list(each_event(self._backend.store, one))) - 1  # without the request
            if recorded != each:
                raise RuntimeError(f"{recorded} events of {one} are recorded, and {each} were published")
        ended = max(answer.began + answer.seconds for answer in answers)
        return {
            "events a second": len(messages) / (ended - began),
            "answer, ms": 1000 * statistics.median(answer.seconds for answer in answers),
            **{f"{part}, CPU ms": 1000 * used[part] / len(messages) for part in PARTS},
        }

    def engine_alone(self, each: int) -> float:
        """Record reports of one build in this process, with no function and no message; give events a second."""
        engine = Engine(self._backend.store, self._backend.bus, self._backend.clock)
        messages = self._reports(self._standing_build(), each)
        began = time.perf_counter()
        for message in messages:
            engine.take(read_report_message(message), self._backend.keys)
        return each / (time.perf_counter() - began)

    def _answers(self, count: int) -> Sequence[Any]:
        """Wait until so many reports are acknowledged; return those attempts."""
        give_up = time.monotonic() + PATIENCE
        while time.monotonic() < give_up:
            found = [one for one in list(self._cloud.router.courier.history) if one.name == "vm-reports"]
            if sum(one.status == requests.codes.ok for one in found) >= count:
                return found
            time.sleep(LOOK)
        raise RuntimeError(f"{count} reports are not acknowledged after {PATIENCE:g} s")

    def _standing_build(self) -> str:
        """Write a build that is recorded as provisioning, without a VM."""
        name = f"bench-{time.time_ns() % (1 << 48):012x}"
        made = plan(name, time.time(), project=self._cloud.project, steps=STEPS)
        self._backend.store.create(build_in(State.PROVISIONING, made, DEPLOYED_ZONES[0]), request(made))
        return name

    def _reports(self, build: str, count: int) -> list[Message]:
        kinds = [STARTED, *(kind for _ in range(STEPS) for kind in (STEP_STARTED, STEP_FINISHED))]
        return [
            report(self._backend.keys, build, number + 1, kinds[number], (number - 1) // 2 if number else None)
            for number in range(count)
        ]

    def _finished(self, wanted: str) -> Build:
        """Wait for a build to be asked for, and to finish."""
        give_up = time.monotonic() + PATIENCE
        while time.monotonic() < give_up:
            for build in readable_builds(self._backend.store.builds(limit=1)):  # the newest
                if build.id == wanted and build.finished:
                    return build
            time.sleep(LOOK)
        raise RuntimeError(f"{wanted} has not finished after {PATIENCE:g} s; look at {self._cloud.home / 'logs'}")

    def _completed(self, wanted: Set[str]) -> Mapping[str, float]:
        """Return when the last report of each build's VM was published, by Pub/Sub's clock."""
        found: dict[str, float] = {}
        subscriber, path = self._pubsub.subscriber, self._own_subscription
        while wanted - found.keys():
            pulled = subscriber.pull(subscription=path, max_messages=100, timeout=PATIENCE).received_messages
            for message in (one.message for one in pulled):
                if message.attributes["kind"] == COMPLETED:
                    found.setdefault(message.attributes["build_id"], message.publish_time.timestamp())
            subscriber.acknowledge(subscription=path, ack_ids=[one.ack_id for one in pulled])
        return found

    def _operations(self) -> tuple[Mapping[str, float], Mapping[str, float]]:
        """Return when each resource was requested of Compute Engine, and when each VM's guest ended, by name."""
        inserted: dict[str, float] = {}
        stopped: dict[str, float] = {}
        page: dict[str, Any] = {"nextPageToken": ""}
        url = f"{self._cloud.compute.url}/compute/v1/projects/{self._cloud.project}/aggregated/operations"
        while "nextPageToken" in page:
            page = requests.get(url, {"pageToken": page["nextPageToken"]}, timeout=PATIENCE).json()
            for operation in (one for scope in page["items"].values() for one in scope.get("operations", ())):
                name, kind = operation["targetLink"].rpartition("/")[2], operation["operationType"]
                moment = datetime.fromisoformat(operation["insertTime"]).timestamp()
                if kind == "insert":
                    inserted[name] = moment
                elif kind == "compute.instances.guestTerminate":
                    stopped[name] = moment
        return inserted, stopped

    def _pids(self) -> Mapping[str, Sequence[int]]:
        """Return the processes whose CPU time counts, by part. The router is this process, otherwise idle."""
        own, *children = with_children(os.getpid())
        by_line = {pid: command_line(pid) for pid in children}
        return {
            "advance_build": with_children(self._cloud.functions.pid("advance_build")),
            "Firestore": [pid for pid, line in by_line.items() if "CloudFirestore" in line],
            "Pub/Sub": [pid for pid, line in by_line.items() if "pubsub-emulator" in line],
            "router": [own],
        }


def rows_of_builds(seconds: Mapping[str, Sequence[float]]) -> str:
    """Return a Markdown table of percentiles."""
    rows = ["|  | p50, s | p95, s |", "| --- | ---: | ---: |"]
    for name, values in seconds.items():
        twentieths = statistics.quantiles(values, n=20, method="inclusive")
        rows.append(f"| {name} | {twentieths[9]:.2f} | {twentieths[18]:.2f} |")
    return "\n".join(rows)


def rows_of_events(figures: Mapping[int, Mapping[str, float]]) -> str:
    """Return a Markdown table, a line for each number of builds at once."""
    names = list(next(iter(figures.values())))
    rows = [["builds at once", *names], ["---:"] * (len(names) + 1)]
    rows += [[str(count), *(f"{value:.1f}" for value in line.values())] for count, line in figures.items()]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def report_all(home: Path, count: int) -> None:
    """Measure all, and print the tables."""
    catalogue = Catalogue(home, SystemClock())
    bootstrap_image("debian-12", catalogue, home=home)
    for image in catalogue.list():
        if image.name.startswith("bench-"):  # of an earlier run
            catalogue.delete(image.name)
    with Cloud(home) as cloud:
        bench = Bench(cloud)
        print(f"{count} builds after {WARM_UP} that do not count; {machine()}\n", flush=True)
        print(rows_of_builds(bench.builds(count)), flush=True)
        bench.events(1, REPORTS[1])
        figures = {at_once: bench.events(at_once, each) for at_once, each in REPORTS.items()}
        print(f"\nReports of {STEPS} steps; CPU time is of an event:\n")
        print(rows_of_events(figures))
        print(
            f"\nThe engine alone, in one process with Firestore: {bench.engine_alone(REPORTS[1]):.1f} events a second"
        )


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.cloud", description=__doc__)
    parser.add_argument("--builds", type=int, default=10)
    parser.add_argument("--home", type=Path, help="a GOLDSMITH_HOME with a bootstrapped base; default: a new one")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="goldsmith-bench-") as folder:
        report_all(arguments.home or Path(folder) / "home", arguments.builds)


if __name__ == "__main__":
    main()
