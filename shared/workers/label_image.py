"""label_image: publication, in two stages. Labels, bill of materials and manifest; after the commit, names and family.

    before the commit    labels, bill of materials, manifest: nothing that others look for    ──► ImageLabelled
    after it             the archive's name, the files beside it, then the family             ──► ImagePublished

The engine commits with ImageLabelled, in the same conditional write. Before it a cancellation or the deadline wins;
after it neither counts, and only a refusal can end the build, which takes everything back. The family comes last: it is
what others see. Each effect that others see is preceded by a look at the build.
"""

from __future__ import annotations

import hashlib

from .. import resources
from ..build import Build, PublishedFile
from ..errors import Conflict, GoldsmithError, NotFound, Permanent, Transient
from ..events import Event, ImageLabelled, ImagePublished
from ..factory import Factory
from ..manifest import manifest
from ..orders import Order
from ..plan import Plan
from .bill_of_materials import BillOfMaterials
from .machines import planned
from .undo import refuse_late


def label_image(build: Build, order: Order, factory: Factory) -> Event:
    """Do the stage that the build is in."""
    plan = planned(build)
    if not build.committed:
        files = _prepare(build, plan, factory)
        return ImageLabelled(
            build_id=build.id, event_id=order.fact_id("ImageLabelled"), time=factory.clock.now(), files=files
        )
    _show(build, plan, order, factory)
    return ImagePublished(build_id=build.id, event_id=order.fact_id("ImagePublished"), time=factory.clock.now())


def _prepare(build: Build, plan: Plan, factory: Factory) -> tuple[PublishedFile, ...]:
    """Make all that publication shows, and return the files that it gives their names, the archive first."""
    factory.compute.label_image(plan.image.project, plan.image.name, plan.image.labels)
    bill = BillOfMaterials(build, plan, factory)
    files = [*bill.store()]
    archive = plan.image.export_to
    if archive is not None and build.image is not None and build.image.archive is not None:
        contents = dict(zip(resources.sbom_names(resources.archive_stem(archive)), bill.texts, strict=True))
        contents[resources.manifest_of(archive)] = manifest(build, plan, bill.packages, tuple(contents))
        files[:0] = [
            PublishedFile(archive, resources.staged_export(plan), build.image.archive.sha256),
            *(_stage(name, data, build, factory) for name, data in contents.items()),
        ]
    return tuple(files)


def _stage(name: str, data: bytes, build: Build, factory: Factory) -> PublishedFile:
    staged = resources.staged(name, build.id)
    factory.bucket.write(staged, data)
    return PublishedFile(name, staged, hashlib.sha256(data).hexdigest())


def _show(build: Build, plan: Plan, order: Order, factory: Factory) -> None:
    for file in build.files:
        refuse_late(order, factory)
        if file.moved:
            factory.bucket.publish(file.staged, file.name)
        else:
            _copy(file, build, factory)
    refuse_late(order, factory)
    factory.compute.set_family(plan.image.project, plan.image.name, plan.image.family)


def _copy(file: PublishedFile, build: Build, factory: Factory) -> None:
    """Write the bill of materials where the spec wants it, also over an older one, but not among builds' results.

    There lies what builds of all authors have written, and this function may write over all of it.
    """
    shared = resources.is_in_results(file.name, build)
    try:
        data = factory.bucket.read(file.staged)
        factory.bucket.write_if_generation(file.name, data, "" if shared else _generation(file.name, factory))
    except Transient:
        raise
    except Conflict as error:
        if shared:
            raise Permanent(f"output.sbom.to: {error}; another object is there, so name another one") from error
        raise Transient(f"output.sbom.to: {error}; it is tried again") from error
    except GoldsmithError as error:
        raise Permanent(f"output.sbom.to: {error}") from error


def _generation(uri: str, factory: Factory) -> str:
    try:
        return factory.bucket.read_with_generation(uri)[1]
    except NotFound:
        return ""
