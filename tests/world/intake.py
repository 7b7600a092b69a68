"""An intake over an honest world, what is uploaded to it, and what comes of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from shared.build.build import Build, Outcome, State
from shared.build.limits import NO_LIMITS, Limits
from shared.build.plan import Plan
from shared.intake.intake import Intake
from shared.ports import Image
from tests.world import values
from tests.world.uploaded import MemoryObjects
from tests.world.world import World

BUCKET = "goldsmith-test"
SPEC = """\
name: hello
source: {project: my-images, family: debian-12}
parameters: {greeting: hello}
steps:
  - name: greet
    action: run-script
    inputs: {script: preload.sh, env: {GREETING: "${greeting}"}}
context: .
"""
PLAIN = """\
name: hello
source: {project: my-images, family: debian-12}
steps: []
"""
SCRIPT = "echo hello\n"
SOURCE = Image("my-images", "debian-12-1", "4711", created=values.NOON, family="debian-12")


@dataclass(frozen=True)
class Place:
    """Where everything is in these tests."""

    project: str = "my-project"
    bucket: str = BUCKET
    zones: tuple[str, ...] = ("us-central1-a", "us-central1-b")
    vm_service_account: str = "vm@my-project.iam.gserviceaccount.com"
    secure_boot: bool = False
    maker_image: str = "projects/my-images/global/images/family/debian-12"
    limits: Limits = NO_LIMITS


class Desk:
    """An intake over an honest world."""

    def __init__(self, limits: Limits = NO_LIMITS) -> None:
        self.world = World(concurrency=limits.concurrency)
        self.world.compute.all_images[SOURCE.name] = SOURCE
        self.objects = MemoryObjects()
        self.intake = self.intake_with(limits)

    def intake_with(self, limits: Limits) -> Intake:
        """An intake of the same deployment under other limits."""
        return Intake(self.world.backend, self.objects, Place(limits=limits))

    def put(self, name: str, data: bytes | str, metadata: dict[str, str] | None = None) -> str:
        return self.objects.put(f"gs://{BUCKET}/{name}", data, metadata)

    def upload(self, text: bytes | str, name: str = "specs/hello.yaml", **metadata: str) -> Build:
        """Upload a spec and have it taken."""
        generation = self.put(name, text, {key.replace("_", "-"): value for key, value in metadata.items()})
        [build] = self.intake.uploaded(name, generation)
        return build

    def publish(self, message_id: str = "17", **request: Any) -> Build:
        [build] = self.intake.published(json.dumps(request).encode(), message_id)
        return build

    def made(self) -> int:
        """How many builds there are."""
        return len(self.world.store.builds())


def planned(build: Build) -> Plan:
    assert build.plan is not None, build.reason
    return build.plan


def reason(build: Build) -> str:
    """Why a request was rejected, which ends before anything is made."""
    assert (build.state, build.outcome, build.plan, build.ledger) == (State.CLEANING, Outcome.FAILED, None, ())
    return build.reason
