"""label_image: publication. The verified image gets its labels and joins its family; the archive gets its name."""

from __future__ import annotations

from .. import resources
from ..build import Build
from ..events import ImageLabelled
from ..factory import Factory
from ..manifest import manifest
from ..orders import Order
from .bill_of_materials import BillOfMaterials
from .machines import planned


def label_image(build: Build, order: Order, factory: Factory) -> ImageLabelled:
    """Ensure each fact of publication."""
    plan = planned(build)
    bill = BillOfMaterials(build, plan, factory)
    archive = plan.image.export_to
    if archive is not None:
        factory.bucket.publish(resources.staged_export(plan), archive)
        bill.store_beside(archive)
        written = manifest(build, plan, bill.packages, resources.sbom_names(resources.archive_stem(archive)))
        factory.bucket.write(resources.manifest_of(archive), written)
    bill.store()
    # last, since it is what others see: a publication that fails before leaves the family as it was
    factory.compute.label_image(plan.image.project, plan.image.name, plan.image.labels, plan.image.family)
    return ImageLabelled(build_id=build.id, event_id=order.fact_id("ImageLabelled"), time=factory.clock.now())
