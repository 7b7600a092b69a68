"""Which specs are built again when an image is revoked, and the documents that ask for these builds.

    descendants ── one spec each ── triggers/ID with a cascade ── expire_builds: its source leads to a good one ── build

A document's id is of the revoked image and the spec, so it is asked for once, however often the image is revoked. The
descendants themselves are not revoked: whether they have the fault, only their authors know.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from ..backend import Backend
from ..build.build import Build, ImageDocument
from ..build.damage import Damaged, tell_damaged
from ..build.plan import SpecPlace
from ..build.trigger import Cascade, Trigger, request_key, trigger_id
from ..ownership import find_build
from ..ports import Image
from .revocation import RevokedImage

MOST_REBUILDS = 100  # builds that revocations ask for and that have not begun, of a deployment
MOST_BAD = 1000  # images that one build may not start from: their ids are in its document
WAIT_SECONDS = 7 * 86_400.0  # for which a build waits until its source leads to a good image


@dataclass(frozen=True)
class Rebuild:
    """What is done about one image that was built from a revoked one."""

    image: str
    name: str = ""  # of the spec
    place: SpecPlace | None = None  # of the spec that is built again; None: none is
    why: str = ""  # why none is
    bad: tuple[str, ...] = ()  # the ids of the images that it may not be built from
    author: str = ""  # of the spec as it was read for that image

    @property
    def key(self) -> str:
        """Return what tells specs: one that has made several images is built once."""
        return "" if self.place is None else request_key(self.place.uri, self.place.parameters)


def find_rebuilds(revoked: RevokedImage, backend: Backend) -> tuple[Rebuild, ...]:
    """Say of each image that was built from a revoked one by which spec it is built again, or why it is not."""
    images = {each.name: each for each in backend.compute.images(revoked.project)}
    own = [images[name] for name in (revoked.name, *(copy.name for copy in revoked.copies)) if name in images]
    descendants = [images[name] for name in revoked.descendants if name in images]
    bad = tuple(each.id for each in (*own, *descendants))
    leads_to = _newest_by_family(images.values())
    known = backend.store.known_images(revoked.project, [each.name for each in descendants])
    return tuple(
        _rebuild(each, _document_of(each, known), leads_to.get(each.family or ""), bad, backend) for each in descendants
    )


def _document_of(image: Image, known: Mapping[str, ImageDocument | Damaged]) -> ImageDocument | None:
    """Return what is known of an image; None, logged, for what cannot be read."""
    document = known.get(image.name)
    if isinstance(document, Damaged):
        tell_damaged(document)
        return None
    return document


def _newest_by_family(images: Collection[Image]) -> Mapping[str, Image]:
    oldest_first = sorted(images, key=lambda each: (each.created, each.name))
    return {each.family: each for each in oldest_first if each.family is not None and each.deprecated is None}


def _rebuild(
    image: Image, known: ImageDocument | None, leads_to: Image | None, bad: tuple[str, ...], backend: Backend
) -> Rebuild:
    """`leads_to` is the image that the family of this one leads to."""
    if known is not None and known.id == image.id and known.copy is not None:
        return Rebuild(image.name, why=f"it is the copy of {known.copy.of} in a channel; promote what is built instead")
    if leads_to is not None and leads_to.id not in bad:
        return Rebuild(image.name, why=f"family {image.family} leads to {leads_to.name}, which was not built from it")
    build = find_build(known.build_id, backend) if known is not None else None
    place = build.plan.read_from if build is not None and build.plan is not None else None
    if build is None or build.plan is None or place is None:
        return Rebuild(image.name, why=_unknown(build))
    if "image" in place.source or not place.source:
        return Rebuild(image.name, why=f"{place.uri} names the image that it starts from; change that, and build it")
    if len(bad) > MOST_BAD:
        return Rebuild(image.name, why=f"more than {MOST_BAD} images were built from it; build {place.uri} again")
    return Rebuild(image.name, build.plan.name, place, bad=bad, author=build.plan.author)


def _unknown(build: Build | None) -> str:
    if build is None or build.plan is None:
        return "what is known of its build is gone; build its spec again"
    if build.workflow is not None:
        return f"it is one of several images of {build.workflow.uri}; upload that again"
    return "where its spec lies is not known; build that again"


def ask_for_rebuilds(revoked: RevokedImage, backend: Backend) -> RevokedImage:
    """Have the specs of all that was built from an image built again, each once; return what is told of it."""
    waiting = sum(isinstance(each, Trigger) and each.cascade is not None for each in backend.store.triggers())
    documents: dict[str, Trigger] = {}
    rebuilds = []
    for each in find_rebuilds(revoked, backend):
        told = each
        if each.place is not None and each.key not in documents:
            wanted = _document(revoked, each, each.place, backend.clock.now())
            if waiting >= MOST_REBUILDS and backend.store.trigger(wanted.id) is None:
                told = replace(each, place=None, why=f"{waiting} builds wait for revocations; ask again after these")
            else:
                documents[each.key] = wanted
                waiting += backend.store.save_trigger(wanted, None)
        rebuilds.append(told)
    return with_rebuilds(revoked, rebuilds)


def with_rebuilds(revoked: RevokedImage, rebuilds: Collection[Rebuild]) -> RevokedImage:
    """Return what came of a revocation, with the specs that are built again, and the images that are not."""
    specs = dict.fromkeys(each.place.uri for each in rebuilds if each.place is not None)
    left = tuple(f"{each.image}: {each.why}" for each in rebuilds if each.why)
    return replace(revoked, rebuilt=tuple(specs), not_rebuilt=left)


def _document(revoked: RevokedImage, rebuild: Rebuild, place: SpecPlace, now: float) -> Trigger:
    image = f"{revoked.project}/{revoked.name}"
    return Trigger(
        id=trigger_id(f"revoked {image} {revoked.time:.0f} {rebuild.key}"),
        spec=place.uri,
        name=rebuild.name,
        text="",
        digest="",
        accepted=now,
        parameters=place.parameters,
        packed=place.packed,
        author=rebuild.author,
        generation=place.generation,
        source=place.source,
        source_changed=True,
        cascade=Cascade(image, rebuild.bad, now + WAIT_SECONDS),
    )
