"""create_resources: the build VM of this attempt and, in the first one, its boot disk."""

from __future__ import annotations

from provisioner.protocol import BUILD

from ..backend import Backend
from ..build.build import Build
from ..build.events import MachineStarted
from ..build.orders import Order
from .clean_up import delete_earlier
from .machines import start_machine


def create_resources(build: Build, order: Order, backend: Backend) -> MachineStarted:
    """Make and start the build VM, once no earlier one is left that may write to the same disk."""
    delete_earlier(build, order.attempt, BUILD, backend)
    return start_machine(build, order, backend, BUILD)
