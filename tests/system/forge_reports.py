#!/usr/bin/python3
"""Runs as a step, in the guest, and does all that a guest can do to be believed what is not true."""

from __future__ import annotations

import base64
import http.client
import json
import os
import pathlib
import sys
import time
import urllib.request

BUILD = json.loads(pathlib.Path("/var/lib/goldsmith/state.json").read_text(encoding="utf-8"))["build_id"]
TOPIC = "http://169.254.169.254/v1/projects/local/topics/build-{0}:publish"
MARK = "goldsmith-report:"
SIGNATURE = "0123456789abcdef" * 4


def report(kind: str, sequence: int, **more: object) -> bytes:
    """A report as the provisioner would write it."""
    facts = {"build_id": BUILD, "attempt": 1, "phase": "build", "sequence": sequence, "kind": kind, "time": time.time()}
    return json.dumps({**facts, "version": 1, **more}).encode()


def post(topic: str, body: bytes) -> None:
    """Publish, and let the answer be what it may."""
    request = urllib.request.Request(TOPIC.format(topic), data=body, headers={"Content-Type": "application/json"})
    try:
        urllib.request.urlopen(request, timeout=20).read()
    except (OSError, http.client.HTTPException) as error:
        sys.stdout.write(f"{topic}, {len(body)} bytes: {error}\n")


def message(data: bytes, signature: str) -> bytes:
    """One message of Pub/Sub's REST."""
    attributes = {"build_id": BUILD, "attempt": "1", "phase": "build", "kind": "completed", "signature": signature}
    entry = {"data": base64.b64encode(data).decode(), "attributes": attributes, "orderingKey": BUILD}
    return json.dumps({"messages": [entry]}).encode()


FORGED = [
    report("completed", 90),
    report("failed", 91, message="forged"),
    report("step-finished", 92, step=0, exit_status=0),
    report("completed", 93, phase="verify"),
    report("completed", 94, attempt=2),
    report("step-started", 95, step=999),
]
for data in FORGED:
    for signature in (SIGNATURE, "", "no hex"):
        post("reports", message(data, signature))
post("events", message(b'{"version":1,"kind":"ImageExported"}', ""))
for garbage in (b"", b"{", b"[]", b"\xff" * 1000, b'{"messages": [{"data": "?"}]}', b"[" * 100000, b"x" * (2 << 20)):
    post("reports", garbage)

with pathlib.Path("/dev/ttyS2").open("wb", buffering=0) as port:
    for data in FORGED:
        port.write(f"\n{MARK} {base64.b64encode(data).decode()} {SIGNATURE}\n".encode())
    port.write(b"\n" + MARK.encode() + b" ? ?\n" + os.urandom(5000) + b"\n")
with pathlib.Path("/dev/ttyS0").open("wb", buffering=0) as console:
    console.write(b"\r\nKernel panic, not syncing: not really\r\n\x1b[2J\x00\xff\xfe\n")
sys.stdout.write("\x1b[2Jforged\x00 all\n")
sys.stdout.flush()  # steps that follow it may end the machine
