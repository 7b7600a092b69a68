"""Find the image that a build starts from. It is looked up once, so that the whole plan is of one image."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..build.image.python import OLDEST, why_unfit
from ..build.plan import SourceImage
from ..errors import EnvironmentFault, InputError
from ..names import COS_PROJECT, IMAGE_PATH, LOCAL, meant
from ..ports import Compute, Image
from ..spec.model import Source
from ..spec.rules import FROM_NOTHING, ONLY_HERE, ONLY_LOCAL

# PREFIX-CHANNEL-MILESTONE-A-B-C: cos-stable-68-10718-86-0, cos-arm64-beta-117-18613-0-9. The images of long-term
# support have no channel, cos-109-17800-66-27 and cos-arm64-109-17800-66-27: they are reached by their families.
_COS_NAME = re.compile(r"cos-(?P<arm>arm64-)?(?P<channel>[a-z]+-)?(?P<milestone>\d+)-(?P<build>\d+-\d+-\d+)")
MAKER_ARCHITECTURE = "x86_64"
SHOWN_MILESTONES = 12  # the newest; a year brings some eight


def resolve_source(source: Source, compute: Compute) -> SourceImage:
    """Find the source by name, family or milestone. InputError names the key and what there is instead.

    Also for an image on which no build can run, before a VM is made to find that out.
    """
    project = source.project or COS_PROJECT  # only a milestone may leave it out, and is of that project
    if source.image is not None:
        image = compute.image(project, source.image)
        if image is None:
            raise InputError(f"source.image: project {project} has no image {source.image}{_instead(compute, source)}")
    elif source.family is not None:
        image = newest([i for i in compute.images(project, family=source.family) if i.deprecated is None])
        if image is None:
            raise InputError(_no_family(compute, project, source.family))
    elif source.milestone is not None:
        image = _newest_of_milestone(compute, project, source.milestone, source.arch or "x86_64")
    else:
        raise InputError(only_here(source))
    unfit = why_unfit(project, image.name)
    if unfit is not None:
        key = "image" if source.image is not None else "family" if source.family is not None else "milestone"
        raise InputError(
            f"source.{key}: {project}/{image.name} cannot run a build: {unfit}, and the provisioner needs Python "
            f"{OLDEST} or later; name a newer image, or one of your own that has python3"
        )
    return as_source(image)


def named_source(keys: Mapping[str, Any], compute: Compute) -> SourceImage:
    """Return the image that the keys of a source name now. InputError; ValueError for other keys."""
    return resolve_source(Source(**keys), compute)


def only_here(source: Source) -> str:
    """Return why Google Cloud cannot build from a source that is made on one machine."""
    return f"source.{next(key for key in ONLY_LOCAL if getattr(source, key) is not None)}: {ONLY_HERE}"


def is_from_nothing(source: Source) -> bool:
    """Return whether a source has files, and no disk yet."""
    return any(getattr(source, key) is not None for key in FROM_NOTHING)


def resolve_maker(path: str, compute: Compute) -> SourceImage:
    """Find the image of VMs that make roots from nothing, or write images' files, by names.IMAGE_PATH.

    EnvironmentFault without one.
    """
    match = re.fullmatch(IMAGE_PATH, path)
    assert match is not None, "the settings were held to it"
    project, family, name = match["project"], match["family"], match["name"]
    if family is not None:
        found = newest([i for i in compute.images(project, family=family) if i.deprecated is None])
    else:
        found = compute.image(project, name)
    if found is None:
        raise EnvironmentFault(f"maker_image of this deployment is {path}, which is not there; ask those who deploy it")
    if found.architecture != MAKER_ARCHITECTURE:
        raise EnvironmentFault(
            f"maker_image of this deployment, {path}, is for {found.architecture}; its VMs are for {MAKER_ARCHITECTURE}"
        )
    return as_source(found)


def in_catalogue(source: Source) -> Source:
    """Return the source as in the catalogue of one machine: images of Container-Optimized OS keep their names there.

    So a spec or workflow that names them is built on one machine as it is, once they have been imported.
    """
    return source.model_copy(update={"project": LOCAL}) if source.project == COS_PROJECT else source


def as_source(image: Image) -> SourceImage:
    """Return what a plan needs to know of the image that it starts from."""
    return SourceImage(
        project=image.project,
        name=image.name,
        id=image.id,
        family=image.family,
        architecture=image.architecture,
        disk_size_gb=image.disk_size_gb,
        labels=dict(image.labels),
        licenses=image.licenses,
        created=image.created,
    )


def newest(images: list[Image]) -> Image | None:
    """Return the image that was created last."""
    return max(images, key=lambda image: (image.created, image.name), default=None)


def _newest_of_milestone(compute: Compute, project: str, milestone: int, arch: str) -> Image:
    """Return the image whose build has the largest numbers, of whichever channel; the project may hold thousands."""
    found: dict[tuple[int, str], tuple[tuple[int, ...], str, Image]] = {}
    long_term = False
    for image in compute.images(project, prefix="cos-"):
        match = _COS_NAME.fullmatch(image.name)
        if not match or image.is_obsolete:
            continue
        of = int(match["milestone"]), "arm64" if match["arm"] else image.architecture
        if not match["channel"]:
            long_term |= of == (milestone, arch)
            continue
        one = tuple(int(number) for number in match["build"].split("-")), image.name, image
        if of not in found or one[:2] > found[of][:2]:
            found[of] = one
    if (milestone, arch) in found:
        return found[milestone, arch][2]
    others = [str(number) for number, of in sorted(found) if of == arch]
    there = f"it has {', '.join(others[-SHOWN_MILESTONES:])}" if others else "it has none with one"
    elsewhere = sorted(of for number, of in found if number == milestone)
    remedy = f"; write arch: {elsewhere[0]} for the one that is there" if elsewhere else _remedy(project)
    if long_term:
        family = f"cos-{'arm64-' if arch == 'arm64' else ''}{milestone}-lts"
        remedy = f"; those of long-term support are a family's: write family: {family}"
    raise InputError(
        f"source.milestone: project {project} has no {arch} image on milestone {milestone}; {there}{remedy}"
    )


def _instead(compute: Compute, source: Source) -> str:
    project = str(source.project)
    if compute.images(project, family=source.image):
        return f"; that is a family: write family: {source.image}"
    names = sorted(image.name for image in compute.images(project))
    near = meant(str(source.image), names)
    return near or (f"; it has {', '.join(names[:8])}" if names else "; it has no images") + _remedy(project)


def _remedy(project: str) -> str:
    return "; see: goldsmith images bootstrap, goldsmith images import" if project == LOCAL else ""


def _no_family(compute: Compute, project: str, family: str) -> str:
    families = sorted({image.family for image in compute.images(project) if image.family and not image.deprecated})
    there = f"; it has {', '.join(families[:8])}" if families else "; it has no families"
    instead = meant(family, families) or there + _remedy(project)
    return f"source.family: project {project} has no active image in family {family}{instead}"
