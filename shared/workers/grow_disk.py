"""grow_disk: the boot disk of the VM that waits for a larger one.

The VM sees the new size by itself. So nothing has to be told to it, and doing this twice, or after the VM has given up
waiting, does no harm: its next attempt goes on with the disk as it is then.
"""

from __future__ import annotations

from provisioner.protocol import BUILD

from .. import resources
from ..build import Build
from ..events import DiskGrown
from ..factory import Factory
from ..orders import Order
from .machines import planned, zone_of


def grow_disk(build: Build, order: Order, factory: Factory) -> DiskGrown:
    """Make the disk as large as the plan's layout wants it."""
    plan = planned(build)
    gigabytes = resources.grown_gb(plan)
    disk = resources.boot_disk_name(plan.build_id, order.attempt, BUILD)
    factory.compute.grow_disk(disk, plan.machine.project, zone_of(build, BUILD, factory), gigabytes)
    return DiskGrown(
        build_id=build.id,
        event_id=order.fact_id("DiskGrown"),
        time=factory.clock.now(),
        attempt=order.attempt,
        phase=BUILD,
        gigabytes=gigabytes,
    )
