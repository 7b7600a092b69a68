"""Writes what a release leaves behind when it is upgraded: PYTHONPATH=. python make_fixture.py OUT, in its checkout.

    OUT/builds.json   each build's place, and the messages that wait for it
    OUT/world.json    machines with all that they will still say, disks, images, objects, the clock
    OUT/firestore.json   builds, events and lives as Firestore keeps them
    OUT/catalogue.json   the images' records, as the catalogue of one machine keeps them
    OUT/state.sql     the same builds and messages as SQLite keeps them
    OUT/master.key    in hex

Everything is made by the code of the checkout that this runs in, words of VMs and their signatures too. It is run once
for a release; what it imports is that release's, so that nothing here is typed.
"""

from __future__ import annotations

import base64
import hashlib
import json
import sqlite3
import sys
import tempfile
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any

world_module: Any = import_module("tests.world")
values: Any = import_module("tests.values")
fakes: Any = import_module("tests.fakes")
plan_module: Any = import_module("shared.plan")
build_module: Any = import_module("shared.build")
documents: Any = import_module("shared.gcp.documents")
database: Any = import_module("shared.local.database")
local_store: Any = import_module("shared.local.store")
local_bus: Any = import_module("shared.local.bus")
protocol: Any = import_module("provisioner.protocol")
catalogues: Any = import_module("shared.local.catalogue")
watching: Any = import_module("shared.watch")
ports: Any = import_module("shared.ports")

HOME = "@HOME@"  # stands for the folder that the reader puts everything into

_Guest: Any = world_module.Guest


@dataclass
class Told(_Guest):  # type: ignore[misc]  # of another release
    """A guest that is overtaken by the upgrade: it says its first words before, all others after it."""

    words: int = 1000

    def run(self, machine: Any, disk: Any, publish: Any) -> bool:
        if machine.request.job.phase != self.phase:
            return bool(super().run(machine, disk, publish))
        said: list[Any] = []
        begin = len(machine.serial[3])
        done: bool = super().run(machine, disk, said.append)
        lines = machine.serial[3][begin:].splitlines(keepends=True)
        everything = said if not self.offline else [None] * len(lines)
        for message in everything[: self.words]:
            if message is not None:
                publish(message)
        machine.later = [
            {"message": as_json(message), "line": line.decode()}
            for message, line in zip(everything[self.words :], lines[self.words :], strict=True)
        ]
        if machine.later:
            machine.serial[3] = machine.serial[3][:begin] + b"".join(lines[: self.words])
            machine.ends, machine.status, machine.how = machine.how, "running", None
        return done


def as_json(message: Any) -> Any:
    """A message of the bus."""
    return (
        None
        if message is None
        else {**asdict(message), "data": message.data.decode(), "attributes": dict(message.attributes)}
    )


@dataclass
class Place:
    """Where the upgrade meets one build."""

    name: str
    until: Callable[[Any, Any], bool]  # of the build and the world, looked at after every message
    guest: Any = None
    change: Callable[[Any], Any] = lambda plan: plan
    unsent: bool = False  # the process that began it died before it had published the first order
    cancelled: bool = False  # a person has asked for its end, and nobody has heard yet


def has(state: str, event: str = "") -> Callable[[Any, Any], bool]:
    """In this state, with an event of this kind recorded."""

    def holds(build: Any, world: Any) -> bool:
        return build.state == state and (not event or event in {e.kind for e in world.store.events(build.id)})

    return holds


def waits(state: str, kind: str, attempt: int = 1) -> Callable[[Any, Any], bool]:
    """In this state, with an order or a fact of this kind still in the queue."""

    def holds(build: Any, world: Any) -> bool:
        found = [m for m in world.bus.waiting if m.attributes["build_id"] == build.id]
        queued = any(kind in (m.attributes.get("order"), m.attributes.get("kind")) for m in found)
        return bool(build.state == state and queued and build.attempt == attempt)

    return holds


def with_image(plan: Any, **changes: Any) -> Any:
    return replace(plan, image=replace(plan.image, **changes))


def deprecating(plan: Any) -> Any:
    return with_image(plan, deprecate_old=plan_module.Deprecation(ttl_seconds=86400.0, keep=0))


def verifying(plan: Any) -> Any:
    return replace(plan, verify_steps=plan.steps)


def growing(plan: Any) -> Any:
    layout = protocol.DiskLayout(oem_size=1 << 30, disk_size=12 << 30)
    return with_image(replace(plan, layout=layout), disk_size_gb=12)


def plain(plan: Any) -> Any:
    return with_image(plan, export_to=None, family=None)


