"""grow_disk: the boot disk of the VM that waits for a larger one.

The VM sees the new size by itself. So nothing has to be told to it, and doing this twice, or after the VM has given up
waiting, does no harm: its next attempt goes on with the disk as it is then.
"""

from __future__ import annotations

from provisioner.protocol import BUILD

from .. import resources
from ..build import Build
from ..errors import Transient
from ..events import DiskGrown
from ..factory import Factory
from ..orders import Order
from .machines import find_machine, planned


def grow_disk(build: Build, order: Order, factory: Factory) -> DiskGrown:
    """Make the disk as large as the plan's layout wants it."""
    plan = planned(build)
    gigabytes = resources.grown_gb(plan)
    disk = resources.boot_disk_name(plan.build_id, order.attempt, BUILD)
    factory.compute.grow_disk(disk, plan.machine.project, build.zone or _zone(build, factory), gigabytes)
    return DiskGrown(
        build_id=build.id,
        event_id=order.fact_id("DiskGrown"),
        time=factory.clock.now(),
        attempt=order.attempt,
        phase=BUILD,
        gigabytes=gigabytes,
    )


def _zone(build: Build, factory: Factory) -> str:
    """Find the VM that has asked before its worker could say where it is."""
    found = find_machine(build, BUILD, factory)
    if found is None:
        raise Transient(f"the VM of build {build.id} is in none of the plan's zones, and nobody has said where it is")
    return found.zone
