"""Requests to retry a build that keeps its boot disk, since no image could be made of it."""

from __future__ import annotations

from dataclasses import replace

from shared.build.build import Build, Outcome, State
from shared.build.limits import Limits
from shared.errors import Permanent
from shared.intake.places import kept_as_deployed
from tests.world import values
from tests.world.intake import SCRIPT, SPEC, Desk


def held(limits: Limits) -> tuple[Desk, Build]:
    """A build whose image could not be made, and what it keeps."""
    desk = Desk(limits)
    desk.put("specs/preload.sh", SCRIPT)
    desk.world.compute.faults["create_image"] = Permanent("403: quota IMAGES is used up")
    first = desk.upload(SPEC)
    while not desk.world.build(first.id).ended:
        desk.world.settle()
        desk.world.tick()
    desk.world.compute.faults.clear()
    return desk, desk.world.build(first.id)


def test_an_image_that_could_not_be_made_is_made_by_a_retry_of_the_disk() -> None:
    desk, first = held(Limits(retry_disk_for=3600.0))
    assert (first.state, desk.world.left()["disks"]) == (State.HELD, [f"gs-{first.id}-a1-boot"])
    begun = desk.publish(retry=first.id)
    assert desk.publish(retry=first.id).id == begun.id
    late = desk.publish(message_id="18", retry=first.id)
    assert f"build {begun.id} has taken over the disk of build {first.id}" in late.reason
    desk.world.finish()
    assert desk.world.build(begun.id).outcome is Outcome.SUCCEEDED
    assert (desk.world.left()["disks"], desk.world.booted) == ([], {f"gs-{first.id}-a1-vm"})


def test_the_disk_of_a_spec_with_secrets_is_not_kept() -> None:
    limits = Limits(retry_disk_for=3600.0, max_keep=3600.0)
    secret = replace(values.plan().steps[0], secrets={"TOKEN": "projects/p/secrets/s/versions/1"})
    assert kept_as_deployed(values.plan(), limits).retry_disk_for == 3600.0
    assert kept_as_deployed(values.plan(steps=(secret,)), limits).retry_disk_for == 0.0
    assert kept_as_deployed(values.plan(verify_steps=(secret,)), limits).retry_disk_for == 0.0
