"""create_resources: the build VM of this attempt and, in the first one, its boot disk."""

from __future__ import annotations

from provisioner.protocol import BUILD

from ..build import Build
from ..events import MachineStarted
from ..factory import Factory
from ..orders import Order
from .machines import start_machine


def create_resources(build: Build, order: Order, factory: Factory) -> MachineStarted:
    """Make and start the build VM."""
    return start_machine(build, order, factory, BUILD, f"o{order.number}-MachineStarted")
