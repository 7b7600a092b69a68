"""The VMs of a build: whether one may still be made."""

from __future__ import annotations

from shared.build.build import ImageDocument, Revocation
from shared.workers.carry_out import carry_out
from tests.world import values
from tests.world.given_orders import facts, order_of, whole_plan, world_at


def test_no_vm_is_made_of_a_source_that_was_revoked_since() -> None:
    world, source, build_id = world_at("create_resources"), whole_plan().source, "other-0123456789ab"
    revoked = Revocation("its sshd takes any password", values.NOON)
    document = ImageDocument(
        source.project, source.name, build_id, "c1", state="published", id=source.id, revoked=revoked
    )
    world.store.create(values.build(id=build_id), values.requested(build_id=build_id), document)
    carry_out(order_of(world, "create_resources"), world.backend)
    (told,) = facts(world)
    reason = getattr(told, "reason", "")
    assert "was revoked at 2026-11-20 12:00:00Z: its sshd takes any password; name another image" in reason
    assert not world.compute.machines
