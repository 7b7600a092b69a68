"""Retire images by rule: make those OBSOLETE that nothing uses, and delete them at a second look, a day later.

    record: begun ── OBSOLETE ── record: since when ── a day ── look again ── record: deleting ── delete ── forget it
      └──────── again, after a kill ───┘                            └─────────── again, after a kill ──────┘

Each record is a conditional write: a revocation, or another run, wins or loses as a whole. All that uses images is
listed anew in each run, before the first image is touched. What cannot be listed keeps every image. Images are seen
page by page: what is held of all of them is their families' newest, and the names of those that are used.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from heapq import heappush, heappushpop

from ..backend import Backend
from ..build.build import Build, ImageDocument, Retirement
from ..build.damage import Damaged
from ..build.image.retire_rules import RetireRule
from ..errors import GoldsmithError
from ..image_users import ImageUsers
from ..names import SOURCE_LABEL, as_label_value
from ..ownership import is_good
from ..ports import Image
from .retire_verdict import RetireFacts, RetireVerdict, not_ours, retire_verdict

LOG = logging.getLogger(__name__)

PORTION = 500  # images that are looked at, and acted on, at once

_Age = tuple[float, str]
_Found = tuple[RetireVerdict, Image, ImageDocument | None]


@dataclass(frozen=True)
class Retiring:
    """What is retired, and where it may be in use."""

    project: str
    rules: Mapping[str, RetireRule]  # by family
    consumers: Sequence[str]  # projects whose disks and templates may be of these images
    users: ImageUsers
    at_once: int = 1  # images that are acted on at the same time


@dataclass(frozen=True)
class RetireDone:
    """What was done with an image: what was to be, unless there is a fault."""

    verdict: RetireVerdict
    fault: str = ""


@dataclass
class _Top:
    """The images that a family needs."""

    newest: _Age = (0.0, "")
    leads_to: _Age = (0.0, "")
    good: list[tuple[float, str, str]] = field(default_factory=list)
    """A heap of the newest that the family may lead to, each with the image that it was deprecated for, or ""."""

    def reason(self, image: Image) -> str:
        age = (image.created, image.name)
        if age == self.leads_to:
            return "its family leads to it"
        if age == self.newest:
            return "it is the newest of its family"
        if age > self.newest:  # all that the family needs is told without it
            return "it was published while this run looked at its family"
        for created, name, replacement in self.good:
            if age == (created, name):
                return f"it is among the {len(self.good)} newest good ones of its family"
            if replacement == image.name:  # its record shows that Goldsmith, and no person, has deprecated that one
                return f"image {name}, among the newest good ones of its family, was deprecated for it"
        return ""


@dataclass
class _Survey:
    """What is known of all images together."""

    tops: dict[str, _Top] = field(default_factory=dict)
    used: dict[str, str] = field(default_factory=dict)  # what uses an image, by its id, or its name where that is told
    told: dict[str, str] = field(default_factory=dict)  # images that were made from one, by the label of its name
    blind: str = ""

    def user(self, image: Image) -> str:
        label = as_label_value(image.name)
        return self.used.get(image.id) or self.used.get(image.name) or self.told.get(label, "")


def plan_retirement(retiring: Retiring, backend: Backend) -> Iterator[RetireVerdict]:
    """Say what is to be done with each image of the families. Nothing is changed. GoldsmithError."""
    survey = _survey(retiring, backend)
    for portion in _portions(retiring, backend):
        yield from (verdict for verdict, _image, _known in _verdicts(portion, survey, retiring, backend))


def retire_images(retiring: Retiring, backend: Backend, until: float) -> Iterator[RetireDone]:
    """Do what is to be done with each image of the families, and tell it; nothing more is begun after `until`.

    GoldsmithError where the images, or what the store has of them, cannot be listed.
    """
    _forget_deleted(retiring.project, backend)
    survey = _survey(retiring, backend)
    with ThreadPoolExecutor(retiring.at_once, thread_name_prefix="retire") as pool:
        together = map if retiring.at_once == 1 else pool.map
        for portion in _portions(retiring, backend):
            found = list(_verdicts(portion, survey, retiring, backend))
            yield from together(lambda each: _act(each, survey, backend, until), found)


def _act(found: _Found, survey: _Survey, backend: Backend, until: float) -> RetireDone:
    verdict, image, known = found
    acting = verdict.action in ("obsolete", "delete")
    if known is None or (acting and backend.clock.now() >= until):
        return RetireDone(verdict, "there was no time for it; the next run goes on" if acting else "")
    try:
        if verdict.action == "obsolete":
            fault = _make_obsolete(image, known, survey.tops[verdict.family].leads_to[1], backend)
        elif verdict.action == "delete":
            fault = _delete(image, known, backend)
        else:
            fault = _note_left(image, known, backend)
    except GoldsmithError as error:  # of any kind: the other images must not wait for it
        fault = str(error)
    if fault:
        LOG.warning("image %s of project %s is not retired: %s", image.name, image.project, fault)
    return RetireDone(verdict, fault)


def _make_obsolete(image: Image, known: ImageDocument, active: str, backend: Backend) -> str:
    """Record that an image is to be OBSOLETE, make it so, record since when. Return why not, or ""."""
    begun = known.retired or Retirement(backend.clock.now())
    ours = replace(known, retired=begun)
    if known.retired is None and not backend.store.save_image(ours, known):
        return "what is known of it was changed by others meanwhile; the next run looks at it again"
    if not image.is_obsolete:
        backend.compute.obsolete_image(image, active)
    seen = backend.compute.image(image.project, image.name)
    if seen is None or seen.id != image.id or not seen.is_obsolete:
        return "it was changed by others meanwhile; the next run looks at it again"
    done = replace(ours, retired=replace(begun, obsolete=backend.clock.now()))
    if not backend.store.save_image(done, ours):
        return "what is known of it was changed by others meanwhile; the next run goes on"
    LOG.info("image %s of project %s is OBSOLETE, and deleted in a day at the earliest", image.name, image.project)
    return ""


def _delete(image: Image, known: ImageDocument, backend: Backend) -> str:
    """Record that an image is deleted, look once more, delete it, forget it. Return why not, or ""."""
    assert known.retired is not None
    ours = replace(known, retired=replace(known.retired, deleting=True))
    if known != ours and not backend.store.save_image(ours, known):
        return "what is known of it was changed by others meanwhile; the next run looks at it again"
    seen = backend.compute.image(image.project, image.name)
    if seen is not None and seen.id == image.id:
        if not seen.is_obsolete:
            return "it was made active again meanwhile; it stays"
        backend.compute.delete("image", image.name, image.project, "", image_id=image.id)
    LOG.info("image %s of project %s is deleted by rule", image.name, image.project)
    _forget(ours, backend)
    return ""


def _note_left(image: Image, known: ImageDocument, backend: Backend) -> str:
    """Record that a person has made an image active again, so that it stays whatever its mark becomes."""
    retired = known.retired
    if retired is not None and retired.obsolete and not retired.left and not image.is_obsolete:
        backend.store.save_image(replace(known, retired=replace(retired, left=True, deleting=False)), known)
    return ""


def _forget_deleted(project: str, backend: Backend) -> None:
    """Forget the images that a run has deleted which was killed then."""
    for known in backend.store.image_documents(project):
        if isinstance(known, Damaged) or known.retired is None or not known.retired.deleting:
            continue
        image = backend.compute.image(project, known.name)
        if image is None or image.id != known.id:
            _forget(known, backend)


def _forget(known: ImageDocument, backend: Backend) -> None:
    backend.store.save_image(replace(known, state="gone", until=0.0), known)  # else others have written: the next run


def _survey(retiring: Retiring, backend: Backend) -> _Survey:
    survey = _Survey({family: _Top() for family in retiring.rules})
    for build in backend.store.builds(unfinished=True):
        if not isinstance(build, Build):
            survey.blind = f"build {build.id} cannot be read, and may start from it"
        elif build.plan is not None:
            sources = [build.plan.source, *([build.plan.origin.maker] if build.plan.origin is not None else [])]
            used = [source.id for source in sources if source.project == retiring.project]
            survey.used.update(dict.fromkeys(used, f"build {build.id}"))
    _note_images(retiring, survey, backend)
    for consumer in retiring.consumers:
        try:
            for use in retiring.users.uses(consumer, retiring.project):
                survey.used.setdefault(use.image_id or use.image, use.user)
        except GoldsmithError as error:
            survey.blind = f"project {consumer} cannot be read, and may use it: {error}"
            LOG.warning("no image is retired: project %s cannot be read: %s", consumer, error)
    return survey


def _note_lineage(image: Image, known: ImageDocument | Damaged | None, survey: _Survey) -> None:
    """Note what an image was made from, unless it is about to be deleted itself."""
    if isinstance(known, Damaged):
        survey.blind = f"what is known of image {image.name} cannot be read, and it may be made from it"
        return
    if known is None or known.id != image.id or not known.source_id:  # of a release before, or not ours
        if told := image.labels.get(SOURCE_LABEL):
            survey.told[told] = f"image {image.name}, whose label says that it was made from it"
        return
    going = image.is_obsolete and known.retired is not None and known.retired.obsolete and not known.retired.left
    if not going:
        survey.used[known.source_id] = f"image {image.name}, which was made from it"


def _note_images(retiring: Retiring, survey: _Survey, backend: Backend) -> None:
    """Note what each family needs, and what the images of the project were made from."""
    for portion in _ahead(_pages(backend.compute.every_image(retiring.project))):
        known = backend.store.known_images(retiring.project, [image.name for image in portion])
        for image in sorted(portion, key=lambda each: (each.created, each.name), reverse=True):
            ours = known.get(image.name)
            _note_lineage(image, ours, survey)
            family = image.family or ""
            if family in retiring.rules:
                is_ours = isinstance(ours, ImageDocument) and ours.id == image.id
                _note_top(image, survey.tops[family], retiring.rules[family].keep if is_ours else 0, backend)


def _note_top(image: Image, top: _Top, keep: int, backend: Backend) -> None:
    age = (image.created, image.name)
    top.newest = max(top.newest, age)
    if image.deprecated is None:
        top.leads_to = max(top.leads_to, age)
    if (len(top.good) < keep or (keep and age > top.good[0][:2])) and not image.is_obsolete and is_good(image, backend):
        (heappush if len(top.good) < keep else heappushpop)(
            top.good, (*age, image.replacement if image.deprecated and image.replacement else "")
        )


def _ahead(portions: Iterator[list[Image]]) -> Iterator[list[Image]]:
    """Yield portions, of which the next one is listed while the caller is at one."""
    with ThreadPoolExecutor(1, thread_name_prefix="list") as pool:
        following = pool.submit(next, portions, None)
        while (portion := following.result()) is not None:
            following = pool.submit(next, portions, None)
            yield portion


def _portions(retiring: Retiring, backend: Backend) -> Iterator[list[Image]]:
    wanted = (image for image in backend.compute.every_image(retiring.project) if image.family in retiring.rules)
    return _ahead(_pages(wanted))


def _pages(images: Iterator[Image]) -> Iterator[list[Image]]:
    portion: list[Image] = []
    for image in images:
        portion.append(image)
        if len(portion) == PORTION:
            yield portion
            portion = []
    if portion:
        yield portion


def _verdicts(portion: Sequence[Image], survey: _Survey, retiring: Retiring, backend: Backend) -> Iterator[_Found]:
    """Return the verdict on each image, and what is known of those that are ours."""
    known = backend.store.known_images(retiring.project, [image.name for image in portion])
    for image in portion:
        family = image.family or ""
        facts = RetireFacts(
            project=image.project,
            name=image.name,
            id=image.id,
            family=family,
            created=image.created,
            is_obsolete=image.is_obsolete,
            known=known.get(image.name),
            top=survey.tops[family].reason(image),
            used=survey.user(image) or _copy_of(known.get(image.name), backend),
            blind=survey.blind,
        )
        verdict = retire_verdict(facts, retiring.rules[family], backend.clock.now())
        ours = facts.known
        yield verdict, image, ours if isinstance(ours, ImageDocument) and not not_ours(facts) else None


def _copy_of(known: ImageDocument | Damaged | None, backend: Backend) -> str:
    """Return a copy of an image in a channel, made or being made; "" for an image without one."""
    if not isinstance(known, ImageDocument) or not known.copies:
        return ""
    copies = backend.store.known_images(known.project, known.copies)
    return next((f"image {name}, its copy in a channel" for name in sorted(copies)), "")
