"""Worlds in which a build is just where an order is given, with all that was made before: what workers meet."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from provisioner.protocol import DiskLayout
from shared.backend import Backend
from shared.build import resources
from shared.build.build import ArchiveRecord, Build, ImageRecord, Outcome, State
from shared.build.events import Event, ImageMade, PublicationStaged
from shared.build.orders import Order, OrderKind
from shared.build.plan import Deprecation, Plan
from shared.engine.messages import read_event_message
from shared.ports import Image
from shared.workers.carry_out import carry_out
from tests.world import values
from tests.world.world import World

ARCHIVE = "out/hello.tar.gz"
IMAGE = "hello-20261120"
VM, BOOT = f"gs-{values.BUILD_ID}-a1-vm", f"gs-{values.BUILD_ID}-a1-boot"
VERIFY = f"gs-{values.BUILD_ID}-a1-verify"
MAKERS: list[OrderKind] = ["create_resources", "export_image", "verify_image", "label_image"]
AT: dict[OrderKind, dict[str, object]] = {
    "clean_up": {"outcome": Outcome.FAILED},
    "deprecate_images": {"outcome": Outcome.SUCCEEDED, "committed": values.NOON, "retiring": True},
}
STATE_OF: dict[OrderKind, State] = {
    "create_resources": State.PREPARING,
    "grow_disk": State.PROVISIONING,
    "export_image": State.EXPORTING,
    "verify_image": State.VERIFYING,
    "label_image": State.PUBLISHING,
    "deprecate_images": State.CLEANING,
    "clean_up": State.CLEANING,
}


def whole_plan(**image: object) -> Plan:
    plan = values.plan()
    labels = {"goldsmith-build": plan.build_id, "goldsmith-source": plan.source.name}
    made = replace(plan.image, labels=labels, export_to=ARCHIVE)
    with_all = {"deprecate_old": Deprecation(ttl_seconds=60.0), **image}
    zones = replace(plan.machine, zones=("full", "here"), scratch_gb=10)
    layout = DiskLayout(oem_size=1 << 30, disk_size=12 << 30)
    return replace(plan, image=replace(made, **with_all), verify_steps=plan.steps, machine=zones, layout=layout)  # type: ignore[arg-type]  # by name


def older(name: str, age: float, **changes: object) -> Image:
    default = Image("local", name, f"sha256-{name}", created=values.NOON - age, family="hello")
    return replace(default, **changes)  # type: ignore[arg-type]  # fields of Image, by name


def world_at(kind: OrderKind, plan: Plan | None = None) -> World:
    """A world in which a build is just where that order is given, with all that was made before."""
    world = World()
    world.compute.all_images["old"] = older("old", 1000)
    world.engine.request(values.requested(plan=plan or whole_plan()))
    world.bus.waiting.clear()
    if kind != "create_resources":
        carry_out(order_of(world, "create_resources"), world.backend)
        world.boot()
    if kind not in ("create_resources", "grow_disk"):
        put(world, State.PROVISIONING)
        carry_out(order_of(world, "grow_disk"), world.backend)
        world.boot()
    put(world, State.EXPORTING)
    if kind not in ("create_resources", "grow_disk", "export_image"):
        carry_out(order_of(world, "export_image"), world.backend)
        made = [fact.image for fact in facts(world) if isinstance(fact, ImageMade)]
        if made:  # then its files are written
            put(world, State.EXPORTING, image=made[-1])
            carry_out(order_of(world, "export_image"), world.backend)
    if kind == "clean_up":
        put(world, State.VERIFYING)
        carry_out(order_of(world, "verify_image"), world.backend)
        world.boot()
    if kind == "deprecate_images":
        world.compute.set_family("local", IMAGE, "hello")
    put(world, STATE_OF[kind], **AT.get(kind, {}))
    world.bus.waiting.clear()
    return world


def commit(world: World, backend: Backend | None = None, **changes: object) -> World:
    """Carry the first stage of a publication out and commit, as the engine does; not where it fails."""
    carry_out(order_of(world, "label_image"), backend or world.backend)
    [fact] = facts(world)
    if isinstance(fact, PublicationStaged):
        world.bus.waiting.clear()
        put(world, State.PUBLISHING, **{"committed": values.NOON, "files": fact.files, **changes})
    return world


def publish(world: World, backend: Backend | None = None, **changes: object) -> World:
    """Carry both stages of a publication out."""
    if world.store.load(values.BUILD_ID).build.committed == 0:
        commit(world, backend, **changes)
    if not world.bus.waiting:
        carry_out(order_of(world, "label_image", 2), backend or world.backend)
    return world


def put(world: World, state: State, **changes: object) -> Build:
    """Write the build as it is in a state, with the whole ledger."""
    stored = world.store.load(values.BUILD_ID)
    plan = stored.build.plan
    assert plan is not None
    ledger = tuple(entry for kind in MAKERS for entry in resources.of_order(plan, kind, 1))
    image = None if state is State.EXPORTING else made_image(world)  # it is known from the first order on
    now = {"state": state, "ledger": ledger, "outbox": (), "zone": "here", "image": image, **changes}
    build: Build = replace(stored.build, **now)  # type: ignore[arg-type]  # fields of Build, by name
    world.store.save(build, stored.version)
    return build


def made_image(world: World) -> ImageRecord:
    """The image's record, with the archive that export_image has staged."""
    data = world.bucket.objects.get(f"out/.{values.BUILD_ID}.hello.tar.gz")
    digest = hashlib.sha256(data).hexdigest() if data is not None else ""
    archive = ArchiveRecord(1000, digest, "b2" * 32, "0" * 8, 10 << 30, 600 << 20) if digest else None
    return values.image_record(id=f"sha256-{IMAGE}", archive=archive)


def claim(world: World, zone: str = "") -> None:
    """Let the verifying VM have said that it is done, before or after its zone is known."""
    put(world, State.VERIFYING, zone=zone, claimed=True)


def order_of(world: World, kind: OrderKind, number: int = 1) -> Order:
    return Order(values.BUILD_ID, number, kind, 1)


def facts(world: World) -> list[Event]:
    return [read_event_message(m) for m in world.bus.waiting if m.topic == "build-events"]


def kinds(world: World) -> set[str]:
    return {event.kind for event in facts(world)}


def made_by(kind: OrderKind) -> set[str]:
    return {entry.name for entry in resources.of_order(whole_plan(), kind, 1)}
