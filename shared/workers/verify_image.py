"""verify_image: a VM booted from the new image, with the spec's verify steps as its job; then, whether it has stopped.

With no steps, an image passes when it boots and its provisioner says that it is done. That is a claim: the order is
given again for it, and the VM must be seen stopped before the image is published.
"""

from __future__ import annotations

from provisioner.protocol import COMPLETED, VERIFY

from .. import resources
from ..build import Build
from ..events import MachineStarted, MachineStopped
from ..factory import Factory
from ..orders import Order
from .machines import planned, start_machine, wait_until_stopped


def verify_image(build: Build, order: Order, factory: Factory) -> MachineStarted | MachineStopped:
    """Make and start the verifying VM, whose reports decide; see one stop that runs and has said that it is done."""
    if not (build.claimed and build.zone):
        return start_machine(build, order, factory, VERIFY)
    machine = resources.machine_name(build.id, order.attempt, VERIFY)
    wait_until_stopped(machine, planned(build).machine.project, build.zone, factory)
    return MachineStopped(
        build_id=build.id,
        event_id=order.fact_id("MachineStopped"),
        time=factory.clock.now(),
        attempt=order.attempt,
        phase=VERIFY,
        how="powered-off",
        claim=COMPLETED,
    )
