"""verify_image: a VM booted from the new image, with the spec's verify steps as its job.

With no steps, an image passes when it boots and its provisioner says that it is done.
"""

from __future__ import annotations

from provisioner.protocol import VERIFY

from ..build import Build
from ..events import MachineStarted
from ..factory import Factory
from ..orders import Order
from .machines import start_machine


def verify_image(build: Build, order: Order, factory: Factory) -> MachineStarted:
    """Make and start the verifying VM; its reports decide."""
    return start_machine(build, order, factory, VERIFY)
