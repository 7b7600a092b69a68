"""create_resources: the build VM of this attempt and, in the first one, its boot disk."""

from __future__ import annotations

from provisioner.protocol import BUILD

from .. import resources
from ..build import Build
from ..errors import Transient
from ..events import MachineStarted
from ..factory import Factory
from ..orders import Order
from .clean_up import delete_entry
from .machines import start_machine


def create_resources(build: Build, order: Order, factory: Factory) -> MachineStarted:
    """Make and start the build VM, once no earlier one is left that may write to the same disk."""
    current = resources.machine_name(build.id, order.attempt, BUILD)
    for entry in build.ledger:
        if entry.kind == "machine" and entry.name != current and not delete_entry(entry, build, factory):
            raise Transient(f"{entry.name} still has the boot disk that {current} needs")
    return start_machine(build, order, factory, BUILD)
