"""Take back what a failed publication may have shown, and date an image that waits for a new build."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from ..backend import Backend
from ..build import resources
from ..build.build import Build, Outcome, PublishedFile
from ..build.plan import Plan
from ..errors import GoldsmithError, Permanent, Transient
from ..export_ports import ObjectSum
from ..names import DIGEST_LABEL, EXPIRES_LABEL, VERIFY_LABEL
from ..ownership import is_made_by, is_taken_over
from .logs import log_folder

LOG = logging.getLogger(__name__)

NOT_PUBLISHED = (Outcome.FAILED, Outcome.TIMED_OUT, Outcome.CANCELLED)


@dataclass(frozen=True)
class Withdrawal:
    """The parts of a publication that could not be taken back as intended."""

    left: tuple[str, ...] = ()  # files that may not be deleted, each with why
    lost: str = ""  # why the image that was to be kept is not there any more


def withdraw(build: Build, backend: Backend, *, may_delete: bool = False) -> Withdrawal:
    """Ensure that others see nothing of a build that has not succeeded. Transient, Permanent.

    Files are ours by their content: another one of the name stays. The image leaves its family; it stays itself where
    the build keeps it, and carries then when it is to be deleted. One that stays in its family all the same is deleted
    where `may_delete`, and Permanent else.
    """
    plan = build.plan
    if plan is None or build.image is None or build.outcome not in NOT_PUBLISHED:
        return Withdrawal()
    files_only = plan.image.files_only
    lost = "" if files_only else _withdraw_image(build, plan, backend, may_delete)  # first: others build from it
    files = {file.name: file for file in build.files}
    archive, name = build.image.archive, plan.image.export_to
    if name and archive and name not in files:  # the release before named it without a commit
        files[name] = PublishedFile(name, name, archive.sha256)
    left = [_take_back(file, build, backend) for file in files.values()]
    stem = resources.results_stem(build, log_folder(backend, build.id))
    stated = [resources.statement_name(stem, signed=signed) for signed in (True, False)]  # a key may be new
    for name in (*resources.sbom_names(stem), *stated):
        backend.bucket.delete(name)
    return Withdrawal(tuple(filter(None, left)), lost)


def _withdraw_image(build: Build, plan: Plan, backend: Backend, may_delete: bool) -> str:
    """Return why the image that was to be kept is not there any more; "" where it is, or was to be deleted."""
    image = backend.compute.image(plan.image.project, plan.image.name)
    if image is None:
        return f"image {plan.image.name}, which was to be kept, is gone" if build.kept_until else ""
    if not is_made_by(image, build, backend):
        return ""  # taken up by another build since
    if image.family is not None:
        try:
            backend.compute.set_family(image.project, image.name, None)
        except Permanent as error:
            if not may_delete:
                raise
            LOG.warning("build %s: image %s is deleted, since it stays in its family: %s", build.id, image.name, error)
            backend.compute.delete("image", image.name, image.project, "", image_id=image.id)
            return f"image {image.name} could not leave its family, and was deleted: {error}"
    if build.kept_until:
        labels = {**plan.image.labels, EXPIRES_LABEL: str(int(build.kept_until))}
        if build.unfit:  # in the place of the digest: there may be no room for one label more
            labels.pop(DIGEST_LABEL, None)
            labels[VERIFY_LABEL] = "failed"
        backend.compute.label_image(image, labels)
    return ""


def _take_back(file: PublishedFile, build: Build, backend: Backend) -> str:
    """Delete a file, unless it may be that of a retry; return why it stays, where that is forbidden for good."""
    if is_taken_over(build, backend):
        return ""
    try:
        known = ObjectSum(file.size, file.md5) if file.md5 else None
        backend.bucket.withdraw(file.name, file.sha256, known)
    except Transient:
        raise
    except GoldsmithError as error:
        LOG.warning("build %s: %s stays, of an image that is not published: %s", build.id, file.name, error)
        return f"{file.name}: {error}"
    return ""
