"""Find out which images are ours: those whose own ids the store knows. Others can set labels, which are for people.

The release before wrote no documents of images. For its images, the build that made them is read, as long as there is
one: it has the image's id as well.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from provisioner.protocol import BUILD

from .backend import Backend
from .build.build import Build, ChannelCopy, ImageDocument, LedgerEntry, Outcome, Revocation
from .build.damage import Damaged, tell_damaged
from .build.events import ImagesDeprecated
from .build.identity import build_id, retry_request
from .build.image.channels import family_of_channel
from .build.plan import SourceImage
from .build.resources import boot_disk_name, root_disk_name
from .errors import DamagedDocument, NotFound
from .names import BUILD_LABEL
from .ports import Image

ALL_FAMILIES = "*"
SWEEP = "sweep"  # stands for the build of an image that is being deleted; ids of builds are longer


def may_retire(image: Image, backend: Backend) -> bool:
    """Return whether an image may be deprecated: one of ours, or of a family that the deployment has adopted."""
    adopted = ALL_FAMILIES in backend.adopted_families or image.family in backend.adopted_families
    return adopted or content_of(image, backend) is not None


def content_of(image: Image, backend: Backend) -> str | None:
    """Return the content digest of an image that is ours, published and not revoked; None for any other."""
    known = find_image(image.project, image.name, backend)
    if known is not None and known.id == image.id:
        fit = known.state == "published" and _revocation(known, backend) is None
        return known.content_digest if fit else None
    build = find_build(image.labels.get(BUILD_LABEL, ""), backend)
    if build is None or build.plan is None or build.image is None or build.outcome is not Outcome.SUCCEEDED:
        return None
    made = (build.image.project, build.image.name, build.image.id)
    return build.plan.content_digest if made == (image.project, image.name, image.id) else None


def why_for_promotions_alone(project: str, family: str | None, backend: Backend) -> str | None:
    """Say why promotions alone may fill a family: it is a channel of a family that has images; None for any other."""
    found = None if family is None else family_of_channel(family, backend.channels())
    if found is None or not backend.compute.images(project, family=found[0]):
        return None
    return (
        f"{family} is the channel {found[1]} of the family {found[0]}; name another family, and promote "
        f"images of {found[0]}: goldsmith images promote NAME --to {found[1]}"
    )


def is_revoked(image: Image, backend: Backend) -> bool:
    """Return whether an image of ours was revoked, or is about to be."""
    return revocation_of(image, backend) is not None


def revocation_of(image: Image | SourceImage, backend: Backend) -> Revocation | None:
    """Return what is recorded of an image's revocation; None for one that was not revoked."""
    known = find_image(image.project, image.name, backend)
    return _revocation(known, backend) if known is not None and known.id == image.id else None


def _revocation(known: ImageDocument, backend: Backend) -> Revocation | None:
    """Return the revocation of an image, or of the one that it is a copy of."""
    if known.revoked is not None or known.copy is None:
        return known.revoked
    original = find_image(known.project, known.copy.of, backend)
    return original.revoked if original is not None and original.id == known.copy.id else None


def copy_of(image: Image | SourceImage, backend: Backend) -> ChannelCopy | None:
    """Return what a promotion has recorded of an image; None for one that is no copy."""
    known = find_image(image.project, image.name, backend)
    return known.copy if known is not None and known.id == image.id else None


def is_built_from(image: SourceImage, ids: Collection[str], backend: Backend) -> bool:
    """Return whether an image of ours was built from one of some images, directly or not, as far as is known."""
    seen: set[str] = set()
    while image.id not in seen:
        seen.add(image.id)
        known = find_image(image.project, image.name, backend)
        if known is None or known.id != image.id:
            return False
        if known.source_id in ids:
            return True
        build = find_build(known.build_id, backend)
        if build is None or build.plan is None:
            return False
        image = build.plan.source
    return False


def is_good(image: Image, backend: Backend) -> bool:
    """Return whether a family may lead to an image: one of ours, published, and neither revoked nor deprecated.

    Unless Goldsmith itself has deprecated it, for a newer one. What a person has deprecated stays so.
    """
    if image.deprecated is not None and not _was_replaced(image, backend):
        return False
    return content_of(image, backend) is not None


