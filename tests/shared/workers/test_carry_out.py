"""All workers through carry_out(): called twice, killed anywhere, too late, and with what may and may not pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest

from shared.build.build import Outcome, State
from shared.build.orders import Order, OrderKind
from shared.errors import EnvironmentFault, GoldsmithError, NoSpace, Permanent, PoisonMessage, Transient
from shared.ports import Image, ImageRequest, MachineRequest, ResourceKind
from shared.workers.carry_out import WORKERS, carry_out
from tests.world import values
from tests.world.fakes import FakeCompute
from tests.world.fuse import Died
from tests.world.given_orders import (
    BOOT,
    IMAGE,
    MAKERS,
    STATE_OF,
    VM,
    facts,
    kinds,
    made_by,
    made_image,
    order_of,
    put,
    whole_plan,
    world_at,
)
from tests.world.world import World


@pytest.mark.parametrize("kind", WORKERS)
class TestEveryWorker:
    def test_hazard_7_called_twice_it_does_the_same_and_says_the_same(self, kind: OrderKind) -> None:
        world = world_at(kind)
        carry_out(order_of(world, kind), world.backend)
        left = (world.left(), dict(world.compute.all_images), dict(world.bucket.objects))
        carry_out(order_of(world, kind), world.backend)
        assert (world.left(), dict(world.compute.all_images), dict(world.bucket.objects)) == left
        first, second = facts(world)
        assert first == second
        assert first.event_id == f"o1-{first.kind}"

    def test_killed_at_any_call_and_called_again_it_ends_the_same(self, kind: OrderKind) -> None:
        straight = world_at(kind)
        fuse = straight.burn_at(None)
        carry_out(order_of(straight, kind), straight.backend)
        for call in range(1, fuse.count + 1):
            world = world_at(kind)
            world.burn_at(call)
            with pytest.raises(Died):
                carry_out(order_of(world, kind), world.backend)
            world.burn_at(None)
            carry_out(order_of(world, kind), world.backend)
            assert world.left() == straight.left()
            assert world.compute.all_images == straight.compute.all_images
            assert facts(world)[-1] == facts(straight)[-1]

    def test_an_order_that_the_build_has_moved_past_is_dropped(self, kind: OrderKind) -> None:
        world = world_at(kind)
        put(world, State.EXPORTING if kind == "grow_disk" else State.PROVISIONING)
        before = world.left()
        carry_out(order_of(world, kind), world.backend)
        assert (world.left(), world.bus.waiting) == (before, [])

    def test_an_order_of_another_attempt_is_dropped(self, kind: OrderKind) -> None:
        world = world_at(kind)
        put(world, STATE_OF[kind], attempt=2, outcome=Outcome.FAILED if kind == "clean_up" else None)
        carry_out(replace(order_of(world, kind), attempt=3), world.backend)
        assert world.bus.waiting == []

    def test_an_order_of_no_build_is_poison(self, kind: OrderKind) -> None:
        with pytest.raises(PoisonMessage, match="unknown-1"):
            carry_out(Order("unknown-1", 1, kind, 1), World().backend)


CALLS: list[tuple[OrderKind, str]] = [
    ("create_resources", "create_machine"),
    ("grow_disk", "grow_disk"),
    ("export_image", "create_image"),
    ("export_image", "export_image"),
    ("verify_image", "create_machine"),
    ("label_image", "label_image"),
    ("deprecate_images", "deprecate_image"),
]


def world_before(kind: OrderKind, call: str) -> World:
    """A world in which that order comes to that call: files are written once the image is known."""
    world = world_at(kind)
    if call == "export_image":
        carry_out(order_of(world, kind), world.backend)
        put(world, State.EXPORTING, image=made_image(world))
        world.bus.waiting.clear()
    return world


@pytest.mark.parametrize(("kind", "call"), CALLS)
class TestFaults:
    def test_hazard_5_what_will_not_work_is_a_fact_with_its_text(self, kind: OrderKind, call: str) -> None:
        world = world_before(kind, call)
        world.compute.faults[call] = Permanent("quota CPUS is used up")
        carry_out(order_of(world, kind), world.backend)
        whole = call == "create_image"  # of a disk whose VM was seen stopped
        told = values.order_failed(time=values.NOON, order=kind, reason="quota CPUS is used up", disk_whole=whole)
        assert facts(world) == [told]

    @pytest.mark.parametrize("fault", [NoSpace("the disk is full"), EnvironmentFault("no QEMU"), GoldsmithError("odd")])
    def test_a_lack_of_this_machine_is_a_fact_too(self, kind: OrderKind, call: str, fault: Exception) -> None:
        if kind == "deprecate_images":  # collects the cloud's faults, and lets others out: see below
            call = "images"
        world = world_before(kind, call)
        world.compute.faults[call] = fault
        carry_out(order_of(world, kind), world.backend)
        assert kinds(world) == {"OrderFailed"}

    def test_hazard_5_what_may_pass_is_raised_and_tried_again(self, kind: OrderKind, call: str) -> None:
        world = world_before(kind, call)
        world.compute.faults[call] = Transient("rate limit")
        with pytest.raises(Transient, match="rate limit"):
            carry_out(order_of(world, kind), world.backend)
        assert world.bus.waiting == []
        carry_out(order_of(world, kind), world.backend)
        assert kinds(world) - {"OrderFailed"}

    def test_a_defect_is_never_swallowed(self, kind: OrderKind, call: str) -> None:
        world = world_before(kind, call)
        world.compute.faults[call] = ZeroDivisionError("a defect")
        with pytest.raises(ZeroDivisionError):
            carry_out(order_of(world, kind), world.backend)


class SlowCompute(FakeCompute):
    """The world's, with something that happens just after a thing was made."""

    def __init__(self, world: World, meanwhile: Callable[[], object]) -> None:
        super().__init__(world.clock, world.bucket)
        compute = world.compute
        self.machines, self.disks, self.all_images = compute.machines, compute.disks, compute.all_images
        self._meanwhile = meanwhile

    def create_machine(self, request: MachineRequest) -> str:
        zone = super().create_machine(request)
        self._meanwhile()
        return zone

    def create_image(self, request: ImageRequest) -> Image:
        image = super().create_image(request)
        self._meanwhile()
        return image

    def label_image(self, image: Image, labels: Mapping[str, str]) -> None:
        super().label_image(image, labels)
        self._meanwhile()