PLACES = (
    Place("preparing", waits("preparing", "create_resources")),
    Place("preparing-unsent", has("preparing"), unsent=True),
    Place("preparing-cancelled", waits("preparing", "create_resources"), cancelled=True),
    Place("preparing-again", waits("preparing", "create_resources", 2), Told(ends_at=0, ends="preempted")),
    Place("provisioning", has("provisioning"), Told(words=3)),
    Place("provisioning-heard", has("provisioning", "Reported"), Told(words=4)),
    Place("provisioning-offline", has("provisioning"), Told(words=3, offline=True)),
    Place("provisioning-grows", waits("provisioning", "grow_disk"), Told(), change=growing),
    Place("provisioning-fails", has("provisioning"), Told(words=2, fails_at=0)),
    Place("exporting", waits("exporting", "export_image")),
    Place("exporting-done", waits("exporting", "ImageExported"), change=deprecating),
    Place(
        "verifying",
        lambda build, _world: build.state == "verifying" and build.zone != "",
        Told(words=2, phase="verify"),
        change=verifying,
    ),
    Place("verifying-ordered", waits("verifying", "verify_image"), change=verifying),
    Place("publishing", waits("publishing", "label_image"), change=deprecating),
    Place("publishing-cancelled", waits("publishing", "label_image"), cancelled=True),
    Place("publishing-labelled", waits("publishing", "ImageLabelled")),
    Place("publishing-told", waits("publishing", "ImageLabelled"), change=deprecating),
    Place("publishing-deprecates", waits("publishing", "deprecate_images"), change=deprecating),
    Place("publishing-deprecated", waits("publishing", "ImagesDeprecated"), change=deprecating),
    Place("publishing-too-late", waits("publishing", "deprecate_images"), change=deprecating, cancelled=True),
    Place("cleaning", waits("cleaning", "clean_up"), change=deprecating),
    Place("cleaning-failed", waits("cleaning", "clean_up"), Told(fails_at=0)),
    Place("cleaning-cleaned", waits("cleaning", "CleanedUp")),
    Place("finished", lambda build, _world: bool(build.finished), change=deprecating),
    Place("finished-failed", lambda build, _world: bool(build.finished), Told(fails_at=0)),
    Place("finished-plain", lambda build, world: bool(build.finished) and not queue(world, build), change=plain),
)


def queue(world: Any, build: Any) -> list[Any]:
    """All messages that wait for a build."""
    return [message for message in world.bus.waiting if message.attributes["build_id"] == build.id]


def plan_of(name: str, change: Callable[[Any], Any]) -> Any:
    digest = hashlib.sha256(name.encode()).hexdigest()
    build_id = f"{name}-{digest[:12]}"
    made = values.plan(build_id=build_id, request=digest, name=name, content_digest=digest)
    labels = {"team": "infra", "goldsmith-build": build_id, "goldsmith-digest": digest[:40]}
    image = replace(
        made.image, name=f"{name}-20261120", family=name, labels=labels, export_to=f"{HOME}/out/{name}.tar.gz"
    )
    machine = replace(made.machine, zones=("full", "here"))
    return change(replace(made, image=image, machine=machine))


def begin(world: Any, place: Place) -> str:
    """Begin a build and lead it to its place; give its id."""
    world.guest = place.guest or world_module.Guest()
    plan = plan_of(place.name, place.change)
    older = f"{place.name}-20261101"
    world.compute.all_images[older] = replace(values_image(older, place.name), created=world.clock.time - 86400)
    event = values.requested(plan=plan, result=f"{HOME}/results/{place.name}.json", workflow=workflow(place.name))
    if place.unsent:
        world.burn_at(3)  # the first call of the bus
        world.survives(lambda: world.engine.request(event))
        world.burn_at(None)
        return str(plan.build_id)
    world.engine.request(event)
    for _message in range(100):
        if place.until(world.build(plan.build_id), world):
            break
        if world.bus.waiting:
            world.handle()
            world.boot()
        else:
            minute(world, plan.build_id)
    else:
        raise AssertionError(f"{place.name} is not reached: {world.build(plan.build_id)}")
    if place.cancelled:
        world.cancel(plan.build_id)
    return str(plan.build_id)


def minute(world: Any, build_id: str) -> None:
    """Let a minute pass for one build."""
    world.clock.time += 60.0
    world.engine.tick(build_id, heard=watching.watch(world.build(build_id), world.factory))


def workflow(name: str) -> Any:
    """One of the builds is of a workflow."""
    if name != "exporting":
        return None
    sibling = build_module.Sibling(name)
    return build_module.WorkflowPart(
        f"gs://bucket/specs/{name}/cloudbuild.yaml",
        "17",
        name,
        f"{HOME}/results/{name}.json",
        0,
        (sibling,),
        {"_A": "1"},
    )


def values_image(name: str, family: str) -> Any:
    return ports.Image("local", name, f"sha256-{name}", 0.0, family=family, labels={"goldsmith-build": "an-older-one"})


