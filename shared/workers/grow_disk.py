"""grow_disk: the boot disk of the VM that waits for a larger one.

The VM sees the new size by itself. So nothing has to be told to it, and doing this twice, or after the VM has given up
waiting, does no harm: its next attempt goes on with the disk as it is then.
"""

from __future__ import annotations

from provisioner.protocol import BUILD

from ..backend import Backend
from ..build import resources
from ..build.build import Build
from ..build.events import DiskGrown
from ..build.orders import Order
from .machines import planned, zone_of


def grow_disk(build: Build, order: Order, backend: Backend) -> DiskGrown:
    """Make the disk as large as the plan's layout wants it."""
    plan = planned(build)
    gigabytes = resources.grown_gb(plan)
    disk = resources.boot_disk_name(plan.build_id, order.attempt, BUILD)
    backend.compute.grow_disk(disk, plan.machine.project, zone_of(build, BUILD, backend), gigabytes)
    return DiskGrown(
        build_id=build.id,
        event_id=order.fact_id("DiskGrown"),
        time=backend.clock.now(),
        attempt=order.attempt,
        phase=BUILD,
        gigabytes=gigabytes,
    )
