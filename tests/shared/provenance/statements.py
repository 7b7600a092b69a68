"""A statement about the image of values.build(), and another implementation of what checks it: OpenSSL's programs."""

from __future__ import annotations

import base64
import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

from provisioner.protocol import FROM_CACHE
from shared.build.build import ArchiveRecord, Build, StepRecord
from shared.build.plan import Context
from shared.provenance.statement import ImageFacts, SourceStatement, statement
from tests.world import values

DISK = "d1" * 32
FACTS = ImageFacts(
    disk=DISK,
    provisioner="f0" * 32,
    finished=values.NOON + 90.7,
    documents={"hello.spdx.json": "a1" * 32, "hello.cdx.json": "a2" * 32},
    source=SourceStatement("b1" * 32, "b2" * 32),
)


def finished_build(**changes: Any) -> Build:
    """A build whose image is exported, and whose only step was not run."""
    plan = values.plan(context=Context("/in/context.tar", "c1" * 32, 100))
    archive = ArchiveRecord(1000, "e1" * 32, "e2" * 32, "0" * 8, 10 << 30, 600 << 20)
    default = values.build(
        plan=plan,
        image=values.image_record(archive=archive),
        steps=(StepRecord("greet", "run-script", "done", note=FROM_CACHE),),
    )
    return replace(default, **changes)


def stated(build: Build | None = None, facts: ImageFacts = FACTS) -> bytes:
    build = build or finished_build()
    assert build.plan is not None
    return statement(build, build.plan, facts)


def openssl_verifies(envelope: bytes, public_key: bytes, folder: Path) -> bool:
    """Return whether OpenSSL finds the first signature of an envelope good; the encoding is made here anew."""
    document = json.loads(envelope)
    payload, kind = base64.b64decode(document["payload"]), document["payloadType"].encode()
    signed = b" ".join([b"DSSEv1", str(len(kind)).encode(), kind, str(len(payload)).encode(), payload])
    (folder / "signed").write_bytes(signed)
    (folder / "signature").write_bytes(base64.b64decode(document["signatures"][0]["sig"]))
    (folder / "key.pem").write_bytes(public_key)
    words = ["openssl", "pkeyutl", "-verify", "-pubin", "-rawin", "-inkey", "key.pem", "-in", "signed"]
    done = subprocess.run([*words, "-sigfile", "signature"], cwd=folder, capture_output=True, check=False)
    return done.returncode == 0