def main(out: Path) -> None:
    """Lead every build to its place, one after the other, and write all of it."""
    world = world_module.World()
    waiting: dict[str, list[Any]] = {}
    places = {}
    for place in PLACES:
        build_id = begin(world, place)
        places[place.name] = build_id
        waiting[build_id], world.bus.waiting = list(world.bus.waiting), []
        world.clock.time += 1
    rejected = replace(
        values.rejected(), build_id="rejected-0123456789ab", name="rejected", result=f"{HOME}/results/rejected.json"
    )
    world.engine.request(rejected)
    places["rejected"], waiting[rejected.build_id] = rejected.build_id, list(world.bus.waiting)
    out.mkdir(parents=True, exist_ok=True)
    write(
        out / "builds.json",
        [
            {"place": name, "id": build_id, "waiting": [as_json(m) for m in waiting[build_id]]}
            for name, build_id in places.items()
        ],
    )
    write(out / "world.json", cloud(world))
    write(out / "firestore.json", firestore(world))
    write(out / "catalogue.json", catalogue(world))
    (out / "state.sql").write_text(sqlite(world, waiting))
    (out / "master.key").write_text(world_module.MASTER.hex() + "\n")


def write(path: Path, document: Any) -> None:
    path.write_text(json.dumps(document, indent=1) + "\n")


def cloud(world: Any) -> dict[str, Any]:
    """What is there beside the documents."""
    compute = world.compute
    return {
        "time": world.clock.time,
        "machines": [machine_json(name, machine, world) for name, machine in compute.machines.items()],
        "disks": {
            name: {
                "zone": disk.zone,
                "labels": dict(disk.labels),
                "source": disk.source,
                "gigabytes": disk.gigabytes,
                "steps_done": sorted(disk.steps_done),
                "sequence": disk.sequence,
            }
            for name, disk in compute.disks.items()
        },
        "images": [{**asdict(image), "labels": dict(image.labels)} for image in compute.all_images.values()],
        "objects": {uri: data.decode() for uri, data in world.bucket.objects.items() if "finished" not in uri},
    }


def machine_json(name: str, machine: Any, world: Any) -> dict[str, Any]:
    request = machine.request
    future = machine
    if machine.waits:  # for a larger disk: what it says once it has that
        future, disk = deepcopy(machine), deepcopy(world.compute.disks[request.boot_disk])
        disk.gigabytes = 100
        Told(words=0).run(future, disk, lambda _message: None)
    return {
        "name": name,
        "zone": machine.zone,
        "boot_disk": request.boot_disk,
        "labels": dict(request.labels),
        "build_id": request.job.build_id,
        "attempt": request.job.attempt,
        "phase": request.job.phase,
        "status": machine.status,
        "how": machine.how,
        "serial": {str(port): text.decode() for port, text in machine.serial.items()},
        "later": getattr(future, "later", []),
        "ends": getattr(future, "ends", None),
        "waits": machine.waits,
    }


def firestore(world: Any) -> dict[str, Any]:
    """Every document by its path."""
    found = {}
    for build in world.store.builds():
        found[f"builds/{build.id}"] = plain_fields({**documents.build_fields(build), documents.WRITES: build.orders})
        found[f"lives/{build.id}"] = plain_fields(documents.life_fields(build))
        for event in world.store.events(build.id):
            found[f"builds/{build.id}/events/{event.event_id}"] = plain_fields(documents.event_fields(event))
    return found


def catalogue(world: Any) -> dict[str, str]:
    """The images' records, of blank disks."""
    with tempfile.TemporaryDirectory() as folder:
        disk = Path(folder) / "disk"
        disk.write_bytes(bytes(1 << 20))
        kept = catalogues.Catalogue(Path(folder), world.clock)
        for image in world.compute.all_images.values():
            world.clock.time = image.created
            kept.add(disk, image.name, family=image.family, labels=image.labels, source_disk=image.source_disk)
            if image.replacement:
                kept.deprecate(image.name, image.replacement, image.deletes_at)
        return {path.parent.name: path.read_text() for path in sorted(Path(folder).glob("images/*/image.json"))}


def plain_fields(fields: dict[str, Any]) -> dict[str, Any]:
    """Fields of a document, as JSON can have them."""
    return {key: shown(value) for key, value in fields.items()}


def shown(value: Any) -> Any:
    if isinstance(value, datetime):
        return {"time": value.isoformat()}
    return {"bytes": base64.b64encode(value).decode()} if isinstance(value, bytes) else value


def sqlite(world: Any, waiting: dict[str, list[Any]]) -> str:
    """A database that holds the same, as SQL."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state.db"
        with database.Database(path) as opened:
            store, bus = local_store.LocalStore(opened), local_bus.LocalBus(opened)
            for build in reversed(world.store.builds()):
                first, *others = world.store.events(build.id)
                store.create(build, first)
                for number, event in enumerate(others, 1):
                    store.save(build, str(number), event)
                store.touch(build.id, build.last_seen)
            for found in waiting.values():
                for message in found:
                    bus.publish(message)
            bus.close()
            settings = [
                f"PRAGMA {name} = {opened.read(f'PRAGMA {name}')[0][0]};" for name in ("application_id", "user_version")
            ]
        connection = sqlite3.connect(path)
        try:
            return "\n".join([*connection.iterdump(), *settings]) + "\n"
        finally:
            connection.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
