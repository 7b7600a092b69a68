"""What release 8d52f8c left behind when it was upgraded (see make_fixture.py), as the present code meets it.

Documents, messages and the words of VMs are that release's, byte for byte; only the machines are made anew.
"""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from provisioner.protocol import Job
from shared.build.plan import MachinePlan
from shared.engine.engine import Engine
from shared.gcp.documents import BUILDS, EVENTS, LIVES
from shared.keys import Keys
from shared.ports import Image, MachineRequest, Message, Store
from tests.world.fakes import FakeDisk, FakeMachine
from tests.world.memory_store import MemoryStore, _Document
from tests.world.world import World

RELEASE = Path(__file__).with_name("release_8d52f8c")
GROWN = 12  # GB, that one of the VMs waits for
HOME = "@HOME@"  # what stands for the folder that everything is in


@cache
def text(name: str) -> str:
    return (RELEASE / name).read_text(encoding="utf-8")


def document(name: str) -> Any:
    return json.loads(text(name))


def places() -> dict[str, str]:
    """The builds' ids, by the place at which the upgrade met them."""
    return {entry["place"]: entry["id"] for entry in document("builds.json")}


def waiting() -> list[Message]:
    """All that was in the queues."""
    return [message(found) for entry in document("builds.json") for found in entry["waiting"]]


def message(found: Any) -> Message:
    return Message(found["topic"], found["data"].encode(), found["attributes"], found["ordering_key"])


def firestore() -> dict[str, dict[str, Any]]:
    """The fields of every document, by its path."""
    return {
        path: {key: _field(value) for key, value in fields.items()}
        for path, fields in document("firestore.json").items()
    }


def _field(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if "time" in value:
        return datetime.fromisoformat(value["time"])
    return base64.b64decode(value["bytes"])


def memory_store() -> MemoryStore:
    """A store that holds Firestore's documents, unread."""
    store = MemoryStore()
    documents = firestore()
    for path, fields in documents.items():
        collection, build_id, *event = path.split("/")
        if collection == BUILDS and not event:
            found = {  # they stand in the order in which they were applied
                other.rpartition("/")[2]: event
                for other, event in documents.items()
                if other.startswith(f"{path}/{EVENTS}/")
            }
            events = {event_id: event["document"] for event_id, event in found.items()}
            kinds = {event_id: event["kind"] for event_id, event in found.items()}
            seen = documents[f"{LIVES}/{build_id}"]["last_seen"]
            store._documents[build_id] = _Document(
                *(build_id, fields["document"], fields["state"] == "finished", fields["created"], 1, seen),
                events,
                kinds,
            )
    return store


class Upgraded(World):
    """The world of that release, with the present engine and workers in it."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        self.store = store  # type: ignore[assignment]  # any store will do where no process dies
        self.keys = Keys(bytes.fromhex(text("master.key")))
        self.backend = replace(self.backend, store=store, keys=self.keys)
        self.engine = Engine(store, self.bus, self.clock)
        self._later: dict[str, Any] = {}
        self._restore(document("world.json"))
        self.bus.waiting += waiting()

    def boot(self) -> None:
        """Let VMs of that release say the rest; others are of the present one."""
        for name, machine in list(self.compute.machines.items()):
            told = self._later.get(name)
            disk = self.compute.disks[machine.request.boot_disk]
            if told is None or (machine.waits and disk.gigabytes < GROWN):
                continue
            del self._later[name]
            for word in told["later"]:
                machine.serial[3] += word["line"].encode()
                if word["message"] is not None:
                    self._from_guest(message(word["message"]))
            if told["ends"]:
                machine.stop(told["ends"])
        super().boot()

    def _restore(self, found: Any) -> None:
        self.clock.time = found["time"]
        for entry in found["images"]:
            self.compute.all_images[entry["name"]] = Image(**{**entry, "licenses": tuple(entry["licenses"])})
        for name, entry in found["disks"].items():
            self.compute.disks[name] = FakeDisk(**{**entry, "steps_done": set(entry["steps_done"])})
        for entry in found["machines"]:
            machine = FakeMachine(_request(entry), entry["zone"], entry["status"], entry["how"], entry["waits"])
            machine.serial = {int(port): said.encode() for port, said in entry["serial"].items()}
            self.compute.machines[entry["name"]] = machine
            if entry["later"]:
                self._later[entry["name"]] = entry
            self.booted.add(entry["name"])
        self.bucket.objects.update({uri: data.encode() for uri, data in found["objects"].items()})

    def _is_idle(self) -> bool:
        return not self.store.builds(unfinished=True) and not self.bus.waiting


def _request(entry: Any) -> MachineRequest:
    """What the machine was asked for with, as far as anything asks after it."""
    job = Job(build_id=entry["build_id"], attempt=entry["attempt"], key="", steps=(), phase=entry["phase"])
    return MachineRequest(
        name=entry["name"],
        boot_disk=entry["boot_disk"],
        source_project="local",
        source_image="",
        plan=MachinePlan("local", zones=("full", "here")),
        labels=entry["labels"],
        job=job,
        context=None,
        max_seconds=3600.0,
    )
