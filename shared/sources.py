"""Which image a build starts from: the source that a spec names, looked up once, so that the plan is of one image."""

from __future__ import annotations

import re

from .errors import InputError
from .names import LOCAL
from .plan import SourceImage
from .ports import Compute, Image
from .spec import COS_PROJECT, Source

# cos-stable-68-10718-86-0: channel, milestone, then the build's three numbers, compared as numbers
_COS_NAME = re.compile(r"cos-(?:[a-z0-9]+-)*?(?P<milestone>\d+)-(?P<build>\d+-\d+-\d+)")


def resolve(source: Source, compute: Compute) -> SourceImage:
    """Find the source by name, family or milestone. InputError names the key and what there is instead."""
    project = source.project or COS_PROJECT  # only a milestone may leave it out, and is of that project
    if source.image is not None:
        image = compute.image(project, source.image)
        if image is None:
            raise InputError(f"source.image: project {project} has no image {source.image}{_instead(compute, project)}")
    elif source.family is not None:
        image = newest([i for i in compute.images(project, family=source.family) if i.deprecated is None])
        if image is None:
            raise InputError(_no_family(compute, project, source.family))
    elif source.milestone is not None:
        image = _newest_of_milestone(compute, project, str(source.milestone))
    else:
        raise InputError("source.file: a file can only be built from on one machine, with goldsmith build")
    return as_source(image)


def as_source(image: Image) -> SourceImage:
    """What a plan needs to know of an image that it starts from."""
    return SourceImage(
        project=image.project,
        name=image.name,
        id=image.id,
        family=image.family,
        architecture=image.architecture,
        disk_size_gb=image.disk_size_gb,
        labels=dict(image.labels),
        licenses=image.licenses,
    )


def newest(images: list[Image]) -> Image | None:
    """The image that was created last."""
    return max(images, key=lambda image: (image.created, image.name), default=None)


def _newest_of_milestone(compute: Compute, project: str, milestone: str) -> Image:
    found: list[tuple[tuple[int, ...], Image]] = []
    for image in compute.images(project, prefix="cos-"):
        match = _COS_NAME.fullmatch(image.name)
        if match and match["milestone"] == milestone and image.deprecated is None:
            found.append((tuple(int(number) for number in match["build"].split("-")), image))
    if not found:
        raise InputError(f"source.milestone: project {project} has no image on milestone {milestone}")
    return max(found, key=lambda pair: pair[0])[1]


def _instead(compute: Compute, project: str) -> str:
    names = sorted(image.name for image in compute.images(project))[:8]
    return f"; it has {', '.join(names)}" if names else "; it has no images"


def _no_family(compute: Compute, project: str, family: str) -> str:
    families = sorted({image.family for image in compute.images(project) if image.family and not image.deprecated})
    there = f"it has {', '.join(families[:8])}" if families else "it has no families"
    remedy = "; see: goldsmith images bootstrap, goldsmith images import" if project == LOCAL else ""
    return f"source.family: project {project} has no active image in family {family}; {there}{remedy}"
