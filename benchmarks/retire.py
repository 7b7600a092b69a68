"""How long retirement takes to decide on many images, and what it holds in memory: `python -m benchmarks.retire`.

The adapters of Google Cloud are at work. Firestore is Google's emulator, with a document of each image; Compute Engine
is a server of ours in a process of its own, whose answers are made beforehand: images, and what uses them, in pages as
Google has them. A tenth of it is measured first: what grows with the images is seen by that.

With --act so many images are made OBSOLETE, too. On Google Cloud that takes as long as Compute Engine's operations.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import time
import tracemalloc
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from benchmarks.measure import machine
from emulator.cloud.google import GoogleEmulators
from emulator.web.http_server import LOOPBACK
from shared.build.build import ImageDocument
from shared.build.image.retire_rules import RetireRule
from shared.gcp.documents import IMAGES, image_fields
from shared.gcp.firestore import GoogleStore
from shared.published.retirement import Retiring, plan_retirement, retire_images
from shared.runtime.opening import cloud

PROJECT = "goldsmith-emulator"
GOOGLE = "https://www.googleapis.com/compute/v1/"
BASE = f"/compute/v1/projects/{PROJECT}"
NOW = time.time()
PAGE = 500  # entries of an answer, and writes of a batch
PER_FAMILY = 100
DAY = 86400.0


class Pages(BaseHTTPRequestHandler):
    """Compute Engine, as far as this goes; lists are made for so many images and users."""

    images = users = 0
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer with a page, or an image."""
        path, query = urlsplit(self.path).path.removeprefix(BASE), parse_qs(urlsplit(self.path).query)
        start = int(query.get("pageToken", ["0"])[0])
        if path == "/global/images":
            found = [_image(number) for number in range(start, min(start + PAGE, self.images))]
            self._send({"items": found, **self._next(start, self.images)})
        elif path.startswith("/global/images/"):
            self._send(_image(int(path.rpartition("-")[2])))
        else:
            kind = path.removeprefix("/aggregated/")
            share = {"disks": 0.8, "instanceTemplates": 0.15, "instanceGroupManagers": 0.05}[kind]
            total = int(self.users * share)
            found = [_user(kind, number) for number in range(start, min(start + PAGE, total))]
            self._send({"items": {"zones/a": {kind: found}}, **self._next(start, total)})

    def do_POST(self) -> None:
        """Answer as if it were done."""
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self._send({"status": "DONE", "name": "operation"})

    def _next(self, start: int, total: int) -> Mapping[str, str]:
        return {"nextPageToken": str(start + PAGE)} if start + PAGE < total else {}

    def _send(self, document: Mapping[str, Any]) -> None:
        data = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _name(number: int) -> str:
    return f"image-{number}"


