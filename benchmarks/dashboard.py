"""How long the dashboard takes for its list of many builds on one machine: `python -m benchmarks.dashboard`.

The store is that of a GOLDSMITH_HOME, with a build for each number; the application answers as in `goldsmith serve`,
without the connection. Each address is asked for several times, and the median counts.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from flask.testing import FlaskClient

from benchmarks.measure import machine
from shared.build.build import Build, Outcome, State
from shared.dashboard.app import make_app
from shared.dashboard.web.served import Served
from shared.runtime import opening
from tests.world import values

LIMIT = 0.300  # seconds
REPEATS = 7
BROWSER = {"Accept": "text/html"}

ADDRESSES = {
    "newest builds": "/builds",
    "the last page": "/builds?before={oldest}",
    "failed builds of one spec": "/builds?outcome=failed&name=spec-7",
    "a text that few builds have": "/builds?text=needle",
    "a text that no build has": "/builds?text=nowhere+in+any",
    "one day": "/builds?since=2026-11-21&until=2026-11-22",
    "one build": "/builds/{oldest}",
}


def _build(number: int) -> Build:
    name = f"spec-{number % 20}"
    build_id = f"{name}-{number:012x}"
    plan = values.plan(build_id=build_id, name=name)
    plan = replace(plan, image=replace(plan.image, name=f"{name}-{number}", family=name))
    outcome = (Outcome.SUCCEEDED, Outcome.FAILED)[number % 10 == 0]
    reason = f"step greet failed{': needle' if number % 1000 == 0 else ''}" if outcome is Outcome.FAILED else ""
    at = values.NOON + 60 * number
    made = values.build(id=build_id, plan=plan, created=at, updated=at + 90)
    return replace(made, state=State.FINISHED, outcome=outcome, reason=reason)


def _seconds(client: FlaskClient, address: str) -> float:
    took = []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        answer = client.get(address, headers=BROWSER)
        took.append(time.perf_counter() - begun)
        assert answer.status_code == 200, answer.get_data(as_text=True)
    return statistics.median(took)


def main() -> None:
    """Measure, and print the table of docs/performance.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--builds", type=int, default=10_000)
    count = parser.parse_args().builds
    with tempfile.TemporaryDirectory() as folder, opening.local(Path(folder) / "home") as backend:
        for number in range(count):
            build = _build(number)
            backend.store.create(build, values.requested(build_id=build.id))
        client = make_app(Served(backend, "this machine")).test_client()
        oldest = _build(60).id
        print(f"{count} builds on {machine()}\n\n| page | median ms |\n| --- | --- |")
        slow = []
        for what, address in ADDRESSES.items():
            took = _seconds(client, address.format(oldest=oldest))
            slow += [what] if took > LIMIT else []
            print(f"| {what} | {took * 1000:.0f} |")
        print(f"\nabove {LIMIT * 1000:.0f} ms: {', '.join(slow) or 'none'}")


if __name__ == "__main__":
    main()
