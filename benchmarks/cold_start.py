"""How long every function takes from its process's start to its first answer: `python -m benchmarks.cold_start`.

Each process is started as the emulator starts it, with Google's Pub/Sub and Firestore emulators and our own endpoints
to talk to, and gets one request that it has to answer with work: a report is recorded, an order is carried out. The
peer is a function that says hello and imports nothing. All take turns in one run; compare no times across runs.

The machine's other processes are still: no event is routed, and nothing that a function publishes has consequences.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import os
import signal
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from google.pubsub_v1.types import PubsubMessage, ReceivedMessage

from benchmarks.example_builds import FAMILY, SOURCE, build_in, plan, report, request
from benchmarks.measure import Sample, machine, median, ratio, table, take_turns
from benchmarks.processes import cpu_seconds, peak_memory, with_children
from emulator.cloud.cloud import DEPLOYED_ZONES, Cloud
from emulator.cloud.functions import ROOT, SERVER, command
from emulator.pubsub.router import push_body
from emulator.web.http_server import LOOPBACK
from emulator.web.processes import ChildProcess, Processes, free_port
from provisioner.protocol import COMPLETED, STARTED
from shared.build.build import State
from shared.build.orders import Order, OrderKind
from shared.build.plan import Deprecation
from shared.clock import SystemClock
from shared.engine.messages import order_message
from shared.images.catalogue import Catalogue
from shared.ports import Message
from shared.runtime.cloud import CloudBackend
from shared.runtime.opening import cloud as cloud_backend
from shared.topology import FUNCTIONS, REQUESTS_TOPIC, SPECS, function

BARE = "bare hello"
HELLO = """\
import functions_framework

@functions_framework.http
def hello(request):
    return "hello"
"""
SPEC = f"""\
name: hello
source: {{project: %s, family: {FAMILY}}}
steps:
  - {{name: install, action: install-packages, inputs: {{packages: [hello]}}}}
output: {{name: hello-%s}}
"""
MADE = "hello-20261101"  # an image that is there to be labelled
LIMIT = 2.5  # times the bare function, for those that do not talk to Compute Engine
REFUSALS = ("is rejected:", "dropped event", "has moved past")  # in a log: nothing was done
PATIENCE = 60.0  # seconds for an answer
LOOK = 0.002  # seconds between two looks whether a process listens
GIB = 1 << 30
STATES: Mapping[OrderKind, State] = {
    "create_resources": State.PREPARING,
    "grow_disk": State.PROVISIONING,
    "export_image": State.EXPORTING,
    "verify_image": State.VERIFYING,
    "label_image": State.PUBLISHING,
    "deprecate_images": State.PUBLISHING,
    "clean_up": State.CLEANING,
}


@dataclass(frozen=True)
class Request:
    """What is sent to a function first."""

    method: str
    path: str
    body: bytes = b""


class Requests:
    """Makes the first request of each function, and before it what it is about: every time another build."""

    def __init__(self, cloud: Cloud) -> None:
        self._project = cloud.project
        self._bucket = cloud.bucket
        self._numbers = itertools.count(1)
        environment = cloud.function_environment(function("advance_build"))
        self._backend: CloudBackend = cloud_backend(environment)
        cloud.compute.deny("compute.instances.create")  # a VM would take the machine from those that are measured

    def report(self, kind: str) -> Request:
        """Let the VM of a new build speak."""
        build_id = self._build(State.PROVISIONING)
        return self._push(report(self._backend.keys, build_id, 1, kind))

    def order(self, kind: OrderKind) -> Request:
        """Return an order about a new build."""
        order = Order(self._build(STATES[kind]), 1, kind, 1)
        return self._push(order_message(order, self._backend.store.load(order.build_id).build))

    def spec(self) -> Request:
        """Ask for the build of a spec in the bucket."""
        number = next(self._numbers)
        uri = f"gs://{self._bucket}/{SPECS}cold/{number}.txt"  # by its name no spec: its upload asks for nothing
        self._backend.bucket.write(uri, (SPEC % (self._project, number)).encode())
        return self._push(Message(REQUESTS_TOPIC, json.dumps({"spec": uri}).encode(), {}))

    def _build(self, state: State) -> str:
        build_id = f"cold-{next(self._numbers):012x}"
        made = plan(build_id, time.time(), project=self._project)
        image = made.image
        if state in (State.VERIFYING, State.PUBLISHING):
            image = replace(image, name=MADE, deprecate_old=Deprecation())
        made = replace(made, image=image, machine=replace(made.machine, zones=DEPLOYED_ZONES), verify_steps=made.steps)
        self._backend.store.create(build_in(state, made, DEPLOYED_ZONES[0]), request(made))
        return build_id

    def _push(self, message: Message) -> Request:
        sent = PubsubMessage(
            data=message.data,
            attributes=dict(message.attributes),
            message_id=str(next(self._numbers)),
            publish_time=datetime.now(UTC),
            ordering_key=message.ordering_key,
        )
        body = push_body(ReceivedMessage(message=sent), "subscription", 1)
        return Request("POST", f"/projects/{self._project}/topics/{message.topic}", body)

    def of_all(self) -> Mapping[str, tuple[str, Callable[[], Request]]]:
        """Return the functions to measure, each with the maker of its first request."""
        return {
            "advance_build": ("advance_build", partial(self.report, STARTED)),
            "advance_build, with an order": ("advance_build", partial(self.report, COMPLETED)),
            "dashboard": ("dashboard", lambda: Request("GET", "/builds")),
            "expire_builds": ("expire_builds", lambda: Request("POST", "/")),
            "retire_images": ("retire_images", lambda: Request("POST", "/")),
            "start_build": ("start_build", self.spec),
            **{kind: (kind, partial(self.order, kind)) for kind in STATES},
        }


def first_answer(
    target: str, source: Path, environment: Mapping[str, str], make: Callable[[], Request], log: Path
) -> Sample:
    """Start a function's process, send it a request, and give what it took. RuntimeError when it fails."""
    first, url = make(), f"http://{LOOPBACK}:{free_port()}"
    log.unlink(missing_ok=True)
    with Processes(ends_by=signal.SIGKILL) as processes:
        began = time.perf_counter()
        child = processes.start(target, command(target, source, url), log, environment=environment, folder=ROOT)
        status = _ask(child, url, first)
        wall = time.perf_counter() - began
        said = log.read_text()
        if status != http.HTTPStatus.OK or any(word in said for word in REFUSALS):
            raise RuntimeError(f"{target} answers {status}, and says:\n{said}")
        pids = with_children(child.pid)
        user, system = cpu_seconds(pids)
        peak = max(peak_memory(pid) for pid in pids)
    return Sample(wall, user, system, peak)


