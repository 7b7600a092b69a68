"""label_image: publication. The verified image gets its labels and joins its family; the archive gets its name."""

from __future__ import annotations

from .. import resources
from ..build import Build
from ..events import ImageLabelled
from ..factory import Factory
from ..manifest import manifest
from ..orders import Order
from .machines import planned


def label_image(build: Build, order: Order, factory: Factory) -> ImageLabelled:
    """Ensure each fact of publication."""
    plan = planned(build)
    if plan.image.export_to is not None:
        packages = factory.compute.packages(plan.image.project, plan.image.name)
        factory.bucket.publish(resources.staged_export(plan), plan.image.export_to)
        factory.bucket.write(resources.manifest_of(plan.image.export_to), manifest(build, plan, packages))
    # last, since it is what others see: a publication that fails before leaves the family as it was
    factory.compute.label_image(plan.image.project, plan.image.name, plan.image.labels, plan.image.family)
    return ImageLabelled(build_id=build.id, event_id=order.fact_id("ImageLabelled"), time=factory.clock.now())
