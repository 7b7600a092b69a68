"""Sets the labels of a build's image: of several deliveries of one order, the late ones change nothing any more.

look at the image ── look at the build ── set, if the labels are still those of the first look
"""

from __future__ import annotations

from collections.abc import Mapping

from ..backend import Backend
from ..build.build import Build
from ..build.orders import Order
from ..errors import Permanent, Transient
from ..ports import Image
from .machines import planned
from .undo import is_stale, load


def relabel(labels: Mapping[str, str], build: Build, order: Order, backend: Backend) -> Image:
    """Set the labels of a build's image, and return it as it was before.

    Permanent when it is gone, or another one is in its place. Transient when the build has moved past what it was when
    the order's delivery began, or the labels have changed since our look.
    """
    image = planned(build).image
    found = backend.compute.image(image.project, image.name)
    if found is None or build.image is None or found.id != build.image.id:
        raise Permanent(f"image {image.name} of project {image.project} is gone; build again")
    if dict(found.labels) == dict(labels):
        return found
    now = load(order, backend)
    if now.outcome is not None or now.committed != build.committed or is_stale(order, now):
        raise Transient(f"build {build.id} is {now.state}, which this delivery of {order.kind} comes too late for")
    backend.compute.label_image(found, labels)
    return found