def _ask(child: ChildProcess, url: str, first: Request) -> int:
    """Send a request as soon as the port is open; return the answer's status."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=PATIENCE)
    while True:
        try:
            connection.connect()
            break
        except ConnectionRefusedError:
            if child.status is not None:
                raise RuntimeError(f"{child.name} ended; look at {child.log}") from None
            time.sleep(LOOK)
    try:
        connection.request(first.method, first.path, first.body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()


def report_all(folder: Path, rounds: int, chosen: set[str]) -> None:
    """Measure functions, and print the tables."""
    for image, family in ((SOURCE, FAMILY), (MADE, None)):
        disk = folder / "disk.raw"
        disk.touch()
        os.truncate(disk, GIB)
        Catalogue(folder, SystemClock()).add(disk, image, transfer="move", family=family)
    hello = folder / "hello.py"
    hello.write_text(HELLO)
    with Cloud(folder) as cloud:
        cloud.router.close()  # from here on, messages and uploads call no function
        cloud.scheduler.close()
        cloud.functions.close()
        log = folder / "first_answer.log"
        runs = {BARE: partial(first_answer, "hello", hello, SERVER, lambda: Request("GET", "/"), log)}
        for name, (target, make) in Requests(cloud).of_all().items():
            if target not in chosen:
                continue
            environment = {**SERVER, **cloud.function_environment(function(target))}
            runs[name] = partial(first_answer, target, ROOT / "main.py", environment, make, log)
        samples = take_turns(runs, rounds)
    print(f"{rounds} rounds after one that does not count; {machine()}\n")
    print(table(samples, BARE))
    print("\n| required | measured |\n| --- | ---: |")
    light = {each.name for each in FUNCTIONS if not each.compute}
    for name in samples:
        if name.partition(",")[0] in light:
            print(f"| {name}: at most {LIMIT} times | {ratio(samples, name, BARE):.2f} times |")
    for each in FUNCTIONS:
        if each.name in samples:
            peak = median(samples[each.name]).peak / (1 << 20)
            print(f"| {each.name}: below {each.memory_mb} MiB | {peak:.0f} MiB |")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.cold_start", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    names = [each.name for each in FUNCTIONS]
    parser.add_argument("--function", action="append", choices=names, help="only these; may be repeated")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="goldsmith-bench-") as folder:
        report_all(Path(folder), arguments.rounds, set(arguments.function or names))


if __name__ == "__main__":
    main()
