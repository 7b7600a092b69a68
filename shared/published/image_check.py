"""Say whether an image may be used: made and published by Goldsmith, there, and not revoked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..backend import Backend
from ..build.build import ChannelCopy, ImageDocument, Revocation
from ..errors import InputError
from ..names import BUILD_LABEL, check_name
from ..ownership import content_of, find_build, revocation_of
from ..ports import Image


@dataclass(frozen=True)
class ImageVerdict:
    """What is known of an image; it may be used if there are no problems."""

    project: str
    name: str
    exists: bool
    published: bool  # made by a build of ours that has succeeded
    verified: bool | None  # whether that build has booted it and run `verify`; None: that is not known any more
    build_id: str
    revoked: Revocation | None
    deprecated: str | None
    problems: tuple[str, ...]
    notes: tuple[str, ...]
    copy: ChannelCopy | None = None  # of which image it is a copy, and in which channel
    copies: tuple[str, ...] = ()  # the names of its own copies in channels

    @property
    def is_usable(self) -> bool:
        """Return whether it may be used."""
        return not self.problems


def check_image(project: str, name: str, backend: Backend, *, must_be_verified: bool = False) -> ImageVerdict:
    """Look an image up in its project and in the store. InputError, DamagedDocument."""
    try:
        check_name(name)
    except ValueError as error:
        raise InputError(str(error)) from error
    image = backend.compute.image(project, name)
    known = backend.store.image(project, name)
    if image is not None and known is not None and known.id != image.id:
        known = None  # of another image of that name
    revoked = None if known is None else known.revoked if image is None else revocation_of(image, backend)
    published = known is not None and known.state == "published"
    if known is None and image is not None:
        published = content_of(image, backend) is not None
    verified = _is_verified(known, image, backend) if published else False
    return ImageVerdict(
        project=project,
        name=name,
        exists=image is not None,
        published=published,
        verified=verified,
        build_id="" if known is None else known.build_id,
        revoked=revoked,
        deprecated=None if image is None else image.deprecated,
        problems=tuple(_problems(image, known, revoked, published=published, missed=must_be_verified and not verified)),
        notes=() if image is None else tuple(_notes(image, known)),
        copy=None if known is None else known.copy,
        copies=() if known is None else known.copies,
    )


def _is_verified(known: ImageDocument | None, image: Image | None, backend: Backend) -> bool | None:
    """Return what the store says of it, or the build where a release before has written what the store has."""
    if known is not None and known.verified is not None:
        return known.verified
    build_id = known.build_id if known is not None else "" if image is None else image.labels.get(BUILD_LABEL, "")
    build = find_build(build_id, backend)
    return None if build is None or build.plan is None else build.plan.verify_steps is not None


def _problems(
    image: Image | None, known: ImageDocument | None, revoked: Revocation | None, *, published: bool, missed: bool
) -> Iterator[str]:
    if revoked is not None:
        of_original = known is not None and known.copy is not None and known.revoked is None
        yield f"the image that it is a copy of was {revoked.text}" if of_original else f"it was {revoked.text}"
    if image is None:
        yield "it is not there; it has been deleted, or never was" if known is None else "it has been deleted"
    elif known is None and not published:
        yield "Goldsmith has not made it"
    elif not published:
        yield f"its build {known.build_id if known is not None else ''} has not published it"
    elif image.is_obsolete and revoked is None:
        yield f"it is {image.deprecated}, so nothing can start from it"
    if missed and published and image is not None:
        yield "it was not verified"


def _notes(image: Image, known: ImageDocument | None) -> Iterator[str]:
    if known is not None and known.copy is not None:
        yield f"it is the copy of {known.copy.of} in the channel {known.copy.channel}"
    if image.deprecated == "DEPRECATED":
        yield "it is deprecated" + (f"; use {image.replacement}" if image.replacement else "")
