"""The consoles of a build's VMs as a person's terminal reads them: while they run, and when they are gone."""

from __future__ import annotations

from dataclasses import replace

from shared.build.build import Build, Outcome, State
from shared.engine.history import Followed
from shared.runtime.terminal import CloudConsole, machines
from tests.world import values
from tests.world.given_orders import VM, put, whole_plan, world_at
from tests.world.world import World


class Console(CloudConsole):
    """Reads from a world in memory."""

    def __init__(self, world: World) -> None:
        self.followed = Followed(world.store, values.BUILD_ID)
        super().__init__(self.followed, world.compute, world.bucket, "logs/" + values.BUILD_ID)

    def look(self, world: World) -> None:
        """Have the build read, as a new event does."""
        version = world.store.load(values.BUILD_ID).version
        world.store.save(world.store.load(values.BUILD_ID).build, version, values.machine_stopped())
        self.followed.look()


def test_it_reads_on_where_it_ended() -> None:
    world = world_at("export_image")
    console = Console(world)
    world.compute.machines[VM].serial[1] = b"one\n"
    assert console.read() == b"one\n"
    assert console.read() == b""
    world.compute.machines[VM].serial[1] = b"one\ntwo\n"
    assert console.read() == b"two\n"


def test_the_stored_log_goes_on_when_the_vm_is_gone() -> None:
    world = world_at("export_image")
    console = Console(world)
    world.compute.machines[VM].serial[1] = b"one\n"
    assert console.read() == b"one\n"
    del world.compute.machines[VM]
    assert console.read() == b""
    world.bucket.objects[f"logs/{values.BUILD_ID}/{VM}.log"] = b"one\ntwo\n"
    put(world, State.FINISHED, outcome=Outcome.FAILED)
    console.look(world)
    assert console.read() == b"two\n"
    assert console.read() == b""


def test_every_attempt_has_a_vm_and_a_rejected_build_none() -> None:
    build: Build = values.build(plan=whole_plan(), attempt=2)
    assert [name.removeprefix(f"gs-{build.id}-") for name in machines(build)] == [
        "a1-vm",
        "a2-vm",
        "a1-verify",
        "a2-verify",
    ]
    assert machines(replace(build, plan=None)) == []
