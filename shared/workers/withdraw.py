"""Takes back what a publication that came to nothing may have shown, and dates an image that waits for a new build."""

from __future__ import annotations

import logging

from .. import resources
from ..build import Build, Outcome
from ..errors import GoldsmithError, Transient
from ..factory import Factory
from ..names import EXPIRES_LABEL
from ..ownership import is_made_by
from ..plan import Plan
from .logs import log_folder

LOG = logging.getLogger(__name__)

NOT_PUBLISHED = (Outcome.FAILED, Outcome.TIMED_OUT, Outcome.CANCELLED)


def withdraw(build: Build, factory: Factory) -> None:
    """Ensure that others see nothing of a build that has not succeeded. Transient, Permanent.

    Files are ours by their content: another one of the name stays. The image leaves its family; it stays itself where
    the build keeps it, and carries then when it is to be deleted.
    """
    plan = build.plan
    if plan is None or build.image is None or build.outcome not in NOT_PUBLISHED:
        return
    _withdraw_image(build, plan, factory)  # first, since it is what others build from
    files = {file.name: file.sha256 for file in build.files}
    if plan.image.export_to and build.image.archive:  # also where the release before named it without a commit
        files[plan.image.export_to] = build.image.archive.sha256
    for name, sha256 in files.items():
        _take_back(name, sha256, build, factory)
    for name in resources.sbom_names(resources.results_stem(build, log_folder(factory, build.id))):
        factory.bucket.delete(name)


def _withdraw_image(build: Build, plan: Plan, factory: Factory) -> None:
    image = factory.compute.image(plan.image.project, plan.image.name)
    if image is None or not is_made_by(image, build, factory):
        return  # deleted, or taken up by another build since
    if image.family is not None:
        factory.compute.set_family(image.project, image.name, None)
    if build.kept_until:
        labels = {**plan.image.labels, EXPIRES_LABEL: str(int(build.kept_until))}
        factory.compute.label_image(image.project, image.name, labels)


def _take_back(name: str, sha256: str, build: Build, factory: Factory) -> None:
    """Delete a file; where that is forbidden for good, in somebody's own bucket, it is told instead."""
    try:
        factory.bucket.withdraw(name, sha256)
    except Transient:
        raise
    except GoldsmithError as error:
        LOG.warning("build %s: %s stays, of an image that is not published: %s", build.id, name, error)
