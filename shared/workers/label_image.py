"""label_image: publication, in two stages. Labels, bill of materials and manifest; after the commit, names and family.

    before the commit    labels, bill of materials, manifest: nothing that others look for    ──► PublicationStaged
    after it             the archive's name, the files beside it, our own labels taken off where the spec does not
                         want them, then the family                                           ──► ImagePublished
    when that fails      all of it back again                                                 ──► PublicationWithdrawn

The engine commits with PublicationStaged, in the same conditional write. Before it a cancellation or the deadline wins;
after it neither counts, and only a refusal can end the build, or a fault that has not passed after a day; then all is
taken back, by this function, since its account alone may write to where a spec's `output.sbom.to` is. The family comes
last: it is what others see. Each effect that others see is preceded by a look at the build.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import PurePosixPath

from ..backend import Backend
from ..build import resources
from ..build.build import Build, ImageRecord, PublishedFile
from ..build.events import Event, ImagePublished, PublicationStaged, PublicationWithdrawn
from ..build.export_formats import GCE, checksum_line
from ..build.orders import Order
from ..build.plan import Plan
from ..engine.manifest import manifest
from ..engine.script_table import scripts_of
from ..errors import Conflict, GoldsmithError, NotFound, Permanent, Transient
from ..ownership import revocation_of, why_for_promotions_alone
from ..provenance.of_build import statement_about, statement_of, states_the_same
from .bill_of_materials import BillOfMaterials
from .files.stage import is_shown, stage, staged_content
from .machines import planned
from .relabel import relabel
from .undo import refuse_late
from .withdraw import withdraw


def label_image(build: Build, order: Order, backend: Backend) -> Event:
    """Do the stage that the build is in."""
    plan = planned(build)
    if build.outcome is not None:
        left = withdraw(build, backend).left
        return PublicationWithdrawn(
            build_id=build.id, event_id=order.fact_id("PublicationWithdrawn"), time=backend.clock.now(), left=left
        )
    if not build.committed:
        files = _prepare(build, plan, order, backend)
        return PublicationStaged(
            build_id=build.id, event_id=order.fact_id("PublicationStaged"), time=backend.clock.now(), files=files
        )
    _show(build, plan, order, backend)
    return ImagePublished(build_id=build.id, event_id=order.fact_id("ImagePublished"), time=backend.clock.now())


def _prepare(build: Build, plan: Plan, order: Order, backend: Backend) -> tuple[PublishedFile, ...]:
    """Make all that publication shows, and return the files that it gives their names, those of the export first.

    An image that is published already has its labels, bills of materials and statement.
    """
    if plan.image.files_only:
        return _prepare_files(build, plan, backend)
    _refuse_channel(plan, backend)
    relabel(plan.image.labels, build, order, backend)
    bill = BillOfMaterials(build, plan, backend)
    files = [*bill.store()]
    stated = statement_about(build, plan, bill.digests, backend)
    signer = backend.signer
    stays = None if signer is None else partial(states_the_same, stated, signer)
    stage(statement_of(build, backend, signed=signer is not None), stated, build, backend, stays)
    archive = plan.image.export_to
    if archive is not None and build.image is not None and (build.image.archive or build.image.files):
        stem = resources.archive_stem(archive)
        contents = dict(zip(resources.sbom_names(stem), bill.texts, strict=True))
        scripts = scripts_of(build, backend.store)
        told = manifest(build, plan, bill.packages, tuple(contents), PurePosixPath(stem).name, scripts)
        contents[resources.manifest_of(archive)] = told
        exported = _exported(build, build.image, plan, backend)
        contents |= _checksums(exported, plan)
        files[:0] = [*exported.values(), *(_stage(name, data, build, backend) for name, data in contents.items())]
    return tuple(files)


def _prepare_files(build: Build, plan: Plan, backend: Backend) -> tuple[PublishedFile, ...]:
    assert build.image is not None, "it was there before the build began"
    revoked = revocation_of(plan.source, backend)
    if revoked is not None:
        raise Permanent(f"image {plan.image.name} was {revoked.text}, so that its files are not published")
    exported = _exported(build, build.image, plan, backend)
    beside = _checksums(exported, plan).items()
    return (*exported.values(), *(_stage(name, data, build, backend) for name, data in beside))


def _checksums(exported: Mapping[str, PublishedFile], plan: Plan) -> dict[str, bytes]:
    """Return the files with the checksums of others, by their names."""
    return {
        name: checksum_line(exported[known].sha256, PurePosixPath(exported[known].name).name)
        for known, name in resources.checksums(plan).items()
    }


def _exported(build: Build, image: ImageRecord, plan: Plan, backend: Backend) -> dict[str, PublishedFile]:
    """Return the files of the export, by their formats."""
    digests = {file.format: file.sha256 for file in image.files}
    if image.archive is not None:
        digests[GCE] = image.archive.sha256
    files = {}
    for known, name in resources.export_targets(plan).items():
        file = PublishedFile(name, resources.staged(name, build.id, build.rewrites), digests[known])
        there = backend.bucket.checksum(file.staged) if plan.exporter is not None else None  # else it would be read
        files[known] = file if there is None else replace(file, size=there.size, md5=there.md5)
    return files


def _stage(name: str, data: bytes, build: Build, backend: Backend) -> PublishedFile:
    staged = resources.staged(name, build.id)
    return PublishedFile(name, staged, stage(staged, data, build, backend))


def _show(build: Build, plan: Plan, order: Order, backend: Backend) -> None:
    exported = frozenset(resources.export_targets(plan).values())
    for file in build.files:
        refuse_late(order, backend)
        if not file.moved:
            _copy(file, build, backend)
        elif file.name in exported:  # proved when it was written, and not read again
            backend.bucket.publish(file.staged, file.name)
        elif not is_shown(file.name, file.sha256, backend):
            _move(file, backend)
    if plan.image.files_only:
        return
    if not plan.image.own_labels:  # from here on the store alone knows the image as ours, by its id
        relabel(plan.image.published_labels, build, order, backend)
    refuse_late(order, backend)
    _refuse_channel(plan, backend)
    backend.compute.set_family(plan.image.project, plan.image.name, plan.image.family)


def _refuse_channel(plan: Plan, backend: Backend) -> None:
    """Raise Permanent where the family has become a channel since the build was requested."""
    why = why_for_promotions_alone(plan.image.project, plan.image.family, backend)
    if why is not None:
        raise Permanent(f"output.family: {why}")


def _move(file: PublishedFile, backend: Backend) -> None:
    """Publish a file under its name."""
    try:
        staged_content(file.staged, file.sha256, backend)
    except (NotFound, Permanent):
        if is_shown(file.name, file.sha256, backend):  # by another delivery, since we have looked
            return
        raise
    backend.bucket.publish(file.staged, file.name)


def _copy(file: PublishedFile, build: Build, backend: Backend) -> None:
    """Write the bill of materials where the spec wants it, also over an older one, but not among builds' results.

    There lies what builds of all authors have written, and this function may write over all of it.
    """
    shared = resources.is_in_results(file.name, build)
    try:
        data = staged_content(file.staged, file.sha256, backend)
        backend.bucket.write_if_generation(file.name, data, "" if shared else backend.bucket.generation(file.name))
    except Transient:
        raise
    except Conflict as error:
        if shared:
            raise Permanent(f"output.sbom.to: {error}; another object is there, so name another one") from error
        raise Transient(f"output.sbom.to: {error}; it is tried again") from error
    except GoldsmithError as error:
        raise Permanent(f"output.sbom.to: {error}") from error
