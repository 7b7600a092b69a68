"""What the hygiene check has found, on the way into an image: refused, told, or allowed by the spec."""

from __future__ import annotations

from dataclasses import replace

import pytest

from provisioner.hygiene.hygiene import Finding
from provisioner.protocol import ALLOWED
from shared.build.build import AllowedFinding
from shared.build.events import ImageMade
from shared.build.plan import Allowance
from shared.workers.carry_out import carry_out
from tests.world import values
from tests.world.given_orders import BOOT, IMAGE, facts, order_of, whole_plan, world_at

KEY = Finding("/root/key", "holds a private key", "remove it in the last step")


def test_no_image_is_made_of_a_disk_with_findings() -> None:
    """hygiene: fail; nothing is left behind."""
    world = world_at("export_image")
    world.compute.findings[BOOT] = [KEY]
    carry_out(order_of(world, "export_image"), world.backend)
    [failed] = facts(world)
    reason = "must not be in an image: /root/key holds a private key; remove it in the last step"
    assert (failed.kind, getattr(failed, "reason", "")) == ("OrderFailed", reason)
    assert IMAGE not in world.compute.all_images


def test_no_image_is_made_of_a_disk_that_holds_a_secret() -> None:
    """Whatever the spec says of findings."""
    allow = (Allowance("/root/*", "of the demo"),)
    steps = (replace(whole_plan().steps[0], secrets={"TOKEN": "env:TOKEN"}),)
    world = world_at("export_image", replace(whole_plan(), hygiene="warn", allow=allow, steps=steps))
    world.compute.secret_findings[BOOT] = [Finding("/root/x", "holds the value of a.secrets.TOKEN", "remove it")]
    carry_out(order_of(world, "export_image"), world.backend)
    [failed] = facts(world)
    reason = "must not be in an image: /root/x holds the value of a.secrets.TOKEN; remove it"
    assert (failed.kind, getattr(failed, "reason", "")) == ("OrderFailed", reason)
    assert IMAGE not in world.compute.all_images


def test_findings_that_may_pass_are_told_with_the_image() -> None:
    """hygiene: warn; what the VM has found on itself, and what can be seen in its disk."""
    world = world_at("export_image", replace(whole_plan(), hygiene="warn"))
    world.compute.findings[BOOT] = [KEY]
    for event in (
        values.reported(kind="completed", sequence=9, output="/etc/shadow holds the hash of a password; lock it\n"),
        values.reported(kind="step-failed", sequence=8, step=0, output="what a step said"),
    ):
        stored = world.store.load(values.BUILD_ID)
        world.store.save(stored.build, stored.version, event)
    carry_out(order_of(world, "export_image"), world.backend)
    [exported] = facts(world)
    assert isinstance(exported, ImageMade)
    assert exported.image.findings == (
        "/etc/shadow holds the hash of a password; lock it",
        "/root/key holds a private key; remove it in the last step",
    )


def test_findings_that_the_spec_allows_are_kept_with_its_reasons() -> None:
    """hygiene.allow: what the VM has let pass, and what can be seen in its disk. A claim goes no further."""
    allow = (Allowance("/root/*", "of the demo"), Allowance("/etc/demo.key", "known to all"))
    world = world_at("export_image", replace(whole_plan(), allow=allow))
    world.compute.findings[BOOT] = [KEY]
    stored = world.store.load(values.BUILD_ID)
    told = values.reported(kind="completed", sequence=9, output=ALLOWED + '[1, "/etc/demo.key", "holds a private key"]')
    world.store.save(stored.build, stored.version, told)
    carry_out(order_of(world, "export_image"), world.backend)
    [exported] = facts(world)
    assert isinstance(exported, ImageMade)
    assert exported.image.findings == ()
    assert exported.image.allowed == (
        AllowedFinding("/etc/demo.key", "holds a private key", "known to all"),
        AllowedFinding("/root/key", "holds a private key", "of the demo"),
    )


@pytest.mark.parametrize(
    "line",
    [
        '[0, "/etc/other.key", "holds a private key"]',
        '[7, "/etc/demo.key", "holds a private key"]',
        '["0", "/etc/demo.key", "x"]',
        '[0, 1, "x"]',
        "[" * 100_000,
        "{}",
    ],
)
def test_a_vm_cannot_allow_itself_what_the_spec_does_not(line: str) -> None:
    world = world_at("export_image", replace(whole_plan(), allow=(Allowance("/etc/demo.key", "known to all"),)))
    stored = world.store.load(values.BUILD_ID)
    world.store.save(stored.build, stored.version, values.reported(kind="completed", sequence=9, output=ALLOWED + line))
    carry_out(order_of(world, "export_image"), world.backend)
    [failed] = facts(world)
    assert failed.kind == "OrderFailed"
    assert IMAGE not in world.compute.all_images
