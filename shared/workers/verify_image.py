"""verify_image: a VM booted from the new image, with the spec's verify steps as its job; then, whether it has stopped.

With no steps, an image passes when it boots and its provisioner says that it is done. That is a claim: the order is
given again for it, and the VM must be seen stopped before the image is published. Of several VMs, each has its orders.
"""

from __future__ import annotations

from provisioner.protocol import COMPLETED, VERIFY

from ..backend import Backend
from ..build import resources
from ..build.build import Build
from ..build.events import MachineStarted, MachineStopped
from ..build.orders import Order
from ..engine.verifiers import as_seen_by
from ..errors import PoisonMessage
from .clean_up import delete_earlier
from .machines import planned, start_machine, wait_until_stopped


def verify_image(build: Build, order: Order, backend: Backend) -> MachineStarted | MachineStopped:
    """Make and start a verifying VM, whose reports decide; see one stop that runs and has said that it is done."""
    plan, seen = planned(build), as_seen_by(build, order.machine)
    try:
        number = plan.verifier_number(order.machine)
    except ValueError as error:
        raise PoisonMessage(str(error)) from error
    if not (seen.claimed and seen.zone):
        delete_earlier(build, order.attempt, VERIFY, backend, number)
        return start_machine(seen, order, backend, VERIFY)
    machine = resources.machine_name(build.id, order.attempt, VERIFY, number)
    wait_until_stopped(machine, plan.machine.project, seen.zone, backend)
    return MachineStopped(
        build_id=build.id,
        event_id=order.fact_id("MachineStopped"),
        time=backend.clock.now(),
        attempt=order.attempt,
        phase=VERIFY,
        how="powered-off",
        claim=COMPLETED,
        machine=order.machine,
    )