def _image(number: int) -> dict[str, Any]:
    made = datetime.fromtimestamp(NOW - DAY * (2 + number // PER_FAMILY), UTC).isoformat(timespec="milliseconds")
    return {
        "name": _name(number),
        "id": str(10**18 + number),
        "status": "READY",
        "creationTimestamp": made,
        "family": f"family-{number % PER_FAMILY}",
        "diskSizeGb": "10",
        "labels": {"goldsmith-build": f"{_name(number)}-0123456789ab", "goldsmith-source": "debian-12"},
        "licenses": [f"{GOOGLE}projects/debian-cloud/global/licenses/debian-12-bookworm"],
    }


def _user(kind: str, number: int) -> dict[str, Any]:
    url = f"{GOOGLE}projects/{PROJECT}/global/images/{_name(PER_FAMILY + number)}"
    link = {"name": f"{kind.lower()}-{number}", "selfLink": f"{GOOGLE}projects/{PROJECT}/global/{kind}/{number}"}
    if kind == "disks":
        return {**link, "sourceImage": url, "sourceImageId": str(10**18 + PER_FAMILY + number), "zone": "zones/a"}
    if kind == "instanceTemplates":
        return {**link, "properties": {"disks": [{"initializeParams": {"sourceImage": url}}]}}
    return {**link, "instanceTemplate": f"{GOOGLE}projects/{PROJECT}/global/instanceTemplates/{number}"}


def _serve(images: int, users: int, ports: Any) -> None:
    Pages.images, Pages.users = images, users
    server = ThreadingHTTPServer((LOOPBACK, 0), Pages)
    ports.put(server.server_address[1])
    server.serve_forever()


def _write_documents(store: GoogleStore, numbers: Iterator[int]) -> None:
    while some := list(islice(numbers, PAGE)):
        batch = store._client.batch()
        for number in some:
            name = _name(number)
            known = ImageDocument(PROJECT, name, f"{name}-0123456789ab", "d1" * 32, state="published")
            known = replace(known, id=str(10**18 + number), verified=True, source_id="4711")
            batch.set(store._client.collection(IMAGES).document(f"{PROJECT}~{name}"), image_fields(known))
        batch.commit()


def measure(images: int, users: int, act: int, firestore: str, folder: Path) -> tuple[str, ...]:
    """Return a row of the table. The documents of the images are there already."""
    context = multiprocessing.get_context("forkserver")
    ports = context.Queue()
    server = context.Process(target=_serve, args=(images, users, ports), daemon=True)
    server.start()
    backend = cloud(
        {
            "GOLDSMITH_PROJECT": PROJECT,
            "GOLDSMITH_BUCKET": "goldsmith-bucket",
            "GOLDSMITH_ZONES": "us-central1-a",
            "GOLDSMITH_VM_SERVICE_ACCOUNT": f"vm@{PROJECT}.iam.gserviceaccount.com",
            "GOLDSMITH_COMPUTE_ENDPOINT": f"http://{LOOPBACK}:{ports.get(timeout=60)}",
            "FIRESTORE_EMULATOR_HOST": firestore,
        }
    )
    rules = {f"family-{number}": RetireRule(DAY) for number in range(PER_FAMILY)}
    retiring = Retiring(PROJECT, rules, (PROJECT,), backend.image_users, 8)
    backend.compute.image(PROJECT, _name(0))  # imports are not counted
    try:
        began, cpu = time.perf_counter(), time.process_time()
        actions = Counter(verdict.action for verdict in plan_retirement(retiring, backend))
        wall, cpu = time.perf_counter() - began, time.process_time() - cpu
        tracemalloc.start()
        for _verdict in plan_retirement(retiring, backend):
            pass
        peak = tracemalloc.get_traced_memory()[1] / (1 << 20)
        tracemalloc.stop()
        began = time.perf_counter()
        done = list(islice(retire_images(retiring, backend, NOW + DAY), act)) if act else []
        acted = f"{(time.perf_counter() - began) / len(done) * 1000:.0f} ms" if done else "-"
    finally:
        server.terminate()
    assert actions["keep"] >= users * 0.8
    return (
        f"{images:,}",
        f"{users:,}",
        f"{wall:.1f} s",
        f"{cpu:.1f} s",
        f"{peak:.1f} MiB",
        str(actions["obsolete"]),
        acted,
    )


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--users", type=int, default=2000)
    parser.add_argument("--act", type=int, default=0, help="on so many images as well, at the end")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, GoogleEmulators(Path(scratch)) as google:
        host = google.environment()["FIRESTORE_EMULATOR_HOST"]
        store, rows, known = GoogleStore(PROJECT, host), [], 0
        for share in (10, 1):
            images, users = arguments.images // share, arguments.users // share
            _write_documents(store, iter(range(known, images)))
            known = images
            rows.append(measure(images, users, arguments.act if share == 1 else 0, host, Path(scratch)))
    print(machine())
    header = ("images", "users", "all decided in", "CPU here", "memory", "would go", "to mark one")
    for row in (header, ("---:",) * len(header), *rows):
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