def newest_good(
    images: Sequence[Image], backend: Backend, among: Callable[[Image], bool] = lambda _: True
) -> Image | None:
    """Return the newest image that a family may lead to, among some."""
    newest_first = sorted(images, key=lambda image: (image.created, image.name), reverse=True)
    return next((image for image in newest_first if among(image) and is_good(image, backend)), None)


def _was_replaced(image: Image, backend: Backend) -> bool:
    """Return whether a build has deprecated an image, in favour of the one that it has made.

    Its own document says so, also when the newer image is gone. For what earlier releases have deprecated, the document
    of the newer one does. That was not written there by a build that is still at it, or has given it up, and by still
    earlier releases: the build's events, and its state, say so.
    """
    if image.deprecated != "DEPRECATED" or not image.replacement:
        return False
    known = find_image(image.project, image.name, backend)
    if known is not None and known.id == image.id and known.replaced_by == image.replacement:
        return True
    other = find_image(image.project, image.replacement, backend)
    if other is None:
        return False
    if image.name in other.replaced:
        return True
    build = find_build(other.build_id, backend)
    if build is None:
        return False
    facts = backend.store.events(build.id, kinds=("ImagesDeprecated",))
    at_it = build.retiring or build.retired_in_part
    return at_it or any(isinstance(fact, ImagesDeprecated) and image.name in fact.names for fact in facts)


def is_made_by(image: Image, build: Build, backend: Backend) -> bool:
    """Return whether a build has made, or has taken up, an image that is found under a name of its own."""
    known = find_image(image.project, image.name, backend)
    if known is not None and known.id == image.id:
        return known.build_id == build.id
    disks = [None, boot_disk_name(build.id, 1, BUILD) if build.disk is None else build.disk.name]
    if build.plan is not None and build.plan.origin is not None:  # a verifying VM may have begun a later attempt since
        disks += [root_disk_name(build.id, attempt) for attempt in range(1, build.attempt + 1)]
    return image.labels.get(BUILD_LABEL) == build.id and image.source_disk in disks


def is_left_to(image: Image, build: Build, backend: Backend) -> bool:
    """Return whether an image was made by an earlier build, which did not publish it, and is this build's to delete."""
    maker = find_build(image.labels.get(BUILD_LABEL, ""), backend)
    known = find_image(image.project, image.name, backend)
    ours = known is not None and known.build_id == build.id
    return ours and maker is not None and bool(maker.kept_until and maker.image and maker.image.id == image.id)


def is_taken_over(build: Build, backend: Backend) -> bool:
    """Return whether another build has taken over the image of a build, and may show the same files as it did."""
    image = build.image
    if build.plan is not None and build.plan.image.files_only:  # of an image that was never its own
        return False
    known = find_image(image.project, image.name, backend) if image is not None else None
    return known is not None and image is not None and known.id == image.id and known.build_id not in (build.id, SWEEP)


def is_disk_of_retry(entry: LedgerEntry, build: Build, backend: Backend) -> bool:
    """Return whether a retry of a build has taken over a disk of its ledger, and deletes it. DamagedDocument."""
    return entry.kind == "disk" and build.disk_until > 0 and disk_owner(entry.name, build, backend).id != build.id


def disk_owner(name: str, build: Build, backend: Backend) -> Build:
    """Return the last of the retries of a build that have taken over its boot disk, or the build. DamagedDocument."""
    while build.disk_until:
        retry = known_build(build_id(build.name, retry_request(build.id, build.request)), backend)
        if retry is None or retry.retry_of != build.id or retry.disk is None or retry.disk.name != name:
            return build
        build = retry
    return build


def find_image(project: str, name: str, backend: Backend) -> ImageDocument | None:
    """Return what the store knows of an image; None when that is nothing, or cannot be read, which is logged."""
    try:
        return backend.store.image(project, name)
    except DamagedDocument as error:
        tell_damaged(Damaged(f"{project}/{name}", str(error)))
        return None


def find_build(build_id: str, backend: Backend) -> Build | None:
    """Return a build, or None when there is none, or none that can be read."""
    try:
        return known_build(build_id, backend)
    except DamagedDocument:
        return None


def known_build(build_id: str, backend: Backend) -> Build | None:
    """Return a build, or None when there is none. DamagedDocument for one that cannot be read: it may be at work."""
    if not build_id:
        return None
    try:
        return backend.store.load(build_id).build
    except NotFound:
        return None
