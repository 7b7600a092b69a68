"""How soon a deployment acts, and how much it takes at once, on the emulator: `python -m benchmarks.cloud`.

Whole builds, one after the other: from an object's upload to the instances.insert call, and from the VM's last report
to the images.insert call. All moments are noted by whoever sees them: the bucket, Pub/Sub, Compute Engine's operations.
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
from emulator.cloud import Cloud
from emulator.compute.endpoint import ZONES
from provisioner.protocol import BUILD, COMPLETED, STARTED, STEP_FINISHED, STEP_STARTED
from shared.build import Build, Outcome, State
from shared.clock import SystemClock
from shared.damage import readable_builds
from shared.engine import Engine
from shared.factory import cloud as cloud_factory
from shared.gcp.factory import CloudFactory
from shared.gcp.storage import GoogleBucket
from shared.identity import build_id
from shared.local.bootstrap import bootstrap
from shared.local.catalogue import Catalogue
from shared.messages import REPORTS_TOPIC, read_report_message
from shared.ports import Message
from shared.resources import machine_name
from shared.submission import object_request
from shared.topology import SPECS, function

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
        self._factory: CloudFactory = cloud_factory(cloud.function_environment(function("advance_build")))
        self._own_subscription = cloud.pubsub.subscription("benchmark")
        cloud.pubsub.subscriber.create_subscription(
            name=self._own_subscription, topic=cloud.pubsub.topic(REPORTS_TOPIC)
        )

    def builds(self, count: int) -> Mapping[str, Sequence[float]]:
        """Have so many builds made, one after the other; give the seconds of each, by what they lasted from and to."""
        bucket = GoogleBucket(self._factory.settings)
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
            recorded = len(self._factory.store.events(one)) - 1  # without the request
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
        engine = Engine(self._factory.store, self._factory.bus, self._factory.clock)
        messages = self._reports(self._standing_build(), each)
        began = time.perf_counter()
        for message in messages:
            engine.hear(read_report_message(message), self._factory.keys)
        return each / (time.perf_counter() - began)

    def _answers(self, count: int) -> Sequence[Any]:
        """Wait until so many reports are acknowledged; give those attempts."""
        give_up = time.monotonic() + PATIENCE
        while time.monotonic() < give_up:
            found = [one for one in list(self._cloud.router.courier.history) if one.name == "reports"]
            if sum(one.status == requests.codes.ok for one in found) >= count:
                return found
            time.sleep(LOOK)
        raise RuntimeError(f"{count} reports are not acknowledged after {PATIENCE:g} s")

    def _standing_build(self) -> str:
        """Write a build whose VM is at work as far as anybody knows."""
        name = f"bench-{time.time_ns() % (1 << 48):012x}"
        made = plan(name, time.time(), project=self._cloud.project, steps=STEPS)
        self._factory.store.create(build_in(State.PROVISIONING, made, ZONES[0]), request(made))
        return name

    def _reports(self, build: str, count: int) -> list[Message]:
        kinds = [STARTED, *(kind for _ in range(STEPS) for kind in (STEP_STARTED, STEP_FINISHED))]
        return [
            report(self._factory.keys, build, number + 1, kinds[number], (number - 1) // 2 if number else None)
            for number in range(count)
        ]

    def _finished(self, wanted: str) -> Build:
        """Wait for a build to be asked for, and to finish."""
        give_up = time.monotonic() + PATIENCE
        while time.monotonic() < give_up:
            for build in readable_builds(self._factory.store.builds(limit=1)):  # the newest
                if build.id == wanted and build.finished:
                    return build
            time.sleep(LOOK)
        raise RuntimeError(f"{wanted} has not finished after {PATIENCE:g} s; look at {self._cloud.home / 'logs'}")

    def _completed(self, wanted: Set[str]) -> Mapping[str, float]:
        """Give when the last word of each build's VM was published, as Pub/Sub has noted it."""
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
        """Give when Compute Engine was asked for each thing, and when each VM's guest has ended, by name."""
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
        """Give whose CPU time counts for what. The router is in this process, which does nothing else meanwhile."""
        own, *children = with_children(os.getpid())
        by_line = {pid: command_line(pid) for pid in children}
        return {
            "advance_build": with_children(self._cloud.functions.pid("advance_build")),
            "Firestore": [pid for pid, line in by_line.items() if "CloudFirestore" in line],
            "Pub/Sub": [pid for pid, line in by_line.items() if "pubsub-emulator" in line],
            "router": [own],
        }


def rows_of_builds(seconds: Mapping[str, Sequence[float]]) -> str:
    """Give a Markdown table of percentiles."""
    rows = ["|  | p50, s | p95, s |", "| --- | ---: | ---: |"]
    for name, values in seconds.items():
        twentieths = statistics.quantiles(values, n=20, method="inclusive")
        rows.append(f"| {name} | {twentieths[9]:.2f} | {twentieths[18]:.2f} |")
    return "\n".join(rows)


def rows_of_events(figures: Mapping[int, Mapping[str, float]]) -> str:
    """Give a Markdown table, a line for each number of builds at once."""
    names = list(next(iter(figures.values())))
    rows = [["builds at once", *names], ["---:"] * (len(names) + 1)]
    rows += [[str(count), *(f"{value:.1f}" for value in line.values())] for count, line in figures.items()]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def report_all(home: Path, count: int) -> None:
    """Measure all, and print the tables."""
    catalogue = Catalogue(home, SystemClock())
    bootstrap("debian-12", catalogue, home=home)
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