class TakenOver(SlowCompute):
    """The world's, with something that happens just before an image is deleted."""

    def delete(self, kind: ResourceKind, name: str, project: str, zone: str, *, image_id: str = "") -> None:
        if kind == "image":
            self._meanwhile()
        super().delete(kind, name, project, zone, image_id=image_id)


class TestRaces:
    @pytest.mark.parametrize("kind", MAKERS)
    @pytest.mark.parametrize("state", [State.CLEANING, State.FINISHED])
    def test_what_was_made_for_a_build_that_ended_meanwhile_is_deleted_again(
        self, kind: OrderKind, state: State
    ) -> None:
        """Cancelled, cleaned up and finished while the worker was creating: no other process knows of it."""
        world = world_at(kind)
        before = world.left()
        slow = SlowCompute(world, lambda: put(world, state, outcome=Outcome.CANCELLED, ledger=()))
        carry_out(order_of(world, kind), replace(world.backend, compute=slow))
        expected = {name: [thing for thing in left if thing not in made_by(kind)] for name, left in before.items()}
        assert world.left() == expected

    @pytest.mark.parametrize("kind", MAKERS)
    def test_an_order_that_is_delivered_after_the_end_makes_nothing(self, kind: OrderKind) -> None:
        world = world_at(kind)
        before = world.left()
        put(world, State.FINISHED, outcome=Outcome.CANCELLED, ledger=())
        carry_out(order_of(world, kind), world.backend)
        carry_out(replace(order_of(world, kind), number=9), world.backend)
        assert world.left() == before
        assert world.bus.waiting == []

    @pytest.mark.parametrize("kind", MAKERS)
    def test_what_a_killed_worker_left_is_found_by_the_next_delivery(self, kind: OrderKind) -> None:
        """Made, killed; cancelled and finished; then the order comes again."""
        world = world_at(kind)
        carry_out(order_of(world, kind), world.backend)
        made = world.left()
        put(world, State.FINISHED, outcome=Outcome.CANCELLED, ledger=())
        carry_out(order_of(world, kind), world.backend)
        assert world.left() == {
            name: [thing for thing in left if thing not in made_by(kind)] for name, left in made.items()
        }

    def test_an_image_that_the_next_build_has_made_under_the_name_meanwhile_stays(self) -> None:
        """The clean-up deletes ours after our look at it, and gives the name to the next build."""
        world = world_at("export_image")
        carry_out(order_of(world, "export_image"), world.backend)
        theirs = replace(world.compute.all_images[IMAGE], id="of the next build")
        put(world, State.FINISHED, outcome=Outcome.CANCELLED, ledger=())
        taken = TakenOver(world, lambda: world.compute.all_images.update({IMAGE: theirs}))
        carry_out(order_of(world, "export_image"), replace(world.backend, compute=taken))
        assert world.compute.all_images[IMAGE] == theirs

    def test_it_is_tried_again_when_it_cannot_be_deleted_yet(self) -> None:
        world = world_at("create_resources")
        carry_out(order_of(world, "create_resources"), world.backend)
        put(world, State.FINISHED, outcome=Outcome.CANCELLED, ledger=())
        world.compute.faults["delete"] = Transient("busy")
        with pytest.raises(Transient, match=VM):
            carry_out(order_of(world, "create_resources"), world.backend)
        carry_out(order_of(world, "create_resources"), world.backend)
        assert world.compute.machines == {}

    def test_a_kept_image_is_never_undone(self) -> None:
        world = world_at("label_image")
        build = put(world, State.PUBLISHING)
        kept = tuple(replace(entry, keep=True) for entry in build.ledger if entry.kind == "image")
        put(world, State.FINISHED, outcome=Outcome.SUCCEEDED, ledger=kept)
        carry_out(order_of(world, "export_image"), world.backend)
        assert IMAGE in world.compute.all_images

    def test_the_vm_of_an_earlier_attempt_is_undone_and_its_disk_is_not(self) -> None:
        world = world_at("export_image")
        put(world, State.PROVISIONING, attempt=2)
        carry_out(order_of(world, "create_resources"), world.backend)
        assert (world.left()["machines"], world.left()["disks"]) == ([], [BOOT])

    @pytest.mark.parametrize("kind", ["create_resources", "verify_image"])
    def test_a_vm_that_is_made_late_for_a_publication_is_undone(self, kind: OrderKind) -> None:
        """A clean-up may have deleted it just before, and the last one comes a day later, maybe."""
        world = world_at(kind)
        slow = SlowCompute(world, lambda: put(world, State.PUBLISHING))
        carry_out(order_of(world, kind), replace(world.backend, compute=slow))
        assert made_by(kind).isdisjoint(world.compute.machines)

    def test_through_the_engine_a_cancelled_build_leaves_nothing_whenever_the_order_comes(self) -> None:
        world = World()
        world.engine.request(values.requested(plan=whole_plan()))
        [order] = world.bus.waiting
        world.bus.waiting.clear()
        world.cancel()
        world.finish()
        world.deliver(order)
        assert world.build().outcome is Outcome.CANCELLED
        assert world.left() == {"machines": [], "disks": [], "images": [], "objects": []}


def test_hazard_3_an_order_that_has_no_worker_is_poison() -> None:
    world = world_at("clean_up")
    put(world, State.FINISHED, outcome=Outcome.FAILED)
    with pytest.raises(PoisonMessage, match="announce"):
        carry_out(order_of(world, "announce"), world.backend)
